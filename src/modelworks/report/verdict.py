"""Verdict: what the figures of a Run say, in sentences that follow from them and from nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelworks.metrics.direction import higher_is_better
from modelworks.report.curves import history, smooth
from modelworks.report.folder import Files, figure, items, table, tables
from modelworks.report.words import interval, metric_name, number, percent, plural

JUDGED = ("test", "valid", "train")
"""The split that counts: the first of these that was evaluated."""


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
    found = [
        *(_against_baseline(files.evaluation) if judged else []),
        *_between_splits(files.evaluation),
        *_learning(files),
    ]
    grave = [f for f in tables(audit.get("findings")) if f.get("severity") == "error"]
    if grave:
        codes = {str(f.get("code")) for f in grave}
        doubt = " The figures here may be too good." if codes & {"duplicates_across_splits", "leak"} else ""
        found.append(
            {
                "tone": "error",
                "text": f"The data audit found {plural(len(grave), 'error')}: {grave[0].get('column') or ''!s} {grave[0].get('message')}.{doubt}".replace(
                    ":  ", ": "
                ),
            }
        )
    return found


def _against_baseline(evaluation: Mapping[str, Any]) -> list[dict[str, str]]:
    head = headline(evaluation)
    value, base = head["value"], head["baseline"]
    if value is None:
        return [{"tone": "warning", "text": "The model has not been evaluated."}]
    name, split = metric_name(head["metric"]), head["split"]
    told = f"On the {split} split {name} is {number(value)}" + (
        f" (95 % interval {head['interval']})" if head["interval"] else ""
    )
    if base is None:
        return [{"tone": "", "text": f"{told}."}]
    higher = higher_is_better(head["metric"])
    against = f"the trivial baseline, which never looks at the inputs, has {number(base)}"
    worst = head["low"] if higher else head["high"]
    worst = value if worst is None else worst
    if (worst > base) if higher else (worst < base):
        gain = ""
        if not higher and base > 0 and value >= 0:
            gain = f": {percent(base - value, base)} less"
        elif higher and head["metric"] in ("accuracy", "balanced_accuracy") and base < 1:
            gain = f": {percent(value - base, 1 - base)} of its mistakes are gone"
        return [{"tone": "good", "text": f"{told}; {against}{gain}."}]
    if (value > base) if higher else (value < base):
        return [
            {
                "tone": "warning",
                "text": f"{told}; {against}. The interval includes that: a real advantage is not shown.",
            }
        ]
    return [{"tone": "error", "text": f"{told}; {against}. The model is not better than that."}]


def _between_splits(evaluation: Mapping[str, Any]) -> list[dict[str, str]]:
    """Whether training rows are answered far better than new ones."""
    metric, split = primary_of(evaluation), main_split(evaluation)
    splits = table(evaluation.get("splits"))
    train, held = (table(table(splits.get(name)).get(metric)) for name in ("train", split))
    seen, new, low, high = (
        figure(entry.get(key))
        for entry, key in ((train, "value"), (held, "value"), (held, "low"), (held, "high"))
    )
    if split == "train" or seen is None or new is None or low is None or high is None or low <= seen <= high:
        return []
    if (seen > new) != higher_is_better(metric):
        return []
    return [
        {
            "tone": "",
            "text": f"On its own training rows {metric_name(metric)} is {number(seen)}, outside the {split} interval: the model has learned some of them by heart.",
        }
    ]


def _learning(files: Files) -> list[dict[str, str]]:
    """What the curves show: still falling, or risen since the best."""
    past = history(files.log).get("loss", {})
    steps, losses = past.get("valid", ([], []))
    found: list[dict[str, str]] = []
    if len(losses) >= 4:
        best = min(range(len(losses)), key=lambda i: losses[i])
        rise = losses[-1] - losses[best]
        chosen = str(files.part("train").get("choose") or "best")
        if losses[best] > 0 and rise > 0.1 * losses[best] and best < len(losses) - 1:
            kept = " The weights of the best validation were kept." if chosen == "best" else ""
            found.append(
                {
                    "tone": "",
                    "text": f"Validation loss was lowest at step {steps[best]:,.0f} ({number(losses[best])}) and rose to {number(losses[-1])} afterwards: the model began to overfit.{kept}",
                }
            )
        elif best >= len(losses) - 2 and losses[-1] > 0 and losses[len(losses) * 3 // 4] > 1.03 * losses[-1]:
            found.append(
                {
                    "tone": "",
                    "text": "Validation loss was still falling at the end: longer training is likely to help.",
                }
            )
    _, train = past.get("train", ([], []))
    if len(train) >= 20 and min(train) > 0:
        level = smooth(train)
        if level[-1] > 1.5 * min(level):
            found.append(
                {
                    "tone": "warning",
                    "text": f"Training loss ended at {number(level[-1])}, well above its lowest level of {number(min(level))}: training was not stable.",
                }
            )
    return found


def cleaning_lines(data: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Every count of `cleaning` and `prepared` as (what, how many): `changed → age → missing → median`, 177."""
    found: list[tuple[str, Any]] = []

    def walk(value: Any, path: list[str]) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                walk(inner, [*path, str(key).replace("_", " ")])
        elif isinstance(value, list):
            if value and all(isinstance(item, str) for item in value):
                found.append((" · ".join(path), "; ".join(value[:5])))
        elif (
            value is not None
            and not isinstance(value, bool)
            and (figure(value) is not None or isinstance(value, str))
        ):
            found.append((" · ".join(path) or "rows", value))

    for part in ("cleaning", "prepared", "rows"):
        walk(data.get(part), [] if part == "cleaning" else [part])
    return [(what, value) for what, value in found if value not in (0, "")][:80]


def audit_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """The audit within data.json, wherever it lies."""
    inner = table(data.get("audit"))
    return inner or ({str(k): v for k, v in data.items()} if items(data.get("columns")) else {})
