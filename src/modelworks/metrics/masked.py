"""Metrics of masked language models: perplexity of and accuracy on the hidden tokens, with bootstrap intervals.

A masked model's perplexity is that of a cloze test; it cannot be compared with a next-token model's.
N windows, K hidden tokens of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from modelworks.metrics.bootstrap import Sums, blocks

_NLL, _RIGHT, _TOKENS = range(3)


class MaskedMeter:
    """Streams `nll` (N, K), in nats, of the hidden tokens `target` (N, K) and the `prediction` (N, K); a target of −1
    does not count."""

    def __init__(self, bootstrap: int = 200, seed: int = 0) -> None:
        self.bootstrap, self.seed = bootstrap, seed
        self._sums = Sums(3, bootstrap)

    def update(self, answer: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> None:
        """Add one batch of windows; their numbers stand for row numbers."""
        target_NK = np.asarray(answer["target"])
        counted_NK = target_NK >= 0
        values_NF = np.stack(
            [
                (np.asarray(answer["nll"], np.float64) * counted_NK).sum(1),
                ((np.asarray(answer["prediction"]) == target_NK) & counted_NK).sum(1),
                counted_NK.sum(1),
            ],
            1,
        ).astype(np.float64)
        for part, weights_NR in blocks(np.asarray(batch["row"]), self.bootstrap, self.seed):
            self._sums.add(values_NF[part], weights_NR)

    def result(self) -> dict[str, dict[str, Any]]:
        """Metric → {"value", "low", "high"}."""
        if not self._sums.total[_TOKENS]:
            return {}
        wanted = {
            "perplexity": self._sums.summary(lambda s: np.exp(s[..., _NLL] / s[..., _TOKENS])),
            "accuracy": self._sums.summary(lambda s: s[..., _RIGHT] / s[..., _TOKENS]),
        }
        return {name: entry for name, entry in wanted.items() if entry is not None}

    def details(self) -> dict[str, Any]:
        """For the report."""
        return {"hidden tokens": int(self._sums.total[_TOKENS])}
