"""Metrics of vectors for texts, from two views of each text: whether a view finds its other half among all texts.

`alignment` (mean squared distance of the two views, less is better) and `uniformity` (log of the mean of
exp(−2·distance²) over pairs of texts, less is better) are those of Wang & Isola 2020 (arXiv:2005.10242).
N rows, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from modelworks.metrics.bootstrap import poisson_weights, summary

MOST = 4096
"""Rows that are compared with one another, the first ones by number of those seen."""


class EmbeddingMeter:
    """Streams `first` and `second` (N, D), unit vectors of two views."""

    def __init__(self, bootstrap: int = 200, seed: int = 0) -> None:
        self.bootstrap, self.seed = bootstrap, seed
        self._first: list[np.ndarray] = []
        self._second: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []
        self._count = 0

    def update(self, answer: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> None:
        """Add one batch; beyond MOST rows nothing is kept."""
        room = MOST - self._count
        for kept, values in (
            (self._first, answer["first"]),
            (self._second, answer["second"]),
            (self._rows, batch["row"]),
        ):
            kept.append(np.asarray(values)[: max(room, 0)])
        self._count += len(self._rows[-1])

    def result(self) -> dict[str, dict[str, Any]]:
        """Metric → {"value", "low", "high"}: the intervals weigh the rows that search, among the same texts."""
        if not self._count:
            return {}
        first_ND, second_ND = np.concatenate(self._first), np.concatenate(self._second)
        score_NN = first_ND @ second_ND.T
        own_N = np.diagonal(score_NN)[:, None]
        above_N, tied_N = (score_NN > own_N).sum(1), (score_NN == own_N).sum(1)
        hit_N = np.where(above_N == 0, 1 / tied_N, 0.0)  # of equals, one is taken by chance
        rank_N = 1 / (1 + above_N + (tied_N - 1) / 2)
        apart_N = ((first_ND - second_ND) ** 2).sum(1)
        weights_NR = poisson_weights(np.concatenate(self._rows), self.bootstrap, self.seed).astype(np.float64)
        found = {
            name: summary(values.mean(), values @ weights_NR / np.maximum(weights_NR.sum(0), 1))
            for name, values in (("recall_at_1", hit_N), ("mrr", rank_N), ("alignment_distance", apart_N))
        }
        if self._count > 1:
            inner_NN = first_ND @ first_ND.T
            pairs = np.triu_indices(self._count, 1)
            spread = np.log(np.exp(-4 * (1 - inner_NN[pairs])).mean())  # |a − b|² = 2 − 2·a·b
            found["uniformity_loss"] = {"value": float(spread)}
        return {name: entry for name, entry in found.items() if entry is not None}

    def details(self) -> dict[str, Any]:
        """For the report."""
        return {"texts compared": self._count}
