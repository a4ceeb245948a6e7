"""The order of rows: a permutation, spread evenly, the same wherever it is resumed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.engine.data.order import batches, permute


@given(st.integers(1, 5000), st.integers(0, 2**32 - 1), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_permute_is_a_permutation(rows: int, seed: int, epoch: int) -> None:
    found = permute(np.arange(rows), rows, seed, epoch)
    assert np.array_equal(np.sort(found), np.arange(rows))


def test_permute_spreads_like_chance() -> None:
    """Chi-square over where 20,000 epochs put one row; and neighbours do not stay neighbours."""
    places = np.array([permute(np.array([3, 4]), 100, 7, epoch) for epoch in range(5000)])
    counts = np.bincount(places[:, 0], minlength=100)
    chi = ((counts - 50) ** 2 / 50).sum()
    assert chi < 149  # 99.9 % quantile at 99 degrees of freedom
    assert abs(np.corrcoef(places.T)[0, 1]) < 0.05


@given(st.integers(1, 400), st.integers(1, 64), st.booleans(), st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_resuming_anywhere_gives_the_same_batches(rows: int, size: int, by_length: bool, steps: int) -> None:
    lengths = (lambda p: (p * 7919) % 31) if by_length else None
    whole = list(itertools.islice(batches(rows, size, 5, 0, lengths), steps + 10))
    consumed = sum(len(p) for _, p in whole[:steps])
    again = list(itertools.islice(batches(rows, size, 5, consumed, lengths), 10))
    for (epoch_a, a), (epoch_b, b) in zip(whole[steps:], again, strict=True):
        assert epoch_a == epoch_b
        assert np.array_equal(a, b)


@pytest.mark.parametrize("by_length", [False, True])
def test_an_epoch_holds_every_row_once(by_length: bool) -> None:
    lengths = (lambda p: p % 17) if by_length else None
    per_epoch = -(-1000 // 48)
    for epoch in range(3):
        found = [p for e, p in itertools.islice(batches(1000, 48, 1, 1000 * epoch, lengths), per_epoch)]
        assert np.array_equal(np.sort(np.concatenate(found)), np.arange(1000))


def test_batches_by_length_pad_little() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 20_000)
    padded = {}
    for by_length in (False, True):
        found = itertools.islice(
            batches(20_000, 64, 0, 0, (lambda p: lengths[p]) if by_length else None), 300
        )
        padded[by_length] = np.mean([1 - lengths[p].mean() / lengths[p].max() for _, p in found])
    assert padded[False] > 0.4
    assert padded[True] < 0.08
