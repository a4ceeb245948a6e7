"""Strata: exact shares of small data, class by class, with units (groups, equal rows) kept whole.

Letters: N rows, U units in hash order, C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from modelworks.core.dataset import hash_column
from modelworks.core.errors import DataError
from modelworks.core.profile import as_number
from modelworks.engine.data.repeats import missing_cells

if TYPE_CHECKING:
    from modelworks.core.dataset import Dataset

TRAIN, VALID, TEST = 0, 1, 2


def classes(dataset: Dataset, target: str, rows_N: np.ndarray) -> np.ndarray:
    """Each row's class as a number from 0; rows without a target are a class of their own. int64 (N,)."""
    keys = np.empty(dataset.rows, np.uint64)
    for rows, batch in dataset.batches(columns=[target]):
        keys[rows] = np.where(missing_cells(batch.column(0)), np.uint64(0), hash_column(batch.column(0)))
    return np.unique(keys[rows_N], return_inverse=True)[1]


def ranges(dataset: Dataset, target: str, rows_N: np.ndarray, count: int) -> np.ndarray:
    """Each row's range of a numeric target, by quantile; its class when it is not numeric. int64 (N,)."""
    numbers = np.full(dataset.rows, np.nan)
    for rows, batch in dataset.batches(columns=[target]):
        numbers[rows] = [
            np.nan if (v := as_number(cell)) is None else v for cell in batch.column(0).to_pylist()
        ]
    numbers = numbers[rows_N]
    known = ~np.isnan(numbers)
    if np.count_nonzero(known) < 0.9 * len(rows_N):
        return classes(dataset, target, rows_N)
    edges = np.unique(np.quantile(numbers[known], np.linspace(0, 1, count + 1)[1:-1]))
    return np.where(known, np.searchsorted(edges, numbers, side="right"), len(edges) + 1)


def assign(
    order_N: np.ndarray, stratum_N: np.ndarray | None, classes_N: np.ndarray | None, valid: float, test: float
) -> np.ndarray:
    """A split code for each row. Rows of equal `order` are one unit, and units are taken in that order.

    A unit belongs to its first row's stratum. Each of `classes_N` keeps a training row, and each split
    that is asked for gets a unit where that is possible."""
    _, first_U, unit_N, size_U = np.unique(
        order_N, return_index=True, return_inverse=True, return_counts=True
    )
    stratum_U = np.zeros(len(first_U), np.int64) if stratum_N is None else stratum_N[first_U]
    code_U = np.zeros(len(first_U), np.uint8)
    by_stratum = np.argsort(stratum_U, kind="stable")
    starts = np.flatnonzero(np.diff(stratum_U[by_stratum], prepend=-1))
    members = np.split(by_stratum, starts[1:])
    rows_S = np.array([size_U[m].sum() for m in members])
    # The last unit of each stratum is not given away, so that every class can be learned.
    room_S = np.array([size_U[m[:-1]].sum() for m in members])
    for code, share in ((TEST, test), (VALID, valid)):
        quota_S = apportion(rows_S, room_S, share)
        for m, quota in zip(members, quota_S, strict=True):
            if quota:
                free = m[:-1][code_U[m[:-1]] == TRAIN]
                code_U[free[_fill(size_U[free], quota)]] = code
        # What large units left unmet in their own stratum is taken wherever units fit.
        short = int(quota_S.sum() - size_U[code_U == code].sum())
        if short > 0:
            free = np.sort(np.concatenate([m[:-1] for m in members]))
            free = free[code_U[free] == TRAIN]
            code_U[free[_fill(size_U[free], short)]] = code
        room_S = np.array([size_U[m[:-1]][code_U[m[:-1]] == TRAIN].sum() for m in members])
    if classes_N is not None:
        _cover(code_U, unit_N, size_U, classes_N)
    for code, share in ((TEST, test), (VALID, valid)):
        if share and not np.any(code_U == code):
            _give_one(code_U, code, unit_N, size_U, classes_N)
    return code_U[unit_N]


def apportion(rows_S: np.ndarray, room_S: np.ndarray, share: float) -> np.ndarray:
    """Whole rows a stratum, together `share` of all rows, by largest remainder; none over its room."""
    if not share:
        return np.zeros(len(rows_S), np.int64)
    exact_S = rows_S * share
    quota_S = np.minimum(np.floor(exact_S + 1e-9).astype(np.int64), room_S)
    left = max(round(rows_S.sum() * share), 1) - int(quota_S.sum())
    by_remainder = np.argsort(quota_S - exact_S, kind="stable")
    while left > 0 and np.any(quota_S < room_S):
        willing = by_remainder[quota_S[by_remainder] < room_S[by_remainder]][:left]
        quota_S[willing] += 1
        left -= len(willing)
    return quota_S


def _fill(size_U: np.ndarray, quota: int) -> np.ndarray:
    """Which units, in order, come nearest to `quota` rows; those larger than it are passed over."""
    fits = size_U <= quota
    total_U = np.cumsum(size_U * fits)
    taken = fits & (total_U <= quota)
    short = quota - int(size_U[taken].sum())
    over = np.flatnonzero(fits & (total_U > quota))
    if short and len(over) and total_U[over[0]] - quota < short:
        taken[over[0]] = True
    return taken


def _pairs(unit_N: np.ndarray, classes_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every (unit, class) that occurs, and its rows."""
    count = int(classes_N.max()) + 1
    pairs, rows = np.unique(unit_N.astype(np.int64) * count + classes_N, return_counts=True)
    return pairs // count, pairs % count, rows


def _cover(code_U: np.ndarray, unit_N: np.ndarray, size_U: np.ndarray, classes_N: np.ndarray) -> None:
    """Move the smallest unit of each class that has no training row into training."""
    units, kinds, _ = _pairs(unit_N, classes_N)
    covered = np.zeros(int(classes_N.max()) + 1, bool)
    covered[kinds[code_U[units] == TRAIN]] = True
    for kind in np.unique(kinds[~covered[kinds]]):
        if not covered[kind]:
            own = units[kinds == kind]
            unit = own[np.argmin(size_U[own])]
            code_U[unit] = TRAIN
            covered[kinds[units == unit]] = True


def _give_one(
    code_U: np.ndarray, code: int, unit_N: np.ndarray, size_U: np.ndarray, classes_N: np.ndarray | None
) -> None:
    """Move the smallest unit that training can spare, else one of the other split's, when there is one."""
    spare = code_U == TRAIN
    if classes_N is not None:
        units, kinds, rows = _pairs(unit_N, classes_N)
        training = code_U[units] == TRAIN
        held = np.bincount(kinds[training], rows[training], int(classes_N.max()) + 1)
        spare[units[training & (held[kinds] <= rows)]] = False
    if np.count_nonzero(code_U == TRAIN) < 2 or not spare.any():
        spare = code_U == (TEST if code == VALID else VALID)
        if np.count_nonzero(spare) < 2:
            return
    able = np.flatnonzero(spare)
    code_U[able[np.argmin(size_U[able])]] = code


def cover_streaming(
    dataset: Dataset, target: str, mask: np.ndarray, codes: np.ndarray, order: np.ndarray
) -> int:
    """Large data: move the rows of classes that have no training row into training. How many moved."""
    covered: dict[int, bool] = {}
    for rows, batch in dataset.batches(columns=[target]):
        inside = mask[rows]
        hashes, training = hash_column(batch.column(0))[inside], codes[rows[inside]] == TRAIN
        for value in np.unique(hashes).tolist():
            covered[value] = covered.get(value, False)
        for value in np.unique(hashes[training]).tolist():
            covered[value] = True
        if len(covered) > 1_000_000:
            raise DataError(
                f"{dataset.name}: {target!r} has over a million classes",
                "use split by: random with a numeric target",
            )
    lost = np.array([value for value, there in covered.items() if not there], np.uint64)
    if not len(lost):
        return 0
    units = [
        order[rows][mask[rows] & np.isin(hash_column(batch.column(0)), lost)]
        for rows, batch in dataset.batches(columns=[target])
    ]
    moved = mask & np.isin(order, np.unique(np.concatenate(units))) & (codes != TRAIN)
    codes[moved] = TRAIN
    return int(np.count_nonzero(moved))
