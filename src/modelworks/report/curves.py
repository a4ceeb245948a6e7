"""Curves: metrics.jsonl as charts, training and validation together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelworks.report.folder import figure, table
from modelworks.report.page import Figure
from modelworks.report.svg import Series, lines
from modelworks.report.words import metric_name

_COLOURS = {"train": 1, "valid": 2, "test": 3}
_LAST = ("lr", "learning_rate", "grad_norm", "gradient_norm", "speed", "samples_per_second", "memory")
_MOST = 30
"""Charts drawn at the most."""

Points = tuple[list[float], list[float]]


def history(log: Sequence[dict[str, Any]]) -> dict[str, dict[str, Points]]:
    """Metric → split → (steps, values)."""
    found: dict[str, dict[str, Points]] = {}
    for line in log:
        step = figure(line.get("step"))
        split = str(line.get("split") or "train")
        if step is None:
            continue
        for name, value in table(line.get("metrics")).items():
            number = figure(value)
            if number is not None:
                steps, values = found.setdefault(name, {}).setdefault(split, ([], []))
                steps.append(step)
                values.append(number)
    return found


def order(names: Sequence[str], primary: str) -> list[str]:
    """The loss, the primary metric, the others, and the machinery last."""
    place = {"loss": 0, primary: 1}
    return sorted(names, key=lambda name: (place.get(name, 3 + (name in _LAST)), name))


def figures(
    log: Sequence[dict[str, Any]], primary: str = "", chosen: float | None = None, most: int = _MOST
) -> list[Figure]:
    """Charts over steps. `chosen`: the step whose weights were kept."""
    past = history(log)
    charts = []
    for name in order(list(past), primary)[:most]:
        splits = past[name]
        series: list[Series] = []
        for split in sorted(splits, key=lambda s: (s not in _COLOURS, s)):
            steps, values = splits[split]
            colour = _COLOURS.get(split, 4 if name not in _LAST else 0)
            if name in _LAST:
                colour = 5
            noisy = split == "train" and len(values) > 60 and name not in ("lr", "learning_rate")
            if noisy:
                series.append(Series(split, steps, values, colour, "faint"))
                values = smooth(values)
            series.append(Series(split, steps, values, colour, "marked" if len(values) <= 12 else ""))
        key = tuple(
            (
                one.name
                + (" (smoothed)" if any(o.name == one.name and o.style == "faint" for o in series) else ""),
                one.colour,
            )
            for one in series
            if one.style != "faint"
        )
        every = [value for _, values in splits.values() for value in values]
        log_y = "loss" in name and min(every) > 0 and max(every) / min(every) > 30
        marks = (
            [(chosen, f"the weights of step {chosen:,.0f} were kept")]
            if chosen is not None and "valid" in splits
            else []
        )
        title = metric_name(name)
        charts.append(
            Figure(
                title,
                lines(series, title=title, x_label="step", log_y=log_y, marks=marks),
                key if len(splits) > 1 or key[0][0] != "train" else (),
            )
        )
    return charts


def split_main(
    log: Sequence[dict[str, Any]], primary: str = "", chosen: float | None = None
) -> tuple[list[Figure], list[Figure]]:
    """(charts that tell the course: loss, primary metric, what training logs; all other metrics)."""
    past = history(log)
    main = {
        name
        for name, splits in past.items()
        if name in ("loss", primary) or name in _LAST or "train" in splits
    }
    drawn = dict(zip(order(list(past), primary), figures(log, primary, chosen), strict=False))
    return [f for name, f in drawn.items() if name in main], [
        f for name, f in drawn.items() if name not in main
    ]


def smooth(values: Sequence[float], share: float = 0.04) -> list[float]:
    """An exponential average over about `share` of the length, without the bias of its start."""
    keep = 1 - 1 / max(2.0, share * len(values))
    total = weight = 0.0
    found = []
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        found.append(total / weight)
    return found
