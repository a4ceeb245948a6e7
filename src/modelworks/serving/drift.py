"""Drift: what is asked, beside what the model was trained on. Counts alone, in the worker, a field at a time.

    drift = Drift(run, fields); drift.add("age", column, encoded)
    drift.gauges()["drift_psi"]          # [[{"field": "age"}, 0.03], …]

Of every field the share of missing values; of categories the share never seen in training, and the stability index
over the classes; of numbers the index over the training histogram, of texts over that of their lengths:
PSI = Σ (asked − trained) · ln(asked / trained), 0 where both are alike, above 0.2 by custom a shift. The past fades:
counts are halved whenever they reach `_ROWS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelworks.core.field import Encoded, Field
from modelworks.core.run import RunFolder

_ROWS = 20_000
_ENOUGH = 50
"""Rows below which an index says nothing."""
_FEW = 1e-4
"""The least share of a bin, so that an empty one does not make the index infinite (the customary 0.0001)."""
_BINS = 10


class Drift:
    """Counts of each input."""

    def __init__(self, run: RunFolder, fields: Mapping[str, Field]) -> None:
        audit = {column.get("name"): column for column in run.json("data.json").get("columns", [])}
        self.columns = {
            name: _Column(field, audit.get(field.column or name, {})) for name, field in fields.items()
        }

    def add(self, name: str, column: pa.Array, encoded: Encoded) -> None:
        """Count a batch's values of one input."""
        self.columns[name].add(column, encoded)

    def gauges(self) -> dict[str, Any]:
        """Figures as a `stats` frame tells them."""
        found: dict[str, list[Any]] = {"drift_missing_share": [], "drift_unknown_share": [], "drift_psi": []}
        for name, column in self.columns.items():
            if not column.rows:
                continue
            found["drift_missing_share"].append([{"field": name}, column.missing / column.rows])
            if column.field.kind == "category":
                found["drift_unknown_share"].append([{"field": name}, column.unknown / column.rows])
            index = column.index()
            if index is not None:
                found["drift_psi"].append([{"field": name}, index])
        return {key: rows for key, rows in found.items() if rows}


class _Column:
    def __init__(self, field: Field, audit: Mapping[str, Any]) -> None:
        self.field = field
        self.rows = self.missing = self.unknown = 0.0
        self.edges, self.trained = _histogram(field, audit)
        self.asked = np.zeros(len(self.trained))

    def add(self, column: pa.Array, encoded: Encoded) -> None:
        absent = np.zeros(len(column), bool)
        for action, rows in encoded.changed.items():
            if action.startswith(("missing", "not a number")):
                absent[rows] = True
        absent |= column.is_null().to_numpy(zero_copy_only=False)
        self.rows += len(column)
        self.missing += int(absent.sum())
        self.unknown += len(encoded.changed.get("unknown category", ()))
        if len(self.trained):
            bad = np.zeros(len(column), bool)
            bad[list(encoded.bad)] = True
            self.asked += self._binned(column, encoded, ~absent & ~bad)
        if self.rows > _ROWS:
            self.rows, self.missing, self.unknown = self.rows / 2, self.missing / 2, self.unknown / 2
            self.asked /= 2

    def _binned(self, column: pa.Array, encoded: Encoded, there: np.ndarray) -> np.ndarray:
        if self.field.kind == "category":
            codes = encoded.values[there].astype(np.int64) - self._first()
            return np.bincount(codes[(codes >= 0) & (codes < len(self.trained))], minlength=len(self.trained))
        if self.field.kind == "number":
            values = np.asarray(self.field.decode(encoded.values[there]))
        else:
            if not pa.types.is_string(column.type):
                return np.zeros(len(self.trained))
            lengths = pc.utf8_length(column)
            values = pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False)[there]
        # What lies beyond training's range is in the bins at the ends.
        places = np.searchsorted(self.edges[1:-1], values, side="right")
        return np.bincount(places, minlength=len(self.trained))

    def _first(self) -> int:
        """The code of the first category: 0 stands for unknown ones in inputs."""
        return self.field.layout.size - len(self.trained) - bool(self.field.state.get("missing"))

    def index(self) -> float | None:
        """The stability index, once there is enough to tell."""
        total = self.asked.sum()
        if total < _ENOUGH or not len(self.trained):
            return None
        asked = np.maximum(self.asked / total, _FEW)
        trained = np.maximum(self.trained / self.trained.sum(), _FEW)
        return float(((asked - trained) * np.log(asked / trained)).sum())


def _histogram(field: Field, audit: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """(edges, counts) of training: classes have counts alone; numbers and lengths of texts about ten bins."""
    nothing = np.zeros(0), np.zeros(0)
    if field.kind == "category":
        return np.zeros(0), np.asarray(field.state.get("counts", []), np.float64)
    found = audit.get("histogram")
    if field.kind not in ("number", "text") or not isinstance(found, dict):
        return nothing
    edges, counts = np.asarray(found.get("edges", []), float), np.asarray(found.get("counts", []), float)
    if len(edges) != len(counts) + 1 or not counts.sum() or not (np.diff(edges) > 0).all():
        return nothing
    # Bins of like weight: of bins with next to nothing in them chance alone makes the index.
    share = np.cumsum(counts) / counts.sum()
    cuts = np.unique(np.searchsorted(share, np.arange(1, _BINS) / _BINS)) + 1
    cuts = cuts[cuts < len(counts)]
    starts = np.concatenate([[0], cuts])
    return edges[np.concatenate([starts, [len(counts)]])], np.add.reduceat(counts, starts)
