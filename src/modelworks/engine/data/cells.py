"""Cells: columns as plain numbers, texts, hashes and thumbnails, whatever their Arrow type.

numbers(chunk)              float64, NaN where a cell is missing or is no number
texts(chunk)                list of str, "" where missing
thumbnail(value, root)      a small grey picture, or None where the bytes are no picture
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelworks.core.dataset import hash_column, mix
from modelworks.core.profile import MISSING, as_number

HEAD = 1 << 16
"""Bytes of a file that its content hash reads, besides its size."""
LARGEST = 256 << 20
"""Bytes of one file that are held at the most."""
SIDE = 16
"""Height and width of a thumbnail."""


def numbers(chunk: pa.Array) -> np.ndarray:
    """Cells as float64 (rows,); NaN where missing or not a number."""
    kind = chunk.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        values = pc.fill_null(chunk.cast(pa.float64(), safe=False), float("nan")).to_numpy(
            zero_copy_only=False
        )
        return np.where(np.isfinite(values), values, np.nan)
    if pa.types.is_temporal(kind):
        ticks = (
            chunk.cast(pa.timestamp("us"))
            if not pa.types.is_time(kind) and not pa.types.is_duration(kind)
            else None
        )
        if ticks is None:
            return np.full(len(chunk), np.nan)
        return pc.fill_null(ticks.cast(pa.int64()).cast(pa.float64(), safe=False), float("nan")).to_numpy(
            zero_copy_only=False
        )
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or isinstance(chunk, pa.ExtensionArray):
        return np.full(len(chunk), np.nan)
    # A table's columns have far fewer values than rows: each value is read once.
    coded = chunk.dictionary_encode() if not pa.types.is_dictionary(kind) else chunk
    table = [as_number(value) for value in coded.dictionary.to_pylist()]
    values = np.array([np.nan if value is None else value for value in [*table, None]], np.float64)
    return values[pc.fill_null(coded.indices, len(table)).to_numpy(zero_copy_only=False)]


def texts(chunk: pa.Array) -> list[str]:
    """Cells as text; missing ones as ""."""
    if isinstance(chunk, pa.ExtensionArray):
        chunk = chunk.storage
    return ["" if value is None or _is_missing(value) else _as_text(value) for value in chunk.to_pylist()]


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return "|".join(map(str, value))
    return f"{len(value)} bytes" if isinstance(value, bytes) else str(value)


def _is_missing(value: Any) -> bool:
    if isinstance(value, float):
        return value != value
    return isinstance(value, str) and value.strip().lower() in MISSING


def classes(chunk: pa.Array) -> np.ndarray:
    """Cells as comparable labels: object array of str, None where missing; 1, 1.0 and "1" are one label."""
    labels = []
    for value in chunk.to_pylist():
        if value is None or _is_missing(value):
            labels.append(None)
        elif isinstance(value, float) and value.is_integer():
            labels.append(str(int(value)))
        else:
            labels.append(_as_text(value).strip())
    return np.array(labels, object)


def content_hash(chunk: pa.Array, root: Path | None, files: bool) -> np.ndarray:
    """A 64-bit hash of each cell's content; with `files`, of the file that the cell names. uint64 (rows,)."""
    if not files:
        return hash_column(chunk)
    digests = [_file_digest(value, root) for value in chunk.to_pylist()]
    return np.frombuffer(b"".join(digests), np.uint64)


def _file_digest(value: Any, root: Path | None) -> bytes:
    data = read_bytes(value, root, HEAD)
    digest = hashlib.blake2b(digest_size=8)
    if data is None:
        digest.update(f"missing {value}".encode("utf-8", "surrogatepass"))
    else:
        digest.update(data[0].to_bytes(8, "little") + data[1])
    return digest.digest()


def read_bytes(value: Any, root: Path | None, limit: int | None = None) -> tuple[int, bytes] | None:
    """(size, first `limit` bytes) of a cell of bytes, a path or both; None where nothing can be read."""
    if isinstance(value, dict):
        value = value.get("bytes") if value.get("bytes") is not None else value.get("path")
    if isinstance(value, (bytes, bytearray)):
        return len(value), bytes(value[:limit])
    if not isinstance(value, str) or not value or "\0" in value:
        return None
    path = Path(value) if root is None else root / value
    try:
        if not path.is_file():  # reading a pipe or a device may never end
            return None
        with path.open("rb") as file:
            return path.stat().st_size, file.read(LARGEST if limit is None else limit)
    except OSError:
        return None


def combine(hashes: Iterator[np.ndarray], rows: int) -> np.ndarray:
    """One hash a row from its cells' hashes. uint64 (rows,)."""
    total = np.zeros(rows, np.uint64)
    for column in hashes:
        total = mix(total * np.uint64(0x9E3779B97F4A7C15) + column)
    return total


# ------------------------------------------------------------------------------------------- pictures
def thumbnails(
    chunk: pa.Array, root: Path | None
) -> Iterator[tuple[np.ndarray | None, tuple[int, int, str], int]]:
    """For each cell: (grey SIDE × SIDE float32 or None, (width, height, mode), bytes read)."""
    if isinstance(chunk, pa.ExtensionArray) or pa.types.is_fixed_size_list(chunk.type):
        shape = tuple(getattr(chunk.type, "shape", ()) or ())
        storage = chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk
        for value in storage:
            yield _array_thumbnail(
                np.asarray(value.values.to_numpy(zero_copy_only=False)) if value.is_valid else None, shape
            )
        return
    for value in chunk:
        yield _file_thumbnail(value.as_py(), root)


def _array_thumbnail(
    flat: np.ndarray | None, shape: tuple[int, ...]
) -> tuple[np.ndarray | None, tuple[int, int, str], int]:
    from PIL import Image

    if flat is None:
        return None, (0, 0, ""), 0
    if not shape:
        side = int(len(flat) ** 0.5)
        shape = (side, side) if side * side == len(flat) else (1, len(flat))
    picture = flat.reshape(shape).astype(np.float32)
    channels = 1
    if picture.ndim == 3:  # the short axis is the channels', first or last
        axis = 0 if shape[0] <= 4 < shape[-1] else 2
        channels = shape[axis]
        picture = picture.mean(axis=axis)
    height, width = picture.shape[:2]
    small = Image.fromarray(np.ascontiguousarray(picture), "F").resize((SIDE, SIDE), Image.Resampling.BOX)
    return (
        np.asarray(small, np.float32),
        (width, height, {1: "L", 3: "RGB", 4: "RGBA"}.get(channels, str(channels))),
        flat.nbytes,
    )


def _file_thumbnail(value: Any, root: Path | None) -> tuple[np.ndarray | None, tuple[int, int, str], int]:
    from PIL import Image

    data = read_bytes(value, root)
    if data is None:
        return None, (0, 0, ""), 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data[1]))
            size = (*picture.size, picture.mode)
            picture.draft("L", (4 * SIDE, 4 * SIDE))  # JPEG decodes small at once
            small = picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
        return np.asarray(small, np.float32), size, data[0]
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ):
        return None, (0, 0, ""), data[0]  # Pillow raises each of these on broken files
