"""Files inside columns: bytes, paths, or {bytes, path} structs; loaded in threads, sampled within bounds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from modelworks.fields._cells import plain
from modelworks.fields._sample import priorities

R = TypeVar("R")
LARGEST = 256 << 20
"""Bytes of one file that we are willing to hold."""


class Unreadable(ValueError):
    """Why a value cannot be used; the row is marked bad with this text."""


def load(value: Any, root: Path | None) -> bytes:
    """The bytes of a value. Raises Unreadable."""
    if isinstance(value, dict):
        value = value.get("bytes") if value.get("bytes") is not None else value.get("path")
    if isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(value)
    elif isinstance(value, str) and value.strip():
        data = _read(value.strip(), root)
    elif value is None or value == "":
        raise Unreadable("missing file")
    else:
        kind = value if isinstance(value, pa.DataType) else type(value).__name__
        raise Unreadable(f"wants a file's bytes or path, got {kind}")
    if not data:
        raise Unreadable("empty file")
    if len(data) > LARGEST:
        raise Unreadable(f"file of {len(data) >> 20:,} MB; the most is {LARGEST >> 20}")
    return data


def _read(path: str, root: Path | None) -> bytes:
    try:
        file = (root or Path()) / path
        if not file.is_file():  # also keeps us from waiting at a pipe or a device
            raise Unreadable(f"no file {path[:200]}")
        size = file.stat().st_size
        if size > LARGEST:
            raise Unreadable(f"file of {size >> 20:,} MB; the most is {LARGEST >> 20}")
        return file.read_bytes()
    except OSError as error:
        raise Unreadable(f"{path[:200]}: {error.strerror or error}") from None
    except ValueError as error:
        raise error if isinstance(error, Unreadable) else Unreadable(f"not a path: {path[:80]!r}") from None


def each(work: Callable[[Any], R], values: list[Any]) -> list[R | Unreadable]:
    """`work` on every value, in threads where that pays; a value it refuses gives its Unreadable."""

    def safe(value: Any) -> R | Unreadable:
        try:
            return work(value)
        except Unreadable as reason:
            return reason

    if len(values) < 16:
        return [safe(value) for value in values]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(safe, values, chunksize=8))


def values_of(column: pa.Array) -> list[Any]:
    """The Python values of a column that is not made of tensors."""
    column = plain(column)
    kind = column.type
    if isinstance(column, pa.ExtensionArray):
        return [kind] * len(column)
    whole = (
        pa.types.is_binary(kind)
        or pa.types.is_string(kind)
        or pa.types.is_nested(kind)
        or pa.types.is_null(kind)
    )
    # Numbers, dates and the like hold no file: `load` names the type without our reading them.
    return column.to_pylist() if whole else [kind] * len(column)


def sample(
    chunks: Iterable[pa.Array], read: Callable[[pa.Array], list[Any]], count: int = 256, size: int = 64 << 20
) -> list[Any]:
    """At most `count` values and about `size` bytes, spread evenly over the stream however it is chunked."""
    kept: list[tuple[int, Any]] = []
    start = 0
    for chunk in chunks:
        chunk = plain(chunk)
        keys = priorities(start, len(chunk))
        start += len(chunk)
        few = np.flatnonzero(keys < np.uint64(kept[-1][0])) if len(kept) >= count else np.arange(len(chunk))
        few = np.sort(few[np.argsort(keys[few])[:count]])
        kept += zip(keys[few].tolist(), read(chunk.take(pa.array(few))), strict=True)
        kept.sort(key=lambda pair: pair[0])
        del kept[count:]
        held = np.cumsum([_weight(value) for _, value in kept])
        if len(kept) > 8 and held[-1] > size:
            count = max(8, int(np.searchsorted(held, size)))
            del kept[count:]
    return [value for _, value in kept]


def _weight(value: Any) -> int:
    if isinstance(value, dict):
        return sum(_weight(part) for part in value.values())
    if isinstance(value, np.ndarray):
        return value.nbytes
    return len(value) if isinstance(value, (bytes, str, list)) else 64
