"""A column of dates or times: how late it is, and where in the year, month, week and day, as cyclic features.

fields: {sold: {kind: date}}    # reads 2024-05-01, 2024-05-01T08:30:00Z, 01/05/2024, 2024年5月1日, 1 May 2024
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import NonNegativeInt

from modelworks.core.errors import DataError
from modelworks.core.field import Encoded, Field, Layout
from modelworks.fields._cells import is_text, missing_cells, missing_words, plain, shown, to_python
from modelworks.fields._sample import Moments, Sample, edges, spread_or_one

if TYPE_CHECKING:
    from modelworks.core.profile import ColumnProfile

_EPOCH = datetime(1970, 1, 1)
_FIRST, _LAST = -62_135_596_800.0, 253_402_300_799.0  # years 1 to 9999, in seconds
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_CLOCK = (
    r"(?:[T ,]*(?P<pm>上午|下午)?\s*(?P<H>\d{1,2})[:时時点點](?P<M>\d{1,2})?"
    r"(?:[:分](?P<S>\d{1,2})?(?:\.\d+)?)?秒?\s*(?P<am>[ap]\.?m\.?)?)?"
)
_SHAPES = [
    re.compile(pattern + _CLOCK + r"\s*Z?", re.IGNORECASE)
    for pattern in (
        r"(?P<y>\d{4})[-/.](?P<m>\d{1,2})(?:[-/.](?P<d>\d{1,2}))?",
        r"(?P<y>\d{4})\s*年\s*(?P<m>\d{1,2})\s*月\s*(?:(?P<d>\d{1,2})\s*[日号號])?",
        r"(?P<a>\d{1,2})(?P<sep>[-/.])(?P<b>\d{1,2})[-/.](?P<y>\d{4})",
        r"(?:[A-Za-z]{3,9},?\s+)?(?P<d>\d{1,2})(?:st|nd|rd|th)?[ -]"
        r"(?P<name>[A-Za-z]{3,9})\.?,?[ -](?P<y>\d{4})",
        r"(?P<name>[A-Za-z]{3,9})\.? (?P<d>\d{1,2})(?:st|nd|rd|th)?,? (?P<y>\d{4})",
    )
]


class Date(Field):
    """Dates or times. Times with an offset are turned to UTC."""

    missing: Literal["mean", "drop", "error"] = "mean"
    """A row without a value: the mean training time with flat cyclic features; its row is left out and
    counted; or stop."""
    indicator: bool | Literal["auto"] = "auto"
    """Whether a last column says 1 where the value was missing; auto: when training had missing values."""
    day_first: bool | None = None
    """Whether 01/05/2024 is the first of May; None: as training shows, else month first with `/` only."""
    bad: Literal["quarantine", "missing"] = "quarantine"
    """A text that is no date: leave its row out and count it, or take the value as missing."""
    missing_texts: list[str] = []
    """More texts that mean "missing", in any case."""
    bins: NonNegativeInt = 48
    """Most quantile bins of the time offered to models with piecewise-linear embeddings."""

    # ------------------------------------------------------------------ inference of intent
    @classmethod
    def recognise(cls, profile: ColumnProfile) -> float:
        if not profile.present or (profile.distinct <= 1 and not profile.many):
            return 0.0
        if profile.type.startswith(("timestamp", "date32", "date64")):
            return 0.98
        return 0.95 if profile.share(profile.dates) >= 0.9 else 0.0

    @classmethod
    def propose(cls, profile: ColumnProfile, target: bool = False) -> dict[str, Any]:
        return {"missing": "drop", "indicator": False} if target else {}

    # ------------------------------------------------------------------ learning
    def fit(self, chunks: Iterable[pa.Array], root: Path | None = None) -> Date:
        # Both readings of 01/05/2024 are followed until the end: only all rows can tell which is right.
        readings = {first: (Moments(), Sample()) for first in _orders(self.day_first)}
        failures, clock, missing = dict.fromkeys(readings, 0), False, 0
        for chunk in chunks:
            for first, (moments, sample) in readings.items():
                seconds, absent, bad = _read(chunk, first, self.missing_texts)
                found = seconds[np.isfinite(seconds)]
                moments.add(found)
                sample.add(found)
                failures[first] += len(bad)
                clock = clock or bool((found % 86400 != 0).any())
            missing += int(absent.sum()) + (len(bad) if self.bad == "missing" else 0)
        first = min(readings, key=lambda order: failures[order])
        moments, sample = readings[first]
        if not moments.count:
            raise DataError("no dates in the training split", "leave this column out, or choose another kind")
        spread = spread_or_one(moments.std, max(abs(moments.least), abs(moments.greatest)))
        indicator = (
            self.indicator if isinstance(self.indicator, bool) else missing > 0 and self.missing == "mean"
        )
        scaled = ((sample.values - moments.mean) / spread).astype(np.float32)
        return self.with_state(
            {
                "day_first": first,
                "clock": clock,
                "indicator": indicator,
                "center": moments.mean,
                "spread": spread,
                "edges": edges(scaled, self.bins),
            }
        )

    # ------------------------------------------------------------------ the modality
    @property
    def layout(self) -> Layout:
        columns = 7 + 2 * self._state["clock"] + self._state["indicator"]
        return Layout("vector", (columns,), bins=[self._state["edges"]] + [[]] * (columns - 1))

    def encode(self, column: pa.Array, root: Path | None = None) -> Encoded:
        state, changed = self._state, {}
        seconds, absent, bad = _read(column, state["day_first"], self.missing_texts)
        if self.bad == "missing" and bad:
            taken = np.fromiter(bad, np.int64)
            absent[taken] = True
            changed["not a date → missing"] = taken
            bad = {}
        rows = np.flatnonzero(absent)
        if len(rows) and self.missing == "error":
            raise DataError(
                f"{len(rows):,} missing dates, the first at row {rows[0]} of its chunk",
                "`missing: error` stops here; mean or drop go on",
            )
        if len(rows) and self.missing == "drop":
            bad |= dict.fromkeys(rows.tolist(), "missing date")
        elif len(rows):
            changed["missing → mean"] = rows
        usable = np.isfinite(seconds)
        values = _features(np.where(usable, seconds, state["center"]), state["clock"])
        values[:, 0] = (values[:, 0] - state["center"]) / state["spread"]
        values[~usable] = 0.0
        columns = [values, absent[:, None]] if state["indicator"] else [values]
        return Encoded(np.concatenate(columns, 1).astype(np.float32), bad=bad, changed=changed)

    def contract(self) -> dict[str, Any]:
        return {
            "missing_texts": missing_words(True, self.missing_texts).to_pylist(),
            "missing": "flat" if self.missing == "mean" else "refuse",
            "wrong": "refuse" if self.bad == "quarantine" else "missing",
            **{name: self._state[name] for name in ("day_first", "clock", "indicator", "center", "spread")},
        }

    def decode(self, values: np.ndarray) -> list[str | None]:
        values = np.asarray(values, np.float64)
        seconds = (values[:, 0] if values.ndim > 1 else values) * self._state["spread"] + self._state[
            "center"
        ]
        timespec = "seconds" if self._state["clock"] else ""
        answers = []
        for moment in np.clip(seconds, _FIRST, _LAST):
            at = _EPOCH + timedelta(seconds=round(float(moment)))
            answers.append(
                at.isoformat(timespec=timespec) if timespec else (at + timedelta(hours=12)).date().isoformat()
            )
        return answers


# ------------------------------------------------------------------------------------------- reading cells
def _orders(day_first: bool | None) -> tuple[bool | None, ...]:
    return (day_first,) if day_first is not None else (None, True, False)


def _read(
    column: pa.Array, day_first: bool | None, extra: list[str]
) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """(seconds since 1970 as float64 with NaN where there is none, missing rows, bad rows)."""
    column = plain(column)
    absent = missing_cells(column, missing_words(True, extra))
    kind, seconds = column.type, np.full(len(column), np.nan)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        if pa.types.is_date32(kind):
            units, per_second = column.cast(pa.int32()), 1 / 86400
        else:
            unit = "ms" if pa.types.is_date64(kind) else kind.unit
            units, per_second = column.cast(pa.int64()), {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}[unit]
        found = pc.fill_null(units, 0).to_numpy(zero_copy_only=False) / per_second
        seconds = np.where(~absent & (found >= _FIRST) & (found <= _LAST), found, np.nan)
    elif is_text(kind):
        # Days repeat: each distinct text is read once.
        encoded = column.dictionary_encode()
        table = [parse(text, day_first) for text in encoded.dictionary.to_pylist()]
        codes = pc.fill_null(encoded.indices, len(table)).to_numpy(zero_copy_only=False)
        seconds = np.array([np.nan if at is None else at for at in [*table, None]])[codes]
        seconds[absent] = np.nan
    rows = np.flatnonzero(np.isnan(seconds) & ~absent)
    cells = to_python(column.take(pa.array(rows)))
    return (
        seconds,
        absent,
        {int(r): f"wants a date, got {shown(c)}" for r, c in zip(rows, cells, strict=True)},
    )


def parse(text: str, day_first: bool | None = None) -> float | None:
    """Seconds since 1970 (UTC) of a date or time in any of the common forms; None when it is none."""
    text = text.strip()
    if not 6 <= len(text) <= 60:
        return None
    at = _iso(text) or _common(text, day_first)
    if at is None:
        return None
    try:
        return (
            at.astimezone(UTC).replace(tzinfo=None) - _EPOCH if at.tzinfo else at - _EPOCH
        ).total_seconds()
    except OverflowError:
        return None


def _iso(text: str) -> datetime | None:
    if not text[:4].isdigit() or text[4:5] == "W" or text[5:6] in ("W", "w"):
        return None
    if text.isdigit() and (len(text) != 8 or not "1800" <= text[:4] <= "2199"):
        return None  # a bare number is a date only as YYYYMMDD
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _common(text: str, day_first: bool | None) -> datetime | None:
    for shape in _SHAPES:
        found = shape.fullmatch(text)
        if not found:
            continue
        part = found.groupdict()
        try:
            month, day = part.get("m"), part.get("d")
            if part.get("sep"):
                swap = part["sep"] == "/" if day_first is None else not day_first
                month, day = (part["a"], part["b"]) if swap else (part["b"], part["a"])
            if part.get("name"):
                month = _MONTHS.index(part["name"][:3].lower()) + 1
            hour = int(part["H"] or 0)
            half = (part["am"] or "").lower()[:1] or {"上午": "a", "下午": "p"}.get(part["pm"] or "", "")
            if half and hour <= 12:
                hour = hour % 12 + 12 * (half == "p")
            return datetime(
                int(part["y"]), int(month or 1), int(day or 1), hour, int(part["M"] or 0), int(part["S"] or 0)
            )
        except ValueError:
            continue
    return None


def _features(seconds: np.ndarray, clock: bool) -> np.ndarray:
    """float64 (rows, 7 or 9): seconds, then sine and cosine of month, weekday, day of month (and hour)."""
    days = np.floor(seconds / 86400)
    dates = days.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    turns = [
        (months.astype(np.int64) % 12) / 12,
        ((days + 3) % 7) / 7,  # 1970-01-01 was a Thursday
        (dates - months.astype("datetime64[D]")).astype(np.int64) / 31,
    ]
    if clock:
        turns.append((seconds - days * 86400) / 86400)
    waves = [wave(2 * np.pi * turn) for turn in turns for wave in (np.sin, np.cos)]
    return np.stack([seconds, *waves], 1)
