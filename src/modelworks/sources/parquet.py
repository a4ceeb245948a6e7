"""Parquet files, read row group by row group: `data: reviews.parquet`.

Dictionary columns come decoded; image and audio columns as Hugging Face datasets writes them
(struct of `bytes` and `path`) pass through. A damaged row group goes to the quarantine, its rows counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from modelworks.core.errors import DataError, did_you_mean
from modelworks.core.source import Quarantine, Source

if TYPE_CHECKING:
    import pyarrow as pa


class Parquet(Source):
    """A table in columns."""

    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".pq")

    path: Path
    """The file."""
    columns: list[str] | None = None
    """Columns to read; all when not given."""

    def read(self, quarantine: Quarantine) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        from modelworks.sources._files import BYTES, ROWS, head, located, quarantine_many, slices
        from modelworks.sources._tables import plain, plain_schema, sound

        path = located(self.path)
        start = head(path, 4)
        if start != b"PAR1":
            raise DataError(f"{path}: is not a Parquet file" if start else f"{path}: the file is empty")
        damage = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError, MemoryError)
        try:
            file = pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False)
            names = list(file.schema_arrow.names)
            counts = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        except damage as error:
            raise DataError(f"{path}: cannot be read as Parquet: {_line(error)}") from None
        for name in self.columns or ():
            if name not in names:
                raise DataError(f"{path}: no column {name!r}; {did_you_mean(name, names)}")
        if not names:
            raise DataError(f"{path}: has no columns")
        chosen = names if self.columns is None else self.columns
        schema = plain_schema(
            pa.schema([file.schema_arrow.field(names.index(name)) for name in chosen])
            if self.columns is not None
            else file.schema_arrow
        )
        seen = good_rows = 0
        for group, count in enumerate(counts):
            read = 0
            try:
                size = max(file.metadata.row_group(group).total_byte_size, 1)
                rows = max(1, min(ROWS, int(BYTES * count / size)))
                for batch in file.iter_batches(rows, row_groups=[group], columns=self.columns):
                    batch = batch.select(chosen) if self.columns is not None else batch
                    good = sound(batch, path.name, seen + read, quarantine, good_rows)
                    good_rows += good.num_rows
                    read += batch.num_rows
                    yield from slices(plain(good, schema))
            except damage as error:
                first = f"{path.name} row {seen + read + 1}"
                quarantine_many(
                    quarantine, max(count - read, 1), first, _line(error), "damaged row group", good_rows
                )
            seen += count

    def fingerprint(self) -> str:
        from modelworks.sources._files import sha256

        return sha256(self.path, self)

    @property
    def root(self) -> Path | None:
        return self.path.expanduser().parent


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
