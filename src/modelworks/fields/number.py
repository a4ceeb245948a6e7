"""A column of numbers: missing values filled, outliers treated, scaled; what was missing is marked.

fields: {age: {kind: number, scale: robust, missing: median, outliers: clip, by: iqr}}
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import NonNegativeInt, PositiveFloat

from modelworks.core.errors import DataError
from modelworks.core.field import Encoded, Field, Layout
from modelworks.core.profile import as_number
from modelworks.fields._cells import is_text, missing_cells, missing_words, plain, shown, to_python
from modelworks.fields._sample import Moments, Sample, edges, spread_or_one

if TYPE_CHECKING:
    from modelworks.core.profile import ColumnProfile

_LARGEST = 1e100  # beyond it squares overflow float64, and no measurement is that large
_QUANTILES = 1000
_REACH = 3.0
_LIMITS = {"quantile": 0.01, "sigma": 3.0, "iqr": 1.5}
_DECIMAL = r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"


class Number(Field):
    """A column of numbers."""

    scale: Literal["standard", "minmax", "robust", "smooth", "quantile", "log", "none"] = "standard"
    """standard: mean 0, deviation 1; minmax: 0 to 1; robust: median 0, interquartile range 1; smooth: robust,
    then bent towards ± 3 by z/√(1+(z/3)²), so that an outlier stays near without being lost (Holzmüller et al.
    2024; what is proposed for inputs); quantile: to a normal distribution through up to 1,000 training
    quantiles; log: sign(x)·log(1+|x|), then standard."""
    missing: Literal["mean", "median", "mode", "constant", "drop", "error"] = "median"
    """What stands for a missing value; drop: its row is left out and counted; error: stop."""
    constant: float = 0.0
    """The value for `missing: constant`."""
    indicator: bool | Literal["auto"] = "auto"
    """Whether a second column says 1 where the value was missing; auto: when training had missing values."""
    usual_missing: bool = True
    """Read NA, n/a, null, none, ?, - and the like as missing."""
    missing_texts: list[str] = []
    """More texts that mean "missing", in any case."""
    bad: Literal["quarantine", "missing"] = "quarantine"
    """A text that is no number: leave its row out and count it, or take the value as missing."""
    outliers: Literal["none", "clip", "drop"] = "none"
    """What happens to values outside the limits; drop: the row is left out and counted."""
    by: Literal["quantile", "sigma", "iqr"] = "quantile"
    """How the limits are learned: tail quantiles, deviations from the mean, or Tukey's fences."""
    limit: PositiveFloat | None = None
    """quantile: share of each tail (0.01); sigma: deviations (3); iqr: interquartile ranges beyond the
    quartiles (1.5)."""
    bins: NonNegativeInt = 64
    """Most quantile bins offered to models with piecewise-linear embeddings (Gorishniy et al. 2022)."""

    # ------------------------------------------------------------------ inference of intent
    @classmethod
    def recognise(cls, profile: ColumnProfile) -> float:
        from modelworks.fields._looks import HOPELESS, hopeless

        if not profile.present or profile.share(profile.numeric) < 0.8 or profile.type.startswith("list"):
            return 0.0
        if hopeless(profile):
            return HOPELESS
        if profile.type == "bool":
            return 0.5
        return 0.75 if profile.share(profile.numeric) >= 0.95 else 0.5

    @classmethod
    def propose(cls, profile: ColumnProfile, target: bool = False) -> dict[str, Any]:
        if target:
            return {"missing": "drop", "indicator": False} | (
                {"scale": "log"} if _spans_sizes(profile) else {}
            )
        # Tables are full of long tails and stray values; a target must stay what it is.
        return {"scale": "smooth"} | ({} if profile.share(profile.numeric) == 1 else {"bad": "missing"})

    # ------------------------------------------------------------------ learning
    def fit(self, chunks: Iterable[pa.Array], root: Path | None = None) -> Number:
        sample, moments, logs, rows, missing = Sample(), Moments(), Moments(), 0, 0
        for chunk in chunks:
            cells = self._read(chunk)
            values = cells.values[~(cells.missing | cells.unusable)]
            rows, missing = rows + len(cells.values), missing + int(cells.missing.sum())
            sample.add(values)
            moments.add(values)
            if self.scale == "log":
                logs.add(_log(values))
        values = sample.values
        if not len(values):
            raise DataError(
                f"no numbers in the training split ({rows:,} rows, {missing:,} missing)",
                "leave this column out, or choose another kind for it",
            )
        state: dict[str, Any] = {"present": moments.count, "missing": missing}
        if self.outliers != "none":
            # Limits must be known before the moments of what they leave, so these come from the sample.
            low, high = self._limits(values)
            state |= {"low": low, "high": high}
            inside = (values >= low) & (values <= high)
            values = np.clip(values, low, high) if self.outliers == "clip" else values[inside]
            moments, logs = Moments(), Moments()
            moments.add(values)
            logs.add(_log(values))
        state["fill"] = self._fill(values, moments)
        state["indicator"] = (
            self.indicator
            if isinstance(self.indicator, bool)
            else (missing > 0 and self.missing not in ("drop", "error"))
        )
        center, spread = self._center(values, logs if self.scale == "log" else moments)
        state |= {"center": center, "spread": spread}
        if self.scale == "quantile":
            state["quantiles"] = np.quantile(values, np.linspace(0, 1, min(_QUANTILES, len(values))))
        fitted = self.with_state(state)
        state["edges"] = edges(fitted._scale(values).astype(np.float32), self.bins)
        return self.with_state(state)

    def _limits(self, values: np.ndarray) -> tuple[float, float]:
        amount = self.limit or _LIMITS[self.by]
        if self.by == "quantile":
            low, high = np.quantile(values, [min(amount, 0.5), max(1 - amount, 0.5)])
        elif self.by == "sigma":
            low, high = values.mean() - amount * values.std(), values.mean() + amount * values.std()
        else:
            first, third = np.quantile(values, [0.25, 0.75])
            low, high = first - amount * (third - first), third + amount * (third - first)
        return float(low), float(high)

    def _fill(self, values: np.ndarray, moments: Moments) -> float:
        if self.missing == "constant":
            return self.constant
        if self.missing == "mean":
            return moments.mean
        if self.missing == "mode":
            found, counts = np.unique(values, return_counts=True)
            return float(found[counts.argmax()])
        return float(np.median(values))

    def _center(self, values: np.ndarray, moments: Moments) -> tuple[float, float]:
        largest = max(abs(moments.least), abs(moments.greatest))
        if self.scale in ("standard", "log"):
            return moments.mean, spread_or_one(moments.std, largest)
        if self.scale == "minmax":
            return moments.least, spread_or_one(moments.greatest - moments.least, largest)
        if self.scale in ("robust", "smooth"):
            first, middle, third = np.quantile(values, [0.25, 0.5, 0.75])
            spread = float(third - first)
            if self.scale == "smooth" and spread_or_one(spread, largest) != spread:
                # Most values are one value: half the range keeps the others near enough to tell apart.
                spread = (moments.greatest - moments.least) / 2
            return float(middle), spread_or_one(spread, largest)
        return 0.0, 1.0

    # ------------------------------------------------------------------ the modality
    @property
    def layout(self) -> Layout:
        columns = 1 + self._state["indicator"]
        return Layout("vector", (columns,), bins=[self._state["edges"], []][:columns])

    def encode(self, column: pa.Array, root: Path | None = None) -> Encoded:
        state, cells = self._state, self._read(column)
        values, bad, changed = cells.values, dict(cells.bad), {}
        missing = np.flatnonzero(cells.missing)
        if len(missing) and self.missing == "error":
            raise DataError(
                f"{len(missing):,} missing values, the first at row {missing[0]} of its chunk",
                "`missing: error` stops here; median, mean, mode, constant or drop go on",
            )
        if len(missing) and self.missing == "drop":
            bad |= dict.fromkeys(missing.tolist(), "missing value")
        elif len(missing):
            changed[f"missing → {self.missing}"] = missing
        if len(cells.taken):
            changed["not a number → missing"] = cells.taken
        if self.outliers != "none":
            usable = ~(cells.missing | cells.unusable)
            outside = np.flatnonzero(usable & ((values < state["low"]) | (values > state["high"])))
            if self.outliers == "drop":
                span = f"{state['low']:.6g} … {state['high']:.6g}"
                bad |= {int(row): f"outlier: {values[row]:.6g} is outside {span}" for row in outside}
            elif len(outside):
                changed["outlier → clipped"] = outside
            values = np.clip(values, state["low"], state["high"])
        values = np.where(cells.missing | cells.unusable, state["fill"], values)
        # float32 holds 3.4e38: what scaling leaves beyond that would become infinite.
        scaled = np.clip(self._scale(values), -3e38, 3e38)
        columns = [scaled, cells.missing] if state["indicator"] else [scaled]
        return Encoded(np.stack(columns, 1).astype(np.float32), bad=bad, changed=changed)

    def contract(self) -> dict[str, Any]:
        state = self._state
        return {
            "missing_texts": missing_words(self.usual_missing, self.missing_texts).to_pylist(),
            "missing": "refuse" if self.missing in ("drop", "error") else "fill",
            "fill": state["fill"],
            "indicator": state["indicator"],
            "wrong": "refuse" if self.bad == "quarantine" else "missing",
            "outside": {"none": None, "clip": "clip", "drop": "refuse"}[self.outliers],
            "limits": [state["low"], state["high"]] if self.outliers != "none" else None,
            "log": self.scale == "log",
            "center": state["center"],
            "spread": state["spread"],
            "bend": _REACH if self.scale == "smooth" else None,
            "quantiles": state["quantiles"].tolist() if self.scale == "quantile" else None,
        }

    def decode(self, values: np.ndarray) -> list[float]:
        values = np.asarray(values, np.float64)
        values = values[:, 0] if values.ndim > 1 else values
        if self.scale == "quantile":
            quantiles = self._state["quantiles"]
            normal = torch.special.ndtr(torch.from_numpy(values)).numpy()
            return np.interp(normal, np.linspace(0, 1, len(quantiles)), quantiles).tolist()
        if self.scale == "smooth":
            values = _unbend(values)
        values = values * self._state["spread"] + self._state["center"]
        if self.scale == "log":  # capped at 1e100 as in `encode`: a wild prediction must not overflow
            values = np.sign(values) * np.expm1(np.minimum(np.abs(values), 230.0))
        return values.tolist()

    def _scale(self, values: np.ndarray) -> np.ndarray:
        if self.scale == "quantile":
            return _to_normal(values, self._state["quantiles"])
        values = _log(values) if self.scale == "log" else values
        values = (values - self._state["center"]) / self._state["spread"]
        return _bend(values) if self.scale == "smooth" else values

    def _read(self, column: pa.Array) -> _Cells:
        cells = _read(column, missing_words(self.usual_missing, self.missing_texts))
        if self.bad == "missing" and cells.bad:
            taken = np.fromiter(cells.bad, np.int64)
            cells = _Cells(
                cells.values, cells.missing | cells.unusable, np.zeros_like(cells.unusable), {}, taken
            )
        return cells


def _spans_sizes(profile: ColumnProfile) -> bool:
    """Whether a target reads as sizes: all positive, over more than a factor of ten, with its tail upwards.

    Of prices, incomes or durations an error of a tenth matters alike at either end, and squared errors would
    hear the largest few alone. The tail tells them from ages or marks: the mean lies in the lowest third."""
    low, mean, high = profile.minimum, profile.mean, profile.maximum
    return low > 0 and high > 10 * low and mean - low < (high - low) / 3


# ------------------------------------------------------------------------------------------- reading cells
@dataclass
class _Cells:
    values: np.ndarray
    """float64 (rows,); 0 where missing or unusable."""
    missing: np.ndarray
    unusable: np.ndarray
    bad: dict[int, str]
    taken: np.ndarray
    """Rows whose text was no number and counts as missing."""


def _read(column: pa.Array, words: pa.Array) -> _Cells:
    column = plain(column)
    missing = missing_cells(column, words)
    values = np.zeros(len(column))
    kind = column.type
    if pa.types.is_null(kind):
        return _Cells(values, missing, np.zeros(len(column), bool), {}, np.zeros(0, np.int64))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        found = pc.fill_null(column.cast(pa.float64(), safe=False), 0.0).to_numpy(zero_copy_only=False)
    elif is_text(kind):
        found = _parse_texts(column, missing)
    else:
        single = not pa.types.is_nested(kind) and not isinstance(column, pa.ExtensionArray)
        numbers = map(as_number, to_python(column)) if single else [None] * len(column)
        found = np.array([np.nan if number is None else number for number in numbers], np.float64)
    with np.errstate(invalid="ignore"):
        unusable = ~(missing | (np.abs(found) < _LARGEST))
    values = np.where(missing | unusable, 0.0, found)
    rows = np.flatnonzero(unusable)
    cells = to_python(column.take(pa.array(rows))) if len(rows) else []
    bad = {int(row): f"wants a number, got {shown(cell)}" for row, cell in zip(rows, cells, strict=True)}
    return _Cells(values, missing, unusable, bad, np.zeros(0, np.int64))


def _parse_texts(column: pa.Array, missing: np.ndarray) -> np.ndarray:
    """float64 (rows,), NaN where a text is no number. Only odd cells ("1,024", "12%") are slow."""
    trimmed = pc.if_else(pa.array(missing), pa.scalar(None, pa.string()), pc.utf8_trim_whitespace(column))
    try:
        return pc.fill_null(trimmed.cast(pa.float64()), 0.0).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        pass
    decimal = pc.match_substring_regex(trimmed, _DECIMAL)
    clean = pc.if_else(decimal, trimmed, pa.scalar(None, pa.string())).cast(pa.float64())
    found = pc.fill_null(clean, 0.0).to_numpy(zero_copy_only=False).copy()
    odd = np.flatnonzero(~pc.fill_null(decimal, True).to_numpy(zero_copy_only=False))
    for row, text in zip(odd, trimmed.take(pa.array(odd)).to_pylist(), strict=True):
        number = as_number(text)
        found[row] = np.nan if number is None else number
    return found


def _log(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.log1p(np.abs(values))


def _bend(z: np.ndarray) -> np.ndarray:
    """z/√(1+(z/3)²), between −3 and 3; the hypotenuse does not overflow where a square would."""
    return z / np.hypot(1.0, z / _REACH)


def _unbend(y: np.ndarray) -> np.ndarray:
    """The inverse; ± 3 and beyond, where float32 values end up, is taken as the last value below."""
    y = np.clip(y, -_REACH * (1 - 1e-7), _REACH * (1 - 1e-7))
    return y / np.sqrt((1 - y / _REACH) * (1 + y / _REACH))


def _to_normal(values: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Normal scores through the training quantiles. Both directions are averaged, so that a value that
    repeats in training lands in the middle of its step, as scikit-learn's QuantileTransformer does."""
    steps = np.linspace(0, 1, len(quantiles))
    share = 0.5 * (np.interp(values, quantiles, steps) - np.interp(-values, -quantiles[::-1], -steps[::-1]))
    share = np.clip(share, 1e-7, 1 - 1e-7)
    return torch.special.ndtri(torch.from_numpy(share)).numpy()
