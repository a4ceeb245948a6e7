"""What a CSV file looks like, from its first rows: delimiter, header, column names.

shape = Shape.of(blocks, settings, tab=False)
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelworks.core.errors import DataError
from modelworks.core.profile import as_number
from modelworks.sources._files import CutShort, unique_names

if TYPE_CHECKING:
    from modelworks.sources.csv import Csv

DELIMITERS = (",", "\t", ";", "|")
_SAMPLE = 256 << 10
_ROWS = 100


@dataclass(frozen=True)
class Shape:
    """How to read the rows."""

    delimiter: str
    names: tuple[str, ...]
    header_lines: int
    """Lines up to and with the header, which hold no row."""

    @classmethod
    def of(cls, blocks: Iterable[bytes], settings: Csv, tab: bool) -> Shape:
        """The shape, from about the first 256 kB and the settings, which go first."""
        text, whole = _start(blocks)
        path = settings.path
        if text.count("\0") > max(16, len(text) // 20):
            raise DataError(
                f"{path}: is not text: {text.count(chr(0)):,} of its first {len(text):,} characters are NUL"
            )
        # Excel's own first line: it names the delimiter and is no row.
        marked = text[:4].lower() == "sep=" and text[5:6] in ("\n", "\r")
        delimiter = settings.delimiter or (text[4] if marked else _delimiter(text, whole, tab))
        skipped = 1 if marked else 0
        records = _records(text, delimiter, whole, skipped)
        if not records:
            quoted = text.lstrip().startswith('"') or '"' in text[:2000]
            raise DataError(
                f"{path}: no whole row in it"
                + ("; is a quote of the first row never closed?" if quoted else "")
            )
        first, first_end = records[0]
        rows = [row for row, _ in records[1:]]
        header = (
            settings.header
            if settings.header != "auto"
            else settings.columns is None and is_header(first, rows)
        )
        names = settings.columns or (first if header else [""] * len(first))
        if settings.columns is not None and len(settings.columns) != len(first):
            raise DataError(
                f"{path}: its first row has {len(first)} cells, but `columns` names {len(settings.columns)}"
            )
        return cls(delimiter, tuple(unique_names(map(_clean, names))), first_end if header else skipped)


def _clean(name: str) -> str:
    return name.encode("utf-8", "replace").decode("utf-8").replace("\0", "")[:500]


def _start(blocks: Iterable[bytes]) -> tuple[str, bool]:
    """The first text, and whether it is all there is. Grows past 256 kB only for a long first line."""
    data = b""
    whole = True
    try:
        for block in blocks:
            data += block
            if len(data) > _SAMPLE and (b"\n" in data or b"\r" in data or len(data) > 16 * _SAMPLE):
                whole = False
                break
    except CutShort:
        whole = False
    return data.decode("utf-8", "replace"), whole


def _records(text: str, delimiter: str, whole: bool, skip: int = 0) -> list[tuple[list[str], int]]:
    """(cells, last line) of the first rows; blank lines left out, and a row that the sample cuts."""
    csv.field_size_limit(1 << 30)
    pending = False

    def walk() -> Iterator[str]:
        nonlocal pending
        yield from itertools.islice(io.StringIO(text, newline=""), skip, None)
        pending = True

    reader = csv.reader(walk(), delimiter=delimiter)
    found = []
    try:
        for row in reader:
            if pending:  # in the middle of a quoted cell
                return found
            if row:
                found.append((row, reader.line_num + skip))
            if len(found) > _ROWS:
                return found
    except csv.Error:
        return found
    return found if whole or len(found) < 2 else found[:-1]


def _delimiter(text: str, whole: bool, tab: bool) -> str:
    """The candidate that cuts the first row in two or more and most others into just as many."""
    best, choice = (0.5, 0), "\t" if tab else ","
    for candidate in DELIMITERS:
        counts = [len(row) for row, _ in _records(text, candidate, whole)]
        if counts and counts[0] > 1:
            score = (sum(count == counts[0] for count in counts) / len(counts), counts[0])
            if tab and candidate == "\t":
                return candidate
            if score > best:
                best, choice = score, candidate
    return choice


def is_header(first: list[str], rows: list[list[str]]) -> bool:
    """Whether the first row names columns: its cells are unlike what stands below them."""
    numbers = [as_number(cell) for cell in first]
    given = [int(number) for number in numbers if number is not None and number == int(number)]
    if (
        len(given) > 2
        and given[0] in (0, *range(1900, 2101))
        and given == list(range(given[0], given[0] + len(given)))
    ):
        return True  # columns named 0, 1, 2 … or by year
    votes = 0
    rows = [row for row in rows if row != first]  # files that were joined repeat their header
    for position, cell in enumerate(first):
        below = [row[position] for row in rows if len(row) == len(first) and row[position].strip()]
        if below and sum(as_number(value) is not None for value in below) >= 0.9 * len(below):
            votes += 1 if numbers[position] is None else -1
        elif numbers[position] is not None and not below:
            votes -= 1
        elif cell.strip() and cell in below:
            votes -= 1  # a name does not come again as a value
    return votes > 0 or (votes == 0 and all(number is None for number in numbers))
