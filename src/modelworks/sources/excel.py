"""Excel and OpenDocument workbooks (extra `excel`): `data: survey.xlsx`.

One sheet is read: the first, unless `sheet` names another. Columns of numbers and of dates keep their type,
others become text. The workbook is held in memory, which its format (1,048,576 rows a sheet) bounds.
"""

from __future__ import annotations

import datetime
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from modelworks.core.errors import DataError, did_you_mean, need
from modelworks.core.source import Quarantine, Source

if TYPE_CHECKING:
    import pyarrow as pa

_UNPACKED = 1 << 31  # bytes; more than that in a workbook is a decompression bomb


class Excel(Source):
    """One sheet of a workbook."""

    suffixes: ClassVar[tuple[str, ...]] = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods")

    path: Path
    """The workbook."""
    sheet: str | int | None = None
    """The sheet's name, or its number from 1; the first when not given."""
    header: bool = True
    """Whether the first row that is not blank names the columns."""

    def read(self, quarantine: Quarantine) -> Iterator[pa.RecordBatch]:
        from modelworks.sources._files import located, slices

        path = located(self.path)
        rows = [row for row in self._cells(path) if any(cell not in ("", None) for cell in row)]
        if not rows:
            raise DataError(f"{path}: the sheet is empty")
        first = rows.pop(0) if self.header else [""] * len(rows[0])
        batch = _table(first, rows)
        if batch is None:
            raise DataError(f"{path}: the sheet has a header but no row")
        yield from slices(batch)

    def _cells(self, path: Path) -> Sequence[Sequence[Any]]:
        calamine = need("python_calamine", "excel", f"reading {path.name}")
        if not path.stat().st_size:
            raise DataError(f"{path}: the file is empty")
        if zipfile.is_zipfile(path):
            try:
                with zipfile.ZipFile(path) as archive:
                    unpacked = sum(item.file_size for item in archive.infolist())
            except (zipfile.BadZipFile, ValueError, OSError) as error:
                raise DataError(f"{path}: cannot be read as a workbook: {error}") from None
            if unpacked > _UNPACKED:
                raise DataError(f"{path}: unpacks to {unpacked >> 20:,} MB: refused", "save the sheet as CSV")
        try:
            book = calamine.CalamineWorkbook.from_path(str(path))
            names = list(book.sheet_names)
            if not names:
                raise DataError(f"{path}: has no sheet")
            name = self._choose(path, names)
            return book.get_sheet_by_name(name).to_python(skip_empty_area=True)
        except DataError:
            raise
        except BaseException as error:
            # The reader is written in Rust: a panic on a hostile file arrives as a BaseException of its own.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise DataError(f"{path}: cannot be read as a workbook: {reason}") from None

    def _choose(self, path: Path, names: list[str]) -> str:
        if self.sheet is None:
            return names[0]
        if isinstance(self.sheet, int):
            if 1 <= self.sheet <= len(names):
                return names[self.sheet - 1]
            raise DataError(f"{path}: no sheet {self.sheet}; it has {len(names)}")
        if self.sheet not in names:
            raise DataError(f"{path}: no sheet {self.sheet!r}; {did_you_mean(self.sheet, names)}")
        return self.sheet

    def fingerprint(self) -> str:
        from modelworks.sources._files import sha256

        return sha256(self.path, self)

    @property
    def root(self) -> Path | None:
        return self.path.expanduser().parent


def _table(first: Sequence[Any], rows: list[Sequence[Any]]) -> pa.RecordBatch | None:
    import pyarrow as pa

    from modelworks.sources._files import unique_names

    if not rows:
        return None
    arrays, names = [], []
    for position in range(len(first)):
        values = [row[position] if position < len(row) and row[position] != "" else None for row in rows]
        name = "" if first[position] is None else _text(first[position]).strip()
        if not name and all(value is None for value in values):
            continue  # an empty column at the sheet's side
        names.append(name)
        arrays.append(_column(values))
    return pa.RecordBatch.from_arrays(arrays, names=unique_names(names))


def _column(values: list[Any]) -> pa.Array:
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    if kinds and kinds <= {int, float}:
        whole = all(value is None or (float(value).is_integer() and abs(value) < 2**53) for value in values)
        kind = pa.int64() if whole else pa.float64()
        return pa.array([None if v is None else int(v) if whole else float(v) for v in values], kind)
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds and kinds <= {datetime.date, datetime.datetime}:
        times = [
            None
            if v is None
            else v
            if type(v) is datetime.datetime
            else datetime.datetime(v.year, v.month, v.day)
            for v in values
        ]
        return pa.array(times, pa.timestamp("us"))
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _text(value: Any) -> str:
    """A cell as people see it: 3, not 3.0."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).encode("utf-8", "replace").decode("utf-8")
