"""Compression: the table of a compressed Run, for the report and the card; None for any other Run."""

from __future__ import annotations

import json
from typing import Any

from modelworks.report.folder import Files, figure, table, tables
from modelworks.report.words import metric_name, number, size

MOST = 200
"""Rows that are shown."""


def view(files: Files) -> dict[str, Any] | None:
    """{"parent", "headings", "rows": [{"cells", "chosen"}], "measured": [(what, how)]}."""
    path = files.path / "compression.json"
    if not path.exists():
        return None
    try:
        told = table(json.loads(path.read_text("utf-8", "replace")))
    except (ValueError, OSError, RecursionError):
        return None
    unit = str(told.get("lost_in") or "points")
    chosen, chooser, split = told.get("chosen"), told.get("chosen_on"), told.get("split") or "test"
    apart = [f"Lost on {chooser}"] if chooser and chooser != split else []
    rows = [
        {"cells": _cells(row, bool(apart)), "chosen": row.get("what") == chosen}
        for row in tables(told.get("table"))[:MOST]
    ]
    metric = metric_name(str(told.get("metric") or "quality"))
    return {
        "parent": str(table(told.get("parent")).get("name") or "?"),
        "headings": ["Bytes", "Share", f"{metric} on {split}", f"Lost, {unit}", *apart, "Time a row", 
                     "Share", "FLOPs", "Memory", "Largest difference"],
        "rows": rows,
        "measured": [(str(what), str(how)) for what, how in table(told.get("measured")).items()],
    }  # fmt: skip


def _cells(row: dict[str, Any], apart: bool) -> list[str]:
    """A row's; `apart`: other rows chose than those that it is judged on."""
    quality = table(row.get("quality"))
    value, low, high = (figure(quality.get(name)) for name in ("value", "low", "high"))
    told = "" if value is None else number(value)
    if told and low is not None and high is not None:
        told += f" ({number(low)}–{number(high)})"
    lost, price, memory, bytes_ = (
        figure(row.get(name)) for name in ("lost", "price", "memory_mb", "size_bytes")
    )
    latency = figure(row.get("latency_ms"))
    shares = [figure(row.get(name)) for name in ("size_share", "latency_share", "flops_share")]
    difference = figure(row.get("max_difference"))
    return [
        str(row.get("what") or ""),
        "" if bytes_ is None else size(int(bytes_)),
        "" if shares[0] is None else f"{shares[0]:.3f}",
        told,
        "" if lost is None else f"{lost:+.2f}",
        *(["" if price is None else f"{price:+.2f}"] if apart else []),
        "" if latency is None else f"{latency:.3g} ms",
        "" if shares[1] is None else f"{shares[1]:.2f}",
        "" if shares[2] is None else f"{shares[2]:.2f}",
        "" if memory is None else f"{memory:.0f} MB",
        "" if difference is None else f"{difference:.2g}",
    ]
