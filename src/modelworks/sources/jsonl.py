"""JSON rows, one object a line (.jsonl, .ndjson) or a list of objects (.json), or gzip: `data: chats.jsonl`.

The columns are the union of all keys, found in a first pass over the file. Lists stay lists; a column whose
values are of several types becomes text. A line that is no object goes to the quarantine with its number.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from modelworks.core.errors import DataError
from modelworks.core.source import Quarantine, Source

if TYPE_CHECKING:
    import pyarrow as pa


class Jsonl(Source):
    """Rows as JSON objects."""

    suffixes: ClassVar[tuple[str, ...]] = (
        ".jsonl",
        ".ndjson",
        ".json",
        ".jsonl.gz",
        ".ndjson.gz",
        ".json.gz",
    )

    path: Path
    """The file; gzip is recognised by content."""

    def read(self, quarantine: Quarantine) -> Iterator[pa.RecordBatch]:
        from modelworks.sources._files import head, located, refuse_binary
        from modelworks.sources._json import Columns, objects

        path = located(self.path)
        refuse_binary(path, head(path, 4096))
        columns = Columns(str(path))
        for row in objects(path, Quarantine(keep=0)):
            columns.see(row)
        if not columns.types:
            for _ in objects(path, quarantine):
                pass
            reason = next(iter(quarantine.reasons), "no object in it")
            raise DataError(
                f"{path}: no usable row: {reason}", "one JSON object a line, or a list of objects"
            )
        yield from columns.batches(objects(path, quarantine))

    def fingerprint(self) -> str:
        from modelworks.sources._files import sha256

        return sha256(self.path, self)

    @property
    def root(self) -> Path | None:
        return self.path.expanduser().parent
