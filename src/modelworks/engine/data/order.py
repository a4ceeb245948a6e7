"""Order: which rows a step trains on, as a pure function of (seed, epoch, position).

A permutation of n rows is computed, never stored: a Feistel network over the smallest power of two ≥ n, with
cycle walking (Black & Rogaway 2002). So a checkpoint needs only the number of samples consumed, a run resumes
exactly, also on another number of processes, and memory does not grow with the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

_ROUNDS = 4
_WINDOW = 32  # batches that are sorted by length together


def _keys(seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).integers(1, 2**32, (_ROUNDS, 2), np.uint32)


def permute(positions: np.ndarray, rows: int, seed: int, epoch: int) -> np.ndarray:
    """Where `positions` (int64, 0 ≤ p < rows) go in the epoch's permutation of `rows` rows. int64, same shape."""
    bits = max((rows - 1).bit_length(), 2)
    low_bits = bits // 2
    high_bits = bits - low_bits
    assert rows <= 2**62, "more rows than a disk holds"
    kind = np.uint32 if bits <= 32 else np.uint64
    keys = _keys(seed, epoch).astype(kind)
    low_mask, high_mask = kind((1 << low_bits) - 1), kind((1 << high_bits) - 1)
    walking = positions.astype(kind)
    result = np.empty(len(positions), np.int64)
    where = np.arange(len(positions))
    while len(walking):
        low, high = walking & low_mask, walking >> kind(low_bits)
        for add, multiply in keys:
            high = (high ^ _round(low, add, multiply)) & high_mask
            low = (low ^ _round(high, multiply, add)) & low_mask
        walking = (high << kind(low_bits)) | low
        inside = walking < rows
        result[where[inside]] = walking[inside]
        walking, where = walking[~inside], where[~inside]
    return result


def _round(half: np.ndarray, add: Any, multiply: Any) -> np.ndarray:
    mixed = (half + add) * (multiply | type(multiply)(1))
    mixed ^= mixed >> type(add)(15)
    mixed *= type(add)(0x2C1B3C6D)
    return mixed ^ (mixed >> type(add)(13))


def batches(
    rows: int,
    batch_size: int,
    seed: int,
    consumed: int = 0,
    lengths: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Endless (epoch, positions int64) of each step, from the `consumed`-th sample on.

    `lengths`: positions → lengths; then batches hold rows of like length: windows of 32 batches of the
    permutation are sorted and cut, and the batches of a window come in random order."""
    batch_size = min(batch_size, rows)
    per_epoch = -(-rows // batch_size)
    epoch, offset = divmod(consumed, rows)
    step = offset // batch_size
    while True:
        # A window at a time: the permutation's fixed cost is spread over many batches.
        while step < per_epoch:
            window = step // _WINDOW
            first = window * _WINDOW * batch_size
            positions = permute(np.arange(first, min(first + _WINDOW * batch_size, rows)), rows, seed, epoch)
            if lengths is not None:
                positions = positions[np.argsort(lengths(positions), kind="stable")]
            cuts = [positions[start : start + batch_size] for start in range(0, len(positions), batch_size)]
            if lengths is not None and len(cuts) > 1:
                # The short last batch stays last, so that every step but the epoch's last is full.
                full = len(cuts) - (len(cuts[-1]) < batch_size)
                shuffle = np.random.default_rng([seed, epoch, window]).permutation(full)
                cuts = [cuts[i] for i in shuffle] + cuts[full:]
            for cut in cuts[step - window * _WINDOW :]:
                yield epoch, cut
                step += 1
        epoch, step = epoch + 1, 0
