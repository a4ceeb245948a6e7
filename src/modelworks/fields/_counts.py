"""Counting the values of a stream in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

CAPACITY = 500_000
"""Distinct values held; beyond it the rarest are forgotten (lossy counting, Manku and Motwani 2002)."""


class Counts:
    """How often each value came. Exact below CAPACITY distinct values."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.counter: Counter = Counter()
        self._capacity = capacity
        self._floor = 0

    def add(self, counts: Mapping) -> None:
        """Add value → count."""
        self.counter.update(counts)
        while len(self.counter) > self._capacity:
            self._floor += 1
            floor = self._floor
            self.counter = Counter({value: count for value, count in self.counter.items() if count > floor})

    def frequent(self, least: int, most: int) -> list:
        """Values seen at least `least` times, the `most` frequent of them; ties by value."""
        kept = [(value, count) for value, count in self.counter.items() if count >= least]
        kept.sort(key=lambda pair: (-pair[1], pair[0]))
        return [value for value, _ in kept[:most]]
