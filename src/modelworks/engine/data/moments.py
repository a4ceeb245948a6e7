"""Moments: a column of times or numbers as a float a row, for ordering. Dates become µs since 1970."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelworks.core.errors import DataError
from modelworks.core.profile import MISSING, as_number

if TYPE_CHECKING:
    from modelworks.core.dataset import Dataset

_YEAR_FIRST = re.compile(r"(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})日?(.*)", re.DOTALL)
_YEAR_LAST = re.compile(r"(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})(.*)", re.DOTALL)


def moments(dataset: Dataset, column: str, messages: list[str]) -> np.ndarray:
    """float64 (rows,), NaN where there is no value. Raises DataError for values that are not times."""
    kind = dataset.schema.field(column).type
    times = np.full(dataset.rows, np.nan)
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    ):
        for rows, batch in dataset.batches(columns=[column]):
            times[rows] = _filled(batch.column(0).cast(pa.float64(), safe=False))
        return times
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        for rows, batch in dataset.batches(columns=[column]):
            micro = batch.column(0).cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False)
            times[rows] = _filled(micro.cast(pa.int64()).cast(pa.float64(), safe=False))
        return times
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise DataError(f"{dataset.name}: {column!r} holds {kind}, not times or numbers")
    day_first = _day_first(dataset, column, messages)
    numbers = dates = 0
    for rows, batch in dataset.batches(columns=[column]):
        cells = batch.column(0)
        cells = cells if pa.types.is_dictionary(cells.type) else cells.dictionary_encode()
        table = np.full(len(cells.dictionary) + 1, np.nan)
        for index, text in enumerate(cells.dictionary.to_pylist()):
            if text is None or text.strip().lower() in MISSING:
                continue
            number = as_number(text)
            numbers, dates = numbers + (number is not None), dates + (number is None)
            table[index] = _date(text, day_first) if number is None else number
            if np.isnan(table[index]):
                row = int(
                    rows[pc.fill_null(pc.equal(cells.indices, index), False).to_numpy(zero_copy_only=False)][
                        0
                    ]
                )
                raise DataError(
                    f"{dataset.name} row {row}: {column!r} wants a time or a number, got {text[:60]!r}"
                )
        if numbers and dates:
            raise DataError(
                f"{dataset.name}: {column!r} mixes dates and plain numbers, which have no common order"
            )
        times[rows] = table[pc.fill_null(cells.indices, len(table) - 1).to_numpy(zero_copy_only=False)]
    return times


def _filled(column: pa.Array) -> np.ndarray:
    return pc.fill_null(column, float("nan")).to_numpy(zero_copy_only=False)


def _day_first(dataset: Dataset, column: str, messages: list[str]) -> bool:
    """Whether 3/4/2020 is the third of April: some row's number over 12 tells."""
    seen = day = month = False
    for chunk in dataset.column(column):
        for text in pc.unique(chunk).to_pylist():
            found = _YEAR_LAST.fullmatch(text.strip()) if text else None
            if found:
                seen = True
                day, month = day or int(found[1]) > 12, month or int(found[2]) > 12
    if seen and day == month:
        messages.append(
            f"{column!r} does not tell day from month, since "
            f"{'both orders occur' if day else 'all are 12 or less'}: read as month/day/year"
        )
    return day and not month


def _date(text: str, day_first: bool) -> float:
    """Microseconds since 1970, UTC where no zone is given; not-a-number when it is no date."""
    text = text.strip()
    if found := _YEAR_FIRST.fullmatch(text):
        year, month, day, rest = found.groups()
    elif found := _YEAR_LAST.fullmatch(text):
        first, second, year, rest = found.groups()
        month, day = (second, first) if day_first else (first, second)
    else:
        return float("nan")
    try:
        moment = datetime.fromisoformat(f"{year}-{int(month):02}-{int(day):02}{_clock(rest)}")
    except ValueError:
        return float("nan")
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return float((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)


def _clock(rest: str) -> str:
    """` 9:05` → `T09:05`, which datetime reads."""
    rest = rest.strip().removeprefix("T").strip()
    return "T" + (rest if rest[1:2] != ":" else f"0{rest}") if rest else ""
