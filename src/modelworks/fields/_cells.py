"""Reading cells: Arrow columns of any type as plain arrays, and which of them mean "no value"."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelworks.core.profile import MISSING


def plain(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One contiguous array without dictionary, run-end, view or large-offset encodings."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # combine_chunks keeps several chunks beyond 2 GB
            column = pa.concat_arrays(column.chunks)
    if isinstance(column, pa.ExtensionArray) and not isinstance(column, pa.FixedShapeTensorArray):
        column = column.storage
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
    elif pa.types.is_run_end_encoded(kind):
        column = pc.run_end_decode(column)
    kind = column.type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind):
        return column.cast(pa.binary())
    return column


def is_text(kind: pa.DataType) -> bool:
    """Whether a plain column holds strings."""
    return pa.types.is_string(kind)


def missing_words(usual: bool, extra: Iterable[str]) -> pa.Array:
    """The texts that mean "no value", lower-cased; the empty text always does."""
    words = {""} | (set(MISSING) if usual else set()) | {text.strip().lower() for text in extra}
    return pa.array(sorted(words), pa.string())


def missing_cells(column: pa.Array, words: pa.Array) -> np.ndarray:
    """Which cells of a plain column hold no value: null, NaN, or a text among `words`. bool (rows,)."""
    absent = column.is_null(nan_is_null=pa.types.is_floating(column.type))
    if is_text(column.type):
        lowered = pc.utf8_lower(pc.utf8_trim_whitespace(column))
        absent = pc.or_(absent, pc.is_in(lowered, value_set=words))
    return absent.to_numpy(zero_copy_only=False)


def to_python(column: pa.Array) -> list[Any]:
    """The values as Python's; times that Python cannot hold (the year 300000, nanoseconds) as their text."""
    try:
        return column.to_pylist()
    except (OverflowError, ValueError):
        return [_scalar(cell) for cell in column]


def _scalar(cell: pa.Scalar) -> Any:
    try:
        return cell.as_py()
    except (OverflowError, ValueError):
        return f"{cell.value} {cell.type}"


def shown(value: Any) -> str:
    """A value for a message, short."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"{len(value)} bytes"
    text = repr(value[:80] if isinstance(value, str) else value)
    return text if len(text) <= 50 else text[:47] + "…"
