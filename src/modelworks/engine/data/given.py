"""Given: a column whose values name each row's split: train, valid or test (dev, validation …, any case).

codes = given_codes(dataset, "split")      # uint8 (rows,), codes into SPLITS; DataError for odd values
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from modelworks.core.errors import DataError
from modelworks.engine.data.repeats import missing_cells

if TYPE_CHECKING:
    import numpy as np

    from modelworks.core.dataset import Dataset
    from modelworks.core.profile import ColumnProfile

NAMES = {
    "train": "train", "training": "train", "valid": "valid", "validation": "valid", "val": "valid",
    "dev": "valid", "test": "test", "testing": "test",
}  # fmt: skip
"""What a column of given splits may hold (any case)."""
_LISTED = 1000  # odd values of a column of splits that are told apart


def code_of(value: Any) -> int:
    """What a value says: 0 train, 1 valid, 2 test; −1 where it names no split."""
    name = NAMES.get(str(value).strip().lower())
    return -1 if name is None else ("train", "valid", "test").index(name)


def coded(dataset: Dataset, column: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(row numbers, split codes or −1) chunk by chunk."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    for rows, batch in dataset.batches(columns=[column]):
        cells = batch.column(0)
        if pa.types.is_nested(cells.type) or isinstance(cells, pa.ExtensionArray):
            yield rows, np.full(len(rows), -1)
            continue
        cells = cells if pa.types.is_dictionary(cells.type) else cells.dictionary_encode()
        table = np.array([*map(code_of, cells.dictionary.to_pylist()), -1], np.int64)
        yield rows, table[pc.fill_null(cells.indices, len(table) - 1).to_numpy(zero_copy_only=False)]


def _refuse_odd(dataset: Dataset, column: str, live: np.ndarray) -> None:
    """DataError where some rows name no split: how many, and which values are the most frequent."""
    import pyarrow as pa

    good, odd = 0, Counter[str]()
    for (rows, found), chunk in zip(coded(dataset, column), dataset.column(column), strict=True):
        wrong = (found < 0) & live[rows]
        good += int((found[live[rows]] >= 0).sum())
        if not wrong.any():
            continue
        cells = chunk.filter(pa.array(wrong))
        for gone, value in zip(missing_cells(cells), cells.to_pylist(), strict=True):
            told = "missing" if gone else repr(str(value)[:40])
            odd[told if told in odd or len(odd) < _LISTED else "other values"] += 1
    if not odd:
        return
    named = ", ".join(f"{value} ({count:,})" for value, count in odd.most_common(5))
    more = f" and {len(odd) - 5:,} other values" if len(odd) > 5 else ""
    raise DataError(
        f"{dataset.name}: {column!r} names a split in {good:,} rows, but not in {odd.total():,}: {named}{more}",
        f"it may hold {', '.join(NAMES)}; mend the values, rename the column, or leave it unused"
        " (train --data.split=random, evaluate --split all)",
    )


def given_codes(dataset: Dataset, column: str = "split", live: np.ndarray | None = None) -> np.ndarray:
    """The split that each row names. uint8 (rows,), codes into SPLITS; DataError where a `live` row names none."""
    import numpy as np

    live = np.ones(dataset.rows, bool) if live is None else live
    _refuse_odd(dataset, column, live)
    codes = np.zeros(dataset.rows, np.uint8)
    for rows, found in coded(dataset, column):
        codes[rows[live[rows]]] = found[live[rows]]
    return codes


def count_named(dataset: Dataset, column: str, live: np.ndarray) -> tuple[int, int]:
    """(live rows whose value names a split, live rows that have a value)."""
    good = named = 0
    for (rows, found), chunk in zip(coded(dataset, column), dataset.column(column), strict=True):
        good += int((found[live[rows]] >= 0).sum())
        named += int((~missing_cells(chunk))[live[rows]].sum())
    return good, named


def names_a_split(profile: ColumnProfile) -> bool:
    """Whether half of the values of a column say train, valid or test."""
    named = sum(count for value, count in profile.top if code_of(value) >= 0)
    return named > 0 and 2 * named >= profile.present
