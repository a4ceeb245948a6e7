"""Plain text: one row a line, a paragraph, a block or the whole file, in the column `text`: `data: poems.txt`.

Blank lines are no rows. Bytes that are no text and lines beyond 16 MB go to the quarantine, by line number.
`unit: block` leaves nothing out: its rows, joined, are the file's text, as language models want it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveInt

from modelworks.core.errors import DataError
from modelworks.core.source import Quarantine, Source

if TYPE_CHECKING:
    import pyarrow as pa

_WHOLE = 256 << 20  # most bytes of a file that becomes one row


class Text(Source):
    """Lines of text."""

    suffixes: ClassVar[tuple[str, ...]] = (".txt", ".txt.gz")

    path: Path
    """The file; gzip is recognised by content."""
    unit: Literal["line", "paragraph", "file", "block"] | None = None
    """What becomes a row. Paragraphs are parted by blank lines; blocks are consecutive pieces of the file. None: a
    line, or a block for tasks that learn from text alone."""
    block: PositiveInt = 4096
    """Most characters of a block. It ends at a line's end; a longer line is cut where the block is full."""
    encoding: str | None = None
    """Text encoding; found out when not given (utf-8, utf-16, gb18030, and latin-1 last)."""

    @property
    def continuous(self) -> bool:
        return self.unit == "block"

    def as_text(self) -> Text:
        return self.but(unit="block") if self.unit is None else self

    def read(self, quarantine: Quarantine) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        from modelworks.sources._files import CutShort, chunks, head, lines, located, refuse_binary
        from modelworks.sources._text import detect, known, utf8

        path = located(self.path)
        refuse_binary(path, head(path, 4096))
        encoding = known(self.encoding) if self.encoding else detect(path)
        if self.unit == "block":
            from modelworks.sources._blocks import blocks

            yield from _batches(blocks(utf8(chunks(path), encoding), self.block, path.name, quarantine))
            return
        limit = 8 << 20
        rows: list[str] = []
        size = number = held = 0
        part: list[str] = []
        try:
            for number, line in lines(utf8(chunks(path), encoding)):
                text = None if line is None or b"\0" in line else _decoded(line)
                if text is None:
                    reason = (
                        "line longer than 16 MB"
                        if line is None
                        else "bytes that are no text in this encoding"
                    )
                    quarantine.add(f"{path.name} line {number}", reason, repr((line or b"")[:200]))
                    continue
                if self.unit in (None, "line"):
                    if text.strip():
                        rows.append(text)
                        size += len(text)
                elif text.strip() or self.unit == "file":
                    part.append(text)
                    held += len(text) + 1
                    if held > _WHOLE:
                        raise DataError(
                            f"{path} line {number}: one {self.unit} is over {_WHOLE >> 20} MB", "unit: line"
                        )
                elif part:
                    rows.append("\n".join(part))
                    size, held, part = size + held, 0, []
                if len(rows) >= 8192 or size > limit:
                    yield pa.record_batch({"text": pa.array(rows, pa.string())})
                    rows, size = [], 0
        except CutShort as error:
            where = f"{path.name} line {number + 1}"
            quarantine.add(where, f"{error}: this line and all after it are lost", kind="file cut short")
        if any(line.strip() for line in part):
            rows.append("\n".join(part))
        if rows:
            yield pa.record_batch({"text": pa.array(rows, pa.string())})

    def fingerprint(self) -> str:
        from modelworks.sources._files import sha256

        return sha256(self.path, self)


def _batches(texts: Iterator[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    rows: list[str] = []
    size = 0
    for text in texts:
        rows.append(text)
        size += len(text)
        if len(rows) >= 8192 or size > 4 << 20:
            yield pa.record_batch({"text": pa.array(rows, pa.string())})
            rows, size = [], 0
    if rows:
        yield pa.record_batch({"text": pa.array(rows, pa.string())})


def _decoded(line: bytes) -> str | None:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return None
