"""Verdict: what the figures of a Run say, in sentences that follow from them and from nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from modelworks.metrics.direction import higher_is_better
from modelworks.report.curves import history
from modelworks.report.folder import Files, figure, items, table, tables
from modelworks.report.words import interval, metric_name, number, percent, plural

JUDGED = ("test", "valid", "train")
"""The split that counts: the first of these that was evaluated."""
_LINES = 80
"""Lines of the account of cleaning that are shown."""


def main_split(evaluation: Mapping[str, Any]) -> str:
    """The split by which the model is judged; "" when nothing was evaluated."""
    splits = table(evaluation.get("splits"))
    return next((split for split in [*JUDGED, *splits] if table(splits.get(split))), "")


def primary_of(evaluation: Mapping[str, Any]) -> str:
    """The primary metric's name, or the first there is."""
    metrics = table(table(evaluation.get("splits")).get(main_split(evaluation)))
    named = str(evaluation.get("primary") or "").rsplit("/", 1)[-1]
    return (
        named
        if named in metrics
        else next((name for name in metrics if name != "loss"), next(iter(metrics), named))
    )


def headline(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """{"metric", "split", "value", "interval", "baseline"} of the metric that counts."""
    split, metric = main_split(evaluation), primary_of(evaluation)
    entry = table(table(table(evaluation.get("splits")).get(split)).get(metric))
    base = table(table(table(evaluation.get("baseline")).get(split)).get(metric))
    return {
        "metric": metric,
        "split": split,
        "value": figure(entry.get("value")),
        "low": figure(entry.get("low")),
        "high": figure(entry.get("high")),
        "interval": interval({name: figure(entry.get(name)) for name in ("low", "high")}),
        "baseline": figure(base.get("value")),
    }


def sentences(files: Files, audit: Mapping[str, Any]) -> list[dict[str, str]]:
    """[{"tone": good|warning|error|"", "text"}]."""
    judged = files.evaluation or not files.samples  # a generative Run is judged by its samples
    found = [*_between_splits(files.evaluation), *_overfitting(files), *_unstable(files)]
    if judged:
        found.insert(0, _against_baseline(files.evaluation))
    grave = [f for f in tables(audit.get("findings")) if f.get("severity") == "error"]
    if grave:
        codes = {str(f.get("code")) for f in grave}
        doubt = " The figures here may be too good." if codes & {"duplicates_across_splits", "leak"} else ""
        first = " ".join(str(grave[0].get(key) or "") for key in ("column", "message")).strip()
        found.append(_say("error", f"The data audit found {plural(len(grave), 'error')}: {first}.{doubt}"))
    return found


def _say(tone: str, text: str) -> dict[str, str]:
    return {"tone": tone, "text": text}


def _against_baseline(evaluation: Mapping[str, Any]) -> dict[str, str]:
    head = headline(evaluation)
    value, base, metric = head["value"], head["baseline"], head["metric"]
    if value is None:
        return _say("warning", "The model has not been evaluated.")
    told = f"On the {head['split']} split {metric_name(metric)} is {number(value)}"
    told += f" (95 % interval {head['interval']})" if head["interval"] else ""
    if base is None:
        return _say("", f"{told}.")
    told += f"; the trivial baseline, which never looks at the inputs, has {number(base)}"
    higher = higher_is_better(metric)
    worst = head["low"] if higher else head["high"]
    worst = value if worst is None else worst
    if (worst > base) if higher else (worst < base):
        if not higher and base > 0 and value >= 0:
            told += f": {percent(base - value, base)} less"
        elif higher and metric in ("accuracy", "balanced_accuracy") and base < 1:
            told += f": {percent(value - base, 1 - base)} of its mistakes are gone"
        return _say("good", f"{told}.")
    if (value > base) if higher else (value < base):
        return _say("warning", f"{told}. The interval includes that: a real advantage is not shown.")
    return _say("error", f"{told}. The model is not better than that.")


def _between_splits(evaluation: Mapping[str, Any]) -> list[dict[str, str]]:
    """Whether training rows are answered better than new ones."""
    metric, split = primary_of(evaluation), main_split(evaluation)
    splits = table(evaluation.get("splits"))
    train, held = (table(table(splits.get(name)).get(metric)) for name in ("train", split))
    seen, new, low, high = map(figure, (train.get("value"), *(held.get(k) for k in ("value", "low", "high"))))
    if split == "train" or seen is None or new is None or low is None or high is None or low <= seen <= high:
        return []
    if (seen > new) != higher_is_better(metric):
        return []
    told = f"On its own training rows {metric_name(metric)} is {number(seen)}, outside the {split} interval"
    return [_say("", f"{told}: it has learned some of them by heart.")]


def _overfitting(files: Files) -> list[dict[str, str]]:
    """Whether validation loss was still falling, or had risen since its best."""
    steps, losses = history(files.log).get("loss", {}).get("valid", ([], []))
    if len(losses) < 4 or min(losses) <= 0:
        return []
    best, last = min(range(len(losses)), key=lambda i: losses[i]), losses[-1]
    if last > 1.1 * losses[best]:
        told = f"Validation loss was lowest at step {steps[best]:,.0f} ({number(losses[best])}) and rose to "
        told += f"{number(last)} afterwards: the model began to overfit."
        kept = str(files.part("train").get("choose") or "best") == "best"
        return [_say("", told + (" The weights of the best validation were kept." if kept else ""))]
    if best >= len(losses) - 2 and losses[len(losses) * 3 // 4] > 1.03 * last:
        return [_say("", "Validation loss was still falling at the end: longer training is likely to help.")]
    return []


def _unstable(files: Files) -> list[dict[str, str]]:
    """Whether training loss ended well above its best, by medians of tenths: single batches are noisy."""
    _, losses = history(files.log).get("loss", {}).get("train", ([], []))
    if len(losses) < 50 or min(losses) <= 0:
        return []
    length = len(losses) // 10
    levels = [median(losses[start : start + length]) for start in range(0, length * 10, length)]
    if levels[-1] <= 1.5 * min(levels):
        return []
    told = f"Training loss ended around {number(levels[-1])}, well above its lowest level of {number(min(levels))}"
    return [_say("warning", f"{told}: training was not stable.")]


def rows_by_split(data: Mapping[str, Any]) -> dict[str, float]:
    """Rows used, by split: after cleaning and quarantine where that was recorded."""
    rows = table(table(data.get("cleaning")).get("rows")) or table(audit_of(data).get("splits"))
    found = {name: figure(count) for name, count in rows.items() if name != "drop"}
    return {name: count for name, count in found.items() if count is not None}


def cleaning_lines(data: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Every count of `cleaning` as (what, how many): `changed · age · missing → median`, 177."""
    found: list[tuple[str, Any]] = []

    def walk(value: Any, path: list[str]) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                walk(inner, [*path, str(key).replace("_", " ")])
        elif isinstance(value, list):
            if value and all(isinstance(item, str) for item in value):
                found.append((" · ".join(path), "; ".join(value[:5])))
        elif isinstance(value, str) or figure(value) is not None:
            found.append((" · ".join(path), value))

    cleaning = {key: value for key, value in table(data.get("cleaning")).items() if key != "rows"}
    if isinstance(cleaning.get("split"), Mapping):  # rows by split are told above
        cleaning["split"] = {key: value for key, value in cleaning["split"].items() if key != "rows"}
    walk(cleaning, [])
    return [(what, value) for what, value in found if value not in (0, "")][:_LINES]


def listed_changes(data: Mapping[str, Any]) -> list[dict[str, str]]:
    """The first values that were changed or quarantined, one by one."""
    listed = tables(table(data.get("cleaning")).get("listed"))[:_LINES]
    names = ("row", "split", "field", "action", "value")
    return [{name: str(line.get(name, ""))[:200] for name in names} for line in listed]


def audit_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """The audit within data.json, wherever it lies."""
    inner = table(data.get("audit"))
    return inner or ({str(k): v for k, v in data.items()} if items(data.get("columns")) else {})
