"""An export beside its Run: the same real rows, batch 1, 7 and 64, and how far apart the answers are.

found = compare(graph, rows, opened)          # opened.predict(feeds) → {output: array}
found["max_difference"]                       # of floats; whole numbers that differ are counted
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from modelworks.core.errors import UserError
from modelworks.engine.export._graph import Graph
from modelworks.engine.export._rows import Rows

BATCHES = (1, 7, 64)
LIMIT = 1e-4
"""Most that a float may differ."""
CLOSE = 1e-5
"""Most that prepared pixels may differ."""


class Opened(Protocol):
    """An export, read back by the runtime that it is made for."""

    def predict(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A batch of stored arrays → the outputs."""
        ...


def compare(graph: Graph, rows: Rows, opened: Opened, share: float = 0.0) -> dict[str, Any]:
    """What goes into verification.json. Raises UserError where the export says something else than the Run: its floats
    may differ by LIMIT, or by `share` of the largest of them where that is more."""
    table: dict[str, dict[str, float]] = {}
    differing, counted, largest, steps = 0, 0, 0.0, []
    for size in BATCHES:
        worst: dict[str, float] = {}
        for start in range(0, len(rows), size):
            stored = rows.batch(range(start, min(start + size, len(rows))))
            steps += [int(length) for name in rows.ragged for length in stored[f"{name}.length"]]
            ours, theirs = graph.said(stored), opened.predict(graph.feeds(stored))
            for name, mine in ours.items():
                mine, other = _real(graph, stored, mine, np.asarray(theirs[name]))
                if mine.dtype.kind == "f":
                    gap = float(np.abs(mine - other).max(initial=0.0))
                    worst[name] = max(worst.get(name, 0.0), gap if np.isfinite(other).all() else np.inf)
                    largest = max(largest, float(np.abs(mine).max(initial=0.0)))
                else:
                    differing, counted = differing + int((mine != other).sum()), counted + mine.size
        table[str(size)] = worst
    most = max((gap for row in table.values() for gap in row.values()), default=0.0)
    limit = max(LIMIT, share * largest)
    found = {
        "rows": len(rows),
        "data": rows.source,
        "batches": table,
        "max_difference": most,
        "limit": limit,
        "whole_numbers": {"compared": counted, "different": differing},
    }
    if graph.integer:
        found["beside"] = "the Run's whole-number layers computed in float32, as the export holds them"
    if steps:
        found["steps"] = [min(steps), max(steps)]
    # Where two classes are equally likely, rounding may choose either: that is no fault of the export.
    if not most <= limit or differing > 0.01 * counted:
        raise UserError(
            f"the export differs from the Run by {most:.3g}, and in {differing:,} of {counted:,} whole numbers",
            f"at most {limit:.1g} is let through",
        )
    return found


def encoded(graph: Graph, rows: Rows, opened: Any) -> dict[str, Any] | None:
    """How many raw rows the export's own files encode as the field does, but for the end token that follows a text in
    training alone; None where it has no such files, or the rows are windows of longer ones."""
    (field,) = graph.fields.values()
    same, asked = 0, 0
    for at, raw in enumerate(rows.raw):
        if not raw:
            continue
        wanted = next(iter(graph.prepared(graph.feeds(rows.batch([at], whole=True))).values()))[0].numpy()
        found = opened.encoded(next(iter(raw.values())), field.layout.length)
        if found is None:
            return None
        asked += 1
        if field.layout.form == "tokens" and len(wanted) == field.layout.length == len(found):
            wanted, found = wanted[:-1], found[:-1]  # of a text that was cut: they cut before a closing token
        if (
            field.layout.form == "tokens"
            and len(wanted) == len(found) + 1
            and wanted[-1] == field.state.get("end")
        ):
            wanted = wanted[:-1]
        same += wanted.shape == found.shape and bool(np.abs(wanted - found).max(initial=0) <= CLOSE)
    by = "tokenizer.json" if field.layout.form == "tokens" else "preprocessor_config.json"
    return {"rows": asked, "equal": same, "by": by} if asked else None


def _real(
    graph: Graph, stored: Mapping[str, np.ndarray], mine: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both without what is said of padding. A row's words may be fewer than its steps: then zeros follow."""
    name = next(reversed(graph.fields), "")
    if mine.ndim < 2 or f"{name}.length" not in stored or graph.task.features == "row":
        return mine, other
    if other.shape[1] > mine.shape[1]:
        mine = np.pad(mine, [(0, 0), (0, other.shape[1] - mine.shape[1]), *[(0, 0)] * (mine.ndim - 2)])
    real = np.arange(mine.shape[1]) < stored[f"{name}.length"][:, None]
    return mine[real], other[real]
