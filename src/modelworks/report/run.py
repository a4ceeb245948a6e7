"""The report of a Run: one offline HTML file, written from the folder alone.

path = write(Path("runs/titanic"))        # runs/titanic/report.html
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from modelworks.report import compression, curves, details, gallery, verdict
from modelworks.report.audit import view as audit_view
from modelworks.report.folder import Files, figure, read, table
from modelworks.report.gauge import gauge
from modelworks.report.page import render
from modelworks.report.words import duration


def write(run_folder: Path | str, output: Path | None = None) -> Path:
    """Write report.html into the Run's folder (or to `output`) and return its path."""
    path = output or Path(run_folder) / "report.html"
    partial = path.with_name(path.name + ".partial")
    partial.write_text(render("run.html", **context(read(run_folder))), "utf-8", errors="replace")
    os.replace(partial, path)
    return path


def context(files: Files) -> dict[str, Any]:
    """All that the report and the model card show, from the Run's files."""
    audit = verdict.audit_of(files.data)
    evaluation = files.evaluation
    primary, split = verdict.primary_of(evaluation), verdict.main_split(evaluation)
    found = table(table(evaluation.get("details")).get(split))
    main_curves, more_curves = curves.split_main(files.log, primary, figure(evaluation.get("step")))
    class_rows, classes_left_out = details.classes(found)
    cards = gallery.cards(files)
    return {
        "name": files.name,
        "about": about(files),
        "files": files,
        "problems": files.problems,
        "headline": verdict.headline(evaluation),
        "sentences": verdict.sentences(files, audit),
        "tiles": tiles(files),
        "audit": audit_view(audit) if audit else None,
        "cleaning": verdict.cleaning_lines(files.data),
        "listed": verdict.listed_changes(files.data),
        "hashes": _flat(files.data.get("hashes")),
        "curves": main_curves,
        "more_curves": more_curves,
        "evaluation": evaluation_table(evaluation),
        "confusion": details.confusion(found),
        "pairs": details.confused_pairs(found),
        "classes": class_rows,
        "classes_left_out": classes_left_out,
        "details": details.figures(found),
        "split": split,
        "cards": cards,
        "sure": any(card["confidence"] is not None for card in cards),
        "text_cards": any(part["kind"] != "image" for card in cards for part in card["parts"]),
        "highlights": any(
            piece["weight"] for card in cards for part in card["parts"] for piece in part.get("pieces", [])
        ),
        "grids": gallery.grids(files),
        "compression": compression.view(files),
        "generative": not table(found).get("labels") and "tokens" in table(found),
        "recipe": files.recipe_text,
        "environment": _flat(files.environment),
        "task": str(files.part("task").get("kind") or ""),
    }


def about(files: Files) -> str:
    """What the Run is, in one line: `classify label from image · cnn`."""
    task, model, target = (
        files.part("task"),
        files.part("model"),
        str(files.recipe.get("target") or files.part("task").get("target") or ""),
    )
    inputs = [name for name in table(files.recipe.get("fields")) if name != target]
    told = " ".join(part for part in (str(task.get("kind") or ""), target) if part)
    if inputs:
        told += (
            (" from " if target else " ")
            + ", ".join(inputs[:6])
            + (f" and {len(inputs) - 6} more" if len(inputs) > 6 else "")
        )
    return (
        " · ".join(part for part in (told.strip(), str(model.get("kind") or "")) if part)
        or "A Run of modelworks"
    )


def tiles(files: Files) -> list[dict[str, str]]:
    """Small facts beside the headline."""
    last, training = (files.log[-1] if files.log else {}), table(files.evaluation.get("training"))
    shown = []
    rows = verdict.rows_by_split(files.data)
    tokens = figure(training.get("tokens"))
    if tokens:
        shown.append({"what": "tokens read", "figure": f"{tokens:,.0f}", "more": ""})
    elif rows.get("train"):
        others = ", ".join(
            f"{count:,.0f} {name}" for name, count in rows.items() if name != "train" and count
        )
        shown.append({"what": "training rows", "figure": f"{rows['train']:,.0f}", "more": others})
    steps = figure(training.get("steps")) or figure(last.get("step"))
    seconds, samples = (figure(training.get(key)) or figure(last.get(key)) for key in ("seconds", "samples"))
    if steps:
        epochs = (
            f", {samples / rows['train']:,.1f} epochs" if samples and rows.get("train") and not tokens else ""
        )
        more = f"{samples:,.0f} {'windows' if tokens else 'rows'} seen{epochs}" if samples else ""
        shown.append({"what": "steps", "figure": f"{steps:,.0f}", "more": more})
    if seconds:
        what, count = ("tokens", tokens) if tokens else ("rows", samples)
        more = f"{count / seconds:,.0f} {what} a second" if count else ""
        shown.append({"what": "training time", "figure": duration(seconds), "more": more})
    parameters = figure(training.get("parameters"))
    if parameters:
        model = str(files.part("model").get("kind") or "")
        shown.append({"what": "parameters", "figure": f"{parameters:,.0f}", "more": model})
    return shown


def evaluation_table(evaluation: dict[str, Any]) -> dict[str, Any]:
    """Metrics × splits with intervals, and the baseline of the split that counts."""
    splits = {name: table(metrics) for name, metrics in table(evaluation.get("splits")).items()}
    main, primary = verdict.main_split(evaluation), verdict.primary_of(evaluation)
    names = list(dict.fromkeys(name for metrics in splits.values() for name in metrics))
    names.sort(key=lambda name: (name != primary, name == "loss"))
    shown = sorted(
        splits, key=lambda name: (name != main, verdict.JUDGED.index(name) if name in verdict.JUDGED else 9)
    )
    base = table(table(evaluation.get("baseline")).get(main))
    rows = []
    for name in names:
        cells = [
            {key: figure(table(splits[s].get(name)).get(key)) for key in ("value", "low", "high")}
            for s in shown
        ]
        own = table(splits[main].get(name)) if main else {}
        value, low, high = (figure(own.get(key)) for key in ("value", "low", "high"))
        baseline = figure(table(base.get(name)).get("value"))
        rows.append(
            {
                "name": name,
                "cells": cells,
                "baseline": baseline,
                "primary": name == primary,
                "approximate": bool(own.get("approximate")),
                "gauge": gauge(name, value, low, high, baseline),
            }
        )
    return {
        "splits": shown,
        "rows": rows,
        "gauges": any(row["gauge"] for row in rows),
        "baseline": any(row["baseline"] is not None for row in rows),
        "approximate": any(row["approximate"] for row in rows),
    }


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as lines."""
    found: list[tuple[str, str]] = []
    for key, item in table(value).items():
        name = f"{prefix}{key}"
        if isinstance(item, dict):
            found += _flat(item, f"{name}.")
        elif isinstance(item, list):
            found.append((name, " ".join(map(str, item))[:1000]))
        elif item is not None:
            found.append((name, str(item)[:1000]))
    return found[:200]
