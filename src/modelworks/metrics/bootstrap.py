"""Streaming Poisson bootstrap: every row has weight Poisson(1) in every replicate.

A weight is a pure function of (seed, replicate, row number), so intervals depend neither on batch sizes nor
on the order of rows, and weights need not be kept: they are made again when wanted.
(Chamandy et al. 2012, "Estimating uncertainty for massive data streams".)

Shapes: N rows, R replicates, F columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from modelworks.core.dataset import mix

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_BLOCK = 2048
"""Rows weighed at once: the float64 weights of 200 replicates then stay within the cache."""
_LANES = 4  # one 64-bit hash gives the weights of four replicates, 16 bits each


def _inverse_cdf() -> np.ndarray:
    """16 uniform bits → Poisson(1), by inverse cumulative distribution."""
    share = np.exp(-1.0) / np.array([math.factorial(k) for k in range(12)], np.float64)
    return np.searchsorted(np.round(np.cumsum(share) * 65536), np.arange(65536), side="right").astype(
        np.uint8
    )


_POISSON = _inverse_cdf()


def poisson_weights(rows_N: np.ndarray, replicates: range | int, seed: int = 0) -> np.ndarray:
    """Weights uint8 (N, R) of these row numbers. A range must start at a multiple of four."""
    wanted = range(replicates) if isinstance(replicates, int) else replicates
    assert wanted.start % _LANES == 0
    assert wanted.step == 1
    if not wanted:
        return np.zeros((len(rows_N), 0), np.uint8)
    groups = np.arange(wanted.start // _LANES, -(-wanted.stop // _LANES), dtype=np.uint64)
    with np.errstate(over="ignore"):
        keys = mix(mix(np.array([seed % 2**64], np.uint64) + _GOLDEN) + groups * _GOLDEN)
        spread_N = mix(np.asarray(rows_N).astype(np.uint64) + _GOLDEN)
        hashes = mix(spread_N[:, None] + keys[None, :])
    return np.take(_POISSON, hashes.view(np.uint16))[:, : len(wanted)]


def blocks(rows_N: np.ndarray, replicates: int, seed: int) -> Iterator[tuple[slice, np.ndarray]]:
    """(slice of the rows, float64 weights (block, R)) over the rows."""
    for start in range(0, len(rows_N), _BLOCK):
        part = slice(start, min(start + _BLOCK, len(rows_N)))
        yield part, poisson_weights(rows_N[part], replicates, seed).astype(np.float64)


class Sums:
    """Sums of columns over the rows: the plain one, and one for each replicate.

    A metric that is a function of sums is one function, given `total` (F,) and `weighted` (R, F)."""

    def __init__(self, columns: int, replicates: int) -> None:
        self.total = np.zeros(columns)
        self.weighted = np.zeros((replicates, columns))

    def add(self, values_NF: np.ndarray, weights_NR: np.ndarray) -> None:
        """Add rows of one block, with its weights."""
        self.total += values_NF.sum(0)
        self.weighted += weights_NR.T @ values_NF

    def summary(self, metric: Callable[[np.ndarray], np.ndarray]) -> dict[str, Any] | None:
        """A metric of the sums (last axis: columns) with its interval; None where it is undefined."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return summary(metric(self.total), metric(self.weighted))


class Counts:
    """How often each code occurs, plainly and for each replicate; the cost does not grow with the codes."""

    def __init__(self, size: int, replicates: int) -> None:
        self.total = np.zeros(size)
        self.weighted = np.zeros((replicates, size))

    def add(self, codes_N: np.ndarray, weights_NR: np.ndarray) -> None:
        """Add rows of one block, with its weights; a negative code is counted nowhere."""
        if codes_N.size and codes_N.min() < 0:
            weights_NR, codes_N = weights_NR[codes_N >= 0], codes_N[codes_N >= 0]
        size = len(self.total)
        self.total += np.bincount(codes_N, minlength=size)
        if not weights_NR.size:
            return
        if size <= 64:
            hot_NS = np.zeros((len(codes_N), size))
            hot_NS[np.arange(len(codes_N)), codes_N] = 1.0
            self.weighted += weights_NR.T @ hot_NS
        else:  # one-hot columns would cost rows × codes: add up the sorted rows of each code instead
            order = np.argsort(codes_N, kind="stable")
            present, starts = np.unique(codes_N[order], return_index=True)
            self.weighted[:, present] += np.add.reduceat(weights_NR[order], starts, axis=0).T


def summary(value: Any, replicates: np.ndarray, approximate: bool = False) -> dict[str, Any] | None:
    """{"value", "low", "high"}: the 2.5 and 97.5 percentiles of the replicates. None where undefined."""
    if not np.isfinite(value):
        return None
    found: dict[str, Any] = {"value": float(value)}
    kept = replicates[np.isfinite(replicates)]
    if len(kept):
        low, high = np.percentile(kept, [2.5, 97.5])
        found |= {"low": float(low), "high": float(high)}
    if approximate:
        found["approximate"] = True
    return found
