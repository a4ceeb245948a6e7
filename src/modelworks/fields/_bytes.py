"""Texts of an Arrow column as bytes and as code points, without a Python object a text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelworks.fields._cells import is_text, plain


def buffer(texts: pa.Array) -> np.ndarray:
    """The UTF-8 of all texts end to end, as a view. uint8."""
    if not len(texts):
        return np.zeros(0, np.uint8)
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]


def points(texts: pa.Array) -> np.ndarray:
    """The code points of all texts end to end. uint32."""
    return np.frombuffer(bytes(buffer(texts)).decode("utf-8").encode("utf-32-le"), np.uint32)


def as_texts(column: Any) -> tuple[pa.Array, dict[int, str]]:
    """Any column as plain strings, "" where there is none; row → why, where it holds something else."""
    column = plain(column)
    kind, bad = column.type, {}
    if pa.types.is_binary(kind):
        values: list[str | None] = []
        for row, value in enumerate(column.to_pylist()):
            try:
                values.append(None if value is None else value.decode("utf-8"))
            except UnicodeDecodeError:
                values.append(None)
                bad[row] = "bytes that are no UTF-8"
        column = pa.array(values, pa.string())
    elif not is_text(kind):
        if pa.types.is_nested(kind) or isinstance(column, pa.ExtensionArray):
            there = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
            bad = dict.fromkeys(there.tolist(), f"wants text, got {kind}")
            column = pa.nulls(len(column), pa.string())
        else:
            absent = column.is_null(nan_is_null=pa.types.is_floating(kind))
            column = pc.if_else(absent, None, column.cast(pa.string()))
    return pc.fill_null(column, ""), bad
