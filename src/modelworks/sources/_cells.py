"""Rows of cells from blocks of CSV text, fast where the text is regular and exact where it is not.

    table = Table("reviews.csv", shape, missing=[""], quarantine=quarantine)
    for block in blocks:
        for batch in table.feed(block): ...
    for batch in table.close(): ...

A block whose quotes are all well formed is parsed by Arrow as a whole. Any other block is parsed by Python's
csv module row by row, so that each bad row is known by its line. Both read the same rows.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from modelworks.core.source import Quarantine
from modelworks.sources._files import LONGEST
from modelworks.sources._sniff import Shape

_RETRIES = 20  # rows with a quote that is never closed, per buffer, before each line is taken for a row


class Table:
    """Turns blocks into batches; holds at most one row and one block."""

    def __init__(self, name: str, shape: Shape, missing: list[str], quarantine: Quarantine) -> None:
        self.name = name
        self.names = list(shape.names)
        self.delimiter = shape.delimiter
        self.quarantine = quarantine
        self.missing = set(missing)
        self.line = 1
        """The next line to read, from 1."""
        self.rows = 0
        self._skip = shape.header_lines
        self._buffer = b""
        self._want = 1
        self._schema = pa.schema([(column, pa.string()) for column in self.names])
        self._convert = pacsv.ConvertOptions(
            column_types=self._schema,
            null_values=missing,
            strings_can_be_null=bool(missing),
            quoted_strings_can_be_null=True,
        )
        # Arrow wants a delimiter of one byte.
        ascii_only = self.delimiter.isascii()
        self._parse = (
            pacsv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True) if ascii_only else None
        )
        self._quoting: Any = csv.QUOTE_MINIMAL
        self._discarding = False

    def feed(self, block: bytes) -> Iterator[pa.RecordBatch]:
        """Add a block; gives the rows that are complete."""
        if self._discarding:
            at = _first_end(block)
            if at < 0:
                return
            block, self._discarding = block[at:], False
            self.line += 1
        self._buffer += block
        if len(self._buffer) >= self._want:
            yield from self._drain(False)

    def close(self, cut: bool = False) -> Iterator[pa.RecordBatch]:
        """The last rows. `cut`: the file ends too early, so an unfinished last row is not one."""
        if cut:
            end = max(self._buffer.rfind(b"\n"), self._buffer.rfind(b"\r")) + 1
            self._buffer = self._buffer[:end]
        yield from self._drain(True)

    # ------------------------------------------------------------------ one buffer
    def _drain(self, last: bool) -> Iterator[pa.RecordBatch]:
        if self._skip and not self._skip_header(last):
            return
        retries, self._quoting = 0, csv.QUOTE_MINIMAL
        while self._buffer:
            before = len(self._buffer)
            batch = self._fast(last)
            if batch is None:
                batch = self._exact(last)
            if batch.num_rows:
                self.rows += batch.num_rows
                yield batch
            if len(self._buffer) < before:
                continue
            # Not one whole row: wait for more, up to the longest row that we hold.
            if not last and before < LONGEST:
                self._want = min(2 * before, LONGEST)
                return
            self._never_closed(last)
            retries += 1
            if retries > _RETRIES:
                # So many open quotes are no accident: in the rest of this buffer a quote is a letter.
                self._quoting = csv.QUOTE_NONE
        self._want = 1

    def _skip_header(self, last: bool) -> bool:
        """Drop the header's lines; False when they are not all here yet."""
        ends = _line_ends(np.frombuffer(self._buffer, np.uint8), last)
        if len(ends) < self._skip and not last:
            self._want = 2 * len(self._buffer)
            return False
        cut = int(ends[self._skip - 1]) + 1 if len(ends) >= self._skip else len(self._buffer)
        self._buffer = self._buffer[cut:]
        self.line += self._skip
        self._skip = 0
        return True

    def _fast(self, last: bool) -> pa.RecordBatch | None:
        """All whole rows of the buffer by Arrow; None where only the exact way will do."""
        data = np.frombuffer(self._buffer, np.uint8)
        if b"\0" in self._buffer or self._parse is None or self._quoting != csv.QUOTE_MINIMAL:
            return None
        ends = _line_ends(data, last)
        quotes = np.flatnonzero(data == 34)
        if len(quotes):
            # Well formed: odd quotes open at a cell's start, even ones end a cell, or the two are a `""`.
            ends = ends[np.searchsorted(quotes, ends) % 2 == 0]
        if not len(ends):
            return None
        stop = int(ends[-1]) + 1
        quotes = quotes[quotes < stop]
        if len(quotes) and not self._well_formed(data[:stop], quotes):
            return None
        starts = np.concatenate(([0], ends[:-1] + 1))
        # A blank line is no row: nothing before its LF, CR or CRLF.
        blank = (starts == ends) & ((data[ends] == 10) | (data[ends] == 13))
        blank |= (starts + 1 == ends) & (data[starts] == 13) & (data[ends] == 10)
        want = int(np.count_nonzero(~blank))
        options = pacsv.ReadOptions(column_names=self.names, use_threads=False, block_size=stop + 1)
        try:
            found = (
                pacsv.read_csv(pa.py_buffer(self._buffer[:stop]), options, self._parse, self._convert)
                if want
                else None
            )
        except (pa.ArrowException, ValueError):
            return None
        if found is not None and found.num_rows != want:
            return None
        self.line += _count_lines(self._buffer[:stop], last and stop == len(data))
        self._buffer = self._buffer[stop:]
        if found is None:
            return pa.RecordBatch.from_arrays(
                [pa.array([], pa.string())] * len(self.names), schema=self._schema
            )
        return found.combine_chunks().to_batches()[0]

    def _well_formed(self, data: np.ndarray, quotes: np.ndarray) -> bool:
        opening, closing = quotes[0::2], quotes[1::2]
        if len(opening) != len(closing):
            return False
        edge = np.zeros(256, bool)
        edge[[10, 13, 34, ord(self.delimiter)]] = True
        padded = np.concatenate(([10], data, [10]))
        return bool(edge[padded[opening]].all() and edge[padded[closing + 2]].all())

    def _exact(self, last: bool) -> pa.RecordBatch:
        """All whole rows of the buffer by the csv module; bad ones to the quarantine."""
        buffer = self._buffer
        if not last:
            # What follows the last line's end is no whole line; a lone CR at the end may be half of a CRLF.
            ends = _line_ends(np.frombuffer(buffer, np.uint8), False)
            buffer = buffer[: int(ends[-1]) + 1] if len(ends) else b""
        text = buffer.decode("utf-8", "surrogateescape")
        clean = text.isascii() or not _has_bad(text)
        raw: list[str] = []  # the row's own lines, for the quarantine
        read = 0  # characters given to the reader
        pending = False

        def walk() -> Iterator[str]:
            nonlocal pending, read
            for line in io.StringIO(text, newline=""):
                read += len(line)
                if len(raw) < 20:
                    raw.append(line[:500])
                yield line
            pending = True  # asked for more: the row that the reader is in, if any, is not whole

        rows: list[list[str]] = []
        done = consumed = 0
        csv.field_size_limit(1 << 30)
        reader = csv.reader(walk(), delimiter=self.delimiter, quoting=self._quoting)
        while True:
            fault = kind = ""
            try:
                row = next(reader)
            except StopIteration:
                done, consumed = reader.line_num, read
                break
            except csv.Error as error:
                row, fault, kind = [], str(error), "not readable as CSV"
            if pending:
                break
            if row and len(row) != len(self.names):
                fault, kind = f"wants {len(self.names)} cells, has {len(row)}", "wrong number of cells"
            elif any("\0" in cell for cell in row):
                fault = kind = "holds NUL bytes"
            elif not clean and any(_has_bad(cell) for cell in row):
                fault = kind = "bytes that are no text in this encoding"
            if fault:
                self._bad(self.line + done, fault, "".join(raw), kind, self.rows + len(rows))
            elif row:
                rows.append(row)
            done, consumed = reader.line_num, read
            raw.clear()
        self._buffer = self._buffer[len(text[:consumed].encode("utf-8", "surrogateescape")) :]
        self.line += done
        return self._batch(rows)

    def _batch(self, rows: list[list[str]]) -> pa.RecordBatch:
        missing = self.missing
        arrays = [
            pa.array([None if cell in missing else cell for cell in column], pa.string())
            for column in (zip(*rows, strict=True) if rows else [()] * len(self.names))
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _never_closed(self, last: bool) -> None:
        """Quarantine the line that a quote opens in, and read on behind it."""
        data = self._buffer
        end = _first_end(data)
        if end < 0 and not last:
            reason = kind = f"row longer than {LONGEST >> 20} MB"
            self._discarding = True  # the rest of this line comes with the next blocks
        else:
            reason, kind = "a quote opens here and is never closed", "quote never closed"
        self._bad(self.line, reason, data[:2000].decode("utf-8", "replace").splitlines()[0], kind, self.rows)
        self._buffer = data[end:] if end >= 0 else b""
        self.line += not self._discarding

    def _bad(self, line: int, reason: str, text: str, kind: str, at: int) -> None:
        shown = text[:500].rstrip("\r\n").encode("utf-8", "replace").decode("utf-8")
        self.quarantine.add(f"{self.name} line {line}", reason, shown, kind, at)


def _line_ends(data: np.ndarray, last: bool) -> np.ndarray:
    """Index of the last byte of each line (LF, CRLF, a lone CR), and of the data where it is the last."""
    is_end = data == 10
    returns = np.flatnonzero(data == 13)
    if len(returns):
        inner = returns[returns < len(data) - 1]
        is_end[inner[data[inner + 1] != 10]] = True
        if last and len(data) and data[-1] == 13:
            is_end[-1] = True
    if last and len(data):
        is_end[-1] = True
    return np.flatnonzero(is_end)


def _first_end(data: bytes) -> int:
    """Where the second line begins; -1 when there is but one."""
    found = [at for at in (data.find(b"\n"), data.find(b"\r")) if at >= 0]
    if not found:
        return -1
    return min(found) + (2 if data[min(found) :][:2] == b"\r\n" else 1)


def _count_lines(data: bytes, last: bool) -> int:
    """Lines in bytes, those inside quotes too."""
    return len(_line_ends(np.frombuffer(data, np.uint8), last or data[-1:] == b"\r"))


def _has_bad(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
