"""Rows with equal keys, found in bounded memory: a uint64 a row is held, sorting works part by part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from modelworks.core.profile import MISSING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from modelworks.core.dataset import Dataset

_PART = 1 << 18  # rows sorted at once, about; each part costs a look at every key, so there are at most 64


def row_keys(dataset: Dataset, columns: Sequence[str]) -> np.ndarray:
    """A 64-bit hash of each row over these columns, whatever order they are named in. uint64 (rows,)."""
    import numpy as np

    from modelworks.core.dataset import hash_rows

    keys = np.empty(dataset.rows, np.uint64)
    for rows, batch in dataset.batches(columns=sorted(columns)):
        keys[rows] = hash_rows(batch)
    return keys


def runs(keys: np.ndarray, mask: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(masked row numbers ordered by key, then row; where each run of equal keys starts), part by part."""
    import numpy as np

    parts = 1
    while len(keys) // parts > _PART and parts < 64:
        parts *= 2
    for part in range(parts):
        # Keys are hashes, so equal ranges of them hold about equally many rows.
        inside = mask if parts == 1 else mask & (keys >= np.uint64(part * (2**64 // parts)))
        if part + 1 < parts:
            inside = inside & (keys < np.uint64((part + 1) * (2**64 // parts)))
        rows = np.flatnonzero(inside)
        if not len(rows):
            continue
        rows = rows[np.argsort(keys[rows], kind="stable")]
        found = keys[rows]
        yield rows, np.flatnonzero(np.append(True, found[1:] != found[:-1]))


def missing_cells(column: pa.Array, words: frozenset[str] = MISSING) -> np.ndarray:
    """Where a column has no value: null, not a number, or one of these words. bool (rows,)."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(column.type):
        return pc.is_null(column, nan_is_null=True).to_numpy(zero_copy_only=False)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.dictionary_encode()
    if not pa.types.is_dictionary(column.type):
        return pc.is_null(column).to_numpy(zero_copy_only=False)
    values = column.dictionary.to_pylist()
    table = [value is None or (isinstance(value, str) and value.strip().lower() in words) for value in values]
    codes = pc.fill_null(column.indices, len(table)).to_numpy(zero_copy_only=False)
    return np.array([*table, True])[codes]
