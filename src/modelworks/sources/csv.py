"""CSV and TSV files, plain or gzip: `data: reviews.csv`.

Cells come as strings; empty cells as nulls. A row that cannot be read (wrong number of cells, bytes that are
no text, a quote that is never closed) goes to the quarantine with its line number, and the rest is read on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field as Setting
from pydantic import field_validator

from modelworks.core.errors import DataError
from modelworks.core.source import Quarantine, Source

if TYPE_CHECKING:
    import pyarrow as pa


class Csv(Source):
    """A table as text."""

    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv", ".csv.gz", ".tsv.gz")

    path: Path
    """The file; gzip is recognised by content."""
    delimiter: str | None = Setting(default=None, min_length=1, max_length=1)
    """What stands between cells; found out from the first rows when not given (`,` tab `;` `|`)."""
    encoding: str | None = None
    """Text encoding; found out when not given (utf-8, utf-16, gb18030, and latin-1 last)."""
    header: bool | Literal["auto"] = "auto"
    """Whether the first row names the columns."""
    columns: list[str] | None = None
    """Column names: of a file without a header, or instead of its header where `header: true`."""
    missing: list[str] = [""]
    """Cells that are exactly one of these become nulls."""

    @field_validator("delimiter")
    @classmethod
    def _a_delimiter(cls, value: str | None) -> str | None:
        if value is not None and value in '"\r\n\0\ufeff':
            raise ValueError(f"{value!r} cannot stand between cells")
        return value

    def read(self, quarantine: Quarantine) -> Iterator[pa.RecordBatch]:
        from modelworks.sources._cells import Table
        from modelworks.sources._files import CutShort, chunks, head, located, refuse_binary, slices
        from modelworks.sources._sniff import Shape
        from modelworks.sources._text import detect, known, utf8

        path = located(self.path)
        refuse_binary(path, head(path, 4096))
        encoding = known(self.encoding) if self.encoding else detect(path)
        shape = Shape.of(utf8(chunks(path), encoding), self, tab=".tsv" in path.name.lower())
        table = Table(path.name, shape, self.missing, quarantine)
        try:
            for block in utf8(chunks(path), encoding):
                for batch in table.feed(block):
                    yield from slices(batch)
            ending = ""
        except CutShort as error:
            ending = str(error)
        for batch in table.close(cut=bool(ending)):
            yield from slices(batch)
        if ending:
            where = f"{path.name} line {table.line}"
            quarantine.add(where, f"{ending}: this row and all after it are lost", kind="file cut short")
        if not table.rows and not quarantine.count and not table.line:
            raise DataError(f"{self.path}: the file is empty")

    def fingerprint(self) -> str:
        from modelworks.sources._files import sha256

        return sha256(self.path, self)

    @property
    def root(self) -> Path | None:
        return self.path.expanduser().parent
