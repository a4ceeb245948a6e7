"""Compare Runs: which settings differ, the metrics side by side, the curves laid over one another.

write([Path("runs/a"), Path("runs/b")], Path("compare.html"))
rich.print(terminal([Path("runs/a"), Path("runs/b")]))
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.core.errors import UserError
from modelworks.metrics.direction import higher_is_better
from modelworks.report import curves, verdict
from modelworks.report.folder import Files, figure, read, table
from modelworks.report.page import Figure, render
from modelworks.report.run import about
from modelworks.report.svg import Series, lines
from modelworks.report.words import better, interval, metric_name, number

if TYPE_CHECKING:
    from rich.console import RenderableType

_CHARTS = 6


def write(paths: Sequence[Path | str], output: Path) -> Path:
    """The comparison as one offline HTML file."""
    partial = output.with_name(output.name + ".partial")
    partial.write_text(render("compare.html", **context(paths)), "utf-8", errors="replace")
    os.replace(partial, output)
    return output


def context(paths: Sequence[Path | str]) -> dict[str, Any]:
    """All that the comparison shows. The first Run is what the others are compared with."""
    if len(paths) < 2:
        raise UserError(f"comparing wants two Runs or more, got {len(paths)}")
    runs = [read(path) for path in paths]
    names = _names(runs)
    splits = [verdict.main_split(run.evaluation) for run in runs]
    return {
        "names": names,
        "about": [about(run) for run in runs],
        "splits": splits,
        "settings": differences([run.recipe for run in runs]),
        "environment": differences(
            [{k: v for k, v in run.environment.items() if k not in ("command", "time")} for run in runs]
        ),
        "metrics": metrics(runs),
        "sentences": _sentences(runs, names),
        "curves": _curves(runs, names),
        "same_data": _same_data(runs),
        "problems": [run.problems for run in runs],
    }


def _names(runs: Sequence[Files]) -> list[str]:
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def differences(trees: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """(dotted setting, its value in each tree) where these are not all the same; "–" where absent."""
    flat = [dict(_leaves(tree)) for tree in trees]
    paths = list(dict.fromkeys(path for leaves in flat for path in leaves))
    return [
        (path, [leaves.get(path, "–") for leaves in flat])
        for path in paths
        if len({leaves.get(path) for leaves in flat}) > 1
    ]


def _leaves(value: Any, path: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [
            leaf
            for key, item in value.items()
            for leaf in _leaves(item, f"{path}.{key}" if path else str(key))
        ]
    return [(path, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))]


def metrics(runs: Sequence[Files]) -> list[dict[str, Any]]:
    """Each metric of the split that counts: a cell a Run, the best one marked."""
    tables = [
        table(table(run.evaluation.get("splits")).get(verdict.main_split(run.evaluation))) for run in runs
    ]
    primary = verdict.primary_of(runs[0].evaluation)
    names = sorted(
        dict.fromkeys(name for found in tables for name in found),
        key=lambda name: (name != primary, name == "loss"),
    )
    rows = []
    for name in names:
        cells = [
            {key: figure(table(found.get(name)).get(key)) for key in ("value", "low", "high")}
            for found in tables
        ]
        values = [cell["value"] for cell in cells if cell["value"] is not None]
        best = None
        if len(values) > 1 and max(values) > min(values):
            best = max(values) if higher_is_better(name) else min(values)
        rows.append(
            {
                "name": name,
                "primary": name == primary,
                "cells": [c | {"best": best is not None and c["value"] == best} for c in cells],
            }
        )
    return rows


def _sentences(runs: Sequence[Files], names: Sequence[str]) -> list[dict[str, str]]:
    """Whether each Run differs from the first by more than chance."""
    heads = [verdict.headline(run.evaluation) for run in runs]
    first = heads[0]
    found = []
    for head, name in zip(heads[1:], names[1:], strict=True):
        if first["value"] is None or head["value"] is None or head["metric"] != first["metric"]:
            found.append({"tone": "", "text": f"{name} and {names[0]} share no primary metric."})
            continue
        metric, gain = metric_name(head["metric"]), head["value"] - first["value"]
        told = f"{name}: {metric} {number(head['value'])} against {number(first['value'])} of {names[0]} "
        told += f"({gain:+.4f}; {better(head['metric'])} is better)"
        ends = (first["low"], first["high"], head["low"], head["high"])
        good = (gain > 0) == higher_is_better(head["metric"])
        if None in ends:
            found.append({"tone": "", "text": f"{told}. Without intervals chance cannot be told from merit."})
        elif head["low"] > first["high"] or first["low"] > head["high"]:
            found.append(
                {"tone": "good" if good else "error", "text": f"{told}. The 95 % intervals do not overlap."}
            )
        else:
            found.append(
                {
                    "tone": "warning",
                    "text": f"{told}. The 95 % intervals overlap: the difference may be chance.",
                }
            )
    return found


def _same_data(runs: Sequence[Files]) -> bool | None:
    """Whether all Runs were trained on the same source; None when that was not recorded."""
    hashes = [json.dumps(table(run.data.get("hashes")).get("source")) for run in runs]
    return None if "null" in hashes else len(set(hashes)) == 1


def _curves(runs: Sequence[Files], names: Sequence[str]) -> list[Figure]:
    """Each metric's validation curve (training where there is none) of every Run."""
    past = [curves.history(run.log) for run in runs]
    primary = verdict.primary_of(runs[0].evaluation)
    shown = []
    for metric in curves.order(list(dict.fromkeys(name for found in past for name in found)), primary)[
        :_CHARTS
    ]:
        split = "valid" if any("valid" in found.get(metric, {}) for found in past) else "train"
        series = []
        for index, found in enumerate(past):
            steps, values = found.get(metric, {}).get(split, ([], []))
            if values:
                values = curves.smooth(values) if len(values) > 60 and metric != "lr" else values
                series.append(
                    Series(names[index], steps, values, index % 6 + 1, "marked" if len(values) <= 12 else "")
                )
        every = [value for one in series for value in one.y]
        if every:
            title = f"{metric_name(metric)}, {split}"
            log_y = "loss" in metric and min(every) > 0 and max(every) / min(every) > 30
            shown.append(
                Figure(
                    title,
                    lines(series, title=title, x_label="step", log_y=log_y),
                    tuple((one.name, one.colour) for one in series),
                )
            )
    return shown


def terminal(paths: Sequence[Path | str]) -> RenderableType:
    """The comparison for a terminal."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    shown = context(paths)
    scores = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    scores.add_column("metric", no_wrap=True)
    for name, split in zip(shown["names"], shown["splits"], strict=True):
        scores.add_column(Text(f"{name}\n{split}"), justify="right")
    for row in shown["metrics"]:
        cells = []
        for cell in row["cells"]:
            told = Text(
                number(cell["value"]),
                style="bold green" if cell["best"] else "bold" if row["primary"] else "",
            )
            if interval(cell):
                told.append(f"\n{interval(cell)}", style="dim")
            cells.append(told)
        scores.add_row(Text(metric_name(row["name"]), style="bold" if row["primary"] else ""), *cells)
    settings = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    settings.add_column("setting", overflow="fold")
    for name in shown["names"]:
        settings.add_column(Text(name), overflow="fold")
    for path, values in shown["settings"]:
        settings.add_row(Text(path), *(Text(value) for value in values))
    colours = {"good": "green", "warning": "yellow", "error": "red"}
    parts: list[Any] = [Text(s["text"], style=colours.get(s["tone"], "")) for s in shown["sentences"]]
    if shown["same_data"] is False:
        parts.append(Text("The Runs were trained on different data.", style="yellow"))
    parts += [
        "",
        scores,
        "",
        settings if shown["settings"] else Text("The recipes are the same.", style="dim"),
    ]
    return Group(*parts)
