"""Learning from a stream in bounded memory: exact moments, and a sample that chunking does not change."""

from __future__ import annotations

import math

import numpy as np

from modelworks.core.dataset import mix

_STEP = np.uint64(0x9E3779B97F4A7C15)


def priorities(start: int, count: int, seed: int = 0) -> np.ndarray:
    """A fixed random number for each position of a stream. uint64 (count,)."""
    positions = np.arange(start + 1, start + count + 1, dtype=np.uint64)
    return mix(positions * _STEP + np.uint64(seed))


class Sample:
    """All values up to `limit`, beyond that a uniform sample: the positions with the lowest priorities.

    The same stream gives the same sample however it is cut into chunks."""

    def __init__(self, limit: int = 100_000, seed: int = 0) -> None:
        self.limit = limit
        self.seen = 0
        self._seed = seed
        self._values: list[np.ndarray] = []
        self._keys: list[np.ndarray] = []
        self._held = 0

    def add(self, values: np.ndarray) -> None:
        """Offer these values, in order."""
        self._keys.append(priorities(self.seen, len(values), self._seed))
        self._values.append(values)
        self.seen += len(values)
        self._held += len(values)
        if self._held > 2 * self.limit:
            self._shrink()

    @property
    def exact(self) -> bool:
        """Whether every value seen is held."""
        return self.seen <= self.limit

    @property
    def values(self) -> np.ndarray:
        """What is held, in stream order."""
        if self._held > self.limit:
            self._shrink()
        return np.concatenate(self._values) if self._values else np.zeros(0)

    def _shrink(self) -> None:
        keys, values = np.concatenate(self._keys), np.concatenate(self._values)
        chosen = np.sort(np.argpartition(keys, self.limit - 1)[: self.limit])
        self._keys, self._values, self._held = [keys[chosen]], [values[chosen]], self.limit


class Moments:
    """Count, mean, variance, least and greatest of a stream (Chan, Golub and LeVeque 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self.least, self.greatest = math.inf, -math.inf
        self._squares = 0.0

    def add(self, values: np.ndarray) -> None:
        """Add float64 values."""
        if not len(values):
            return
        count, mean = len(values), float(values.mean())
        squares = float(((values - mean) ** 2).sum())
        delta, total = mean - self.mean, self.count + count
        self.mean += delta * count / total
        self._squares += squares + delta * delta * self.count * count / total
        self.count = total
        self.least = min(self.least, float(values.min()))
        self.greatest = max(self.greatest, float(values.max()))

    @property
    def std(self) -> float:
        """Population standard deviation."""
        return math.sqrt(self._squares / self.count) if self.count else 0.0


def spread_or_one(spread: float, size: float) -> float:
    """A divisor: `spread`, or 1 where it is only rounding noise beside numbers of this `size`."""
    return spread if spread > 10 * np.finfo(np.float64).eps * abs(size) else 1.0


def edges(values: np.ndarray, bins: int) -> list[float]:
    """At most bins + 1 ascending quantiles of (a sample of) float values, for piecewise-linear embeddings.

    Where a value repeats, quantiles coincide: a column that is nine tenths zeros would keep a tenth of its
    bins. What they free goes to quantiles of the values that are no edge yet."""
    if not len(values) or bins < 1:
        return []
    rest = np.sort(values.astype(np.float32))
    found = np.unique(rest[[0, -1]])
    while len(rest) and bins + 1 > len(found):
        wanted = min(bins + 1 - len(found), len(rest))
        at = np.linspace(0, len(rest) - 1, wanted + 2)[1:-1].round().astype(np.int64)
        found = np.union1d(found, rest[at])
        rest = rest[~np.isin(rest, found)]
    return [float(edge) for edge in found] if len(found) > 1 else []
