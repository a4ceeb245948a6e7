"""Reading files: chunks of bytes (gzip or plain), numbered lines, hashes, batches of the right size.

    for number, line in lines(chunks(path)): ...

Shared by the kinds of this folder. Nothing heavy is imported here, so that a path is checked in milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.core.errors import DataError, UserError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

    from modelworks.core.source import Quarantine, Source

ROWS = 8192
"""Most rows of a batch."""
BYTES = 16 << 20
"""About the most bytes of a batch."""
LONGEST = 16 << 20
"""Most bytes of one text row; a longer one is quarantined, so that memory stays bounded."""
_CHUNK = 1 << 20
_MAGIC = {
    b"PK\x03\x04": "a ZIP archive (an Excel workbook begins so too)",
    b"PAR1": "a Parquet file",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF": "a PDF",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x7fELF": "a program",
    b"ARROW1": "an Arrow file",
    b"7z\xbc\xaf": "a 7z archive",
    b"BZh": "bzip2-compressed",
    b"\xfd7zXZ": "xz-compressed",
    b"\x28\xb5\x2f\xfd": "zstd-compressed",
    b"SQLite format 3": "an SQLite database",
}


class CutShort(Exception):
    """Compressed data that ends too early or is damaged; what came before it has been given out."""


def located(path: Path | str) -> Path:
    """The regular file at a path; UserError with close names when it is not there."""
    found = Path(path).expanduser()
    try:
        if found.is_file():
            return found
        if found.is_dir():
            raise UserError(f"{path}: is a folder, and a file is wanted")
        if found.exists():
            raise UserError(f"{path}: is not a plain file")
    except (OSError, ValueError) as error:  # a name that is too long, or holds a NUL
        if isinstance(error, UserError):
            raise
        raise UserError(f"{str(path)[:200]!r}: {getattr(error, 'strerror', None) or error}") from None
    raise UserError(f"{path}: no such file", nearby(found))


def nearby(path: Path) -> str:
    """`did you mean 'reviews.csv'?` from the names beside a path that does not exist."""
    try:
        names = sorted(entry.name for entry in path.parent.iterdir() if not entry.name.startswith("."))[:1000]
    except OSError:
        return f"there is no folder {path.parent}"
    return did_you_mean(path.name, names) or f"{path.parent} is empty"


def chunks(path: Path, size: int = _CHUNK) -> Iterator[bytes]:
    """A file's bytes, decompressed where they begin as gzip. Raises CutShort after what could be read."""
    try:
        with path.open("rb") as file:
            first = file.read(size)
            if first[:2] != b"\x1f\x8b":
                while first:
                    yield first
                    first = file.read(size)
                return
            inflate = zlib.decompressobj(31)
            data = first
            while True:
                # `size` bounds what one call gives: a small file cannot blow up memory.
                before = inflate.copy()
                try:
                    out = inflate.decompress(data, size)
                except zlib.error:
                    yield from _salvaged(before, data, size)
                    raise
                if out:
                    yield out
                if inflate.eof:
                    data = inflate.unused_data or file.read(size)
                    if not data.strip(b"\0"):
                        return
                    inflate = zlib.decompressobj(31)
                    continue
                data = inflate.unconsumed_tail
                if not data and len(out) < size:
                    data = file.read(size)
                    if not data:
                        break
            raise CutShort("the compressed data ends too early")
    except zlib.error as error:
        raise CutShort(f"the compressed data is damaged ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def _salvaged(inflate: Any, data: bytes, size: int) -> Iterator[bytes]:
    """What comes out of damaged data before the damage: fed byte by byte, so that no more is lost."""
    held = bytearray()
    try:
        for byte in data:
            held += inflate.decompress(bytes([byte]))
            if len(held) >= size:
                yield bytes(held)
                held.clear()
    except zlib.error:
        pass
    yield bytes(held)


def head(path: Path, size: int = _CHUNK) -> bytes:
    """The first bytes of the content, fewer when the file is shorter or damaged."""
    parts, total = [], 0
    try:
        for chunk in chunks(path):
            parts.append(chunk)
            total += len(chunk)
            if total >= size:
                break
    except CutShort:
        pass
    return b"".join(parts)[:size]


def refuse_binary(path: Path, start: bytes) -> None:
    """DataError when content that should be text is empty or plainly something else."""
    if not start:
        raise DataError(f"{path}: the file is empty")
    for magic, what in _MAGIC.items():
        if start.startswith(magic):
            raise DataError(f"{path}: is {what}, not text", "name the file after what it is, or convert it")


def lines(blocks: Iterable[bytes], longest: int = LONGEST) -> Iterator[tuple[int, bytes | None]]:
    """(line number from 1, line without its end); None for a line longer than `longest` bytes.

    CutShort passes through once the whole lines before it are given out."""
    number, rest, skipping = 0, b"", False
    cut: CutShort | None = None
    source = iter(blocks)
    while True:
        try:
            block = next(source)
        except StopIteration:
            break
        except CutShort as error:
            cut = error
            break
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            number += 1
            yield number, (None if skipping or len(line) > longest else line.removesuffix(b"\r"))
            skipping = False
        if len(rest) > longest:
            rest, skipping = b"", True
    if cut:
        raise cut
    if rest or skipping:
        yield number + 1, (None if skipping else rest.removesuffix(b"\r"))


def sha256(path: Path, source: Source | None = None, ignore: Iterable[str] = ("path",)) -> str:
    """SHA-256 of a file's bytes, and of those settings of its source that change what is read."""
    digest = hashlib.sha256()
    try:
        with located(path).open("rb") as file:
            while block := file.read(_CHUNK):
                digest.update(block)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    if source is not None:
        digest.update(changed(source, ignore))
    return digest.hexdigest()


def changed(source: Source, ignore: Iterable[str] = ("path",)) -> bytes:
    """The settings that differ from their defaults, as bytes to hash; nothing when none does."""
    skip = set(ignore)
    given: Mapping[str, Any] = {
        name: getattr(source, name)
        for name, setting in type(source).model_fields.items()
        if name not in skip and getattr(source, name) != setting.get_default(call_default_factory=True)
    }
    return json.dumps(given, sort_keys=True, default=str).encode() if given else b""


def slices(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """A batch cut to at most 8,192 rows and about 16 MB."""
    if not batch.num_rows:
        return
    rows = min(ROWS, max(1, int(batch.num_rows * BYTES / max(batch.nbytes, 1))))
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def unique_names(names: Iterable[str | None]) -> list[str]:
    """Column names that are there and differ: blanks become `column_3`, a second `age` becomes `age_2`."""
    result: list[str] = []
    taken: set[str] = set()
    given = [(name or "").strip() for name in names]
    reserved = set(given)
    for position, name in enumerate(given, 1):
        base = name or f"column_{position}"
        candidate, copy = base, 1
        while candidate in taken or (candidate != name and candidate in reserved):
            copy += 1
            candidate = f"{base}_{copy}"
        taken.add(candidate)
        result.append(candidate)
    return result


def quarantine_many(
    quarantine: Quarantine, count: int, where: str, reason: str, kind: str, at: int | None = None
) -> None:
    """Count many rows that share one fault without writing each down."""
    if count > 0:
        quarantine.add(where, reason, kind=kind, at=at)
        if at is not None and quarantine.places is not None:
            quarantine.places.extend([quarantine.places[-1]] * (count - 1))
        quarantine.count += count - 1
        quarantine.reasons[kind] += count - 1
