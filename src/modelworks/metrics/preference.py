"""Metrics of preferences: how often and by how much the chosen answer is rewarded over the rejected one.

The reward is β·log π/π₀ (Rafailov et al. 2023, arXiv:2305.18290, section 5). N pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from modelworks.metrics.bootstrap import Sums, blocks

_RIGHT, _MARGIN, _CHOSEN, _REJECTED, _PAIRS = range(5)


class PreferenceMeter:
    """Streams `rewards` (N, 2), of the chosen and the rejected answers."""

    def __init__(self, bootstrap: int = 200, seed: int = 0) -> None:
        self.bootstrap, self.seed = bootstrap, seed
        self._sums = Sums(5, bootstrap)

    def update(self, answer: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> None:
        """Add one batch of pairs; equal rewards count as half right."""
        rewards_N2 = np.asarray(answer["rewards"], np.float64)
        margin_N = rewards_N2[:, 0] - rewards_N2[:, 1]
        right_N = (np.sign(margin_N) + 1) / 2
        values_NF = np.stack([right_N, margin_N, *rewards_N2.T, np.ones(len(margin_N))], 1)
        for part, weights_NR in blocks(np.asarray(batch["row"]), self.bootstrap, self.seed):
            self._sums.add(values_NF[part], weights_NR)

    def result(self) -> dict[str, dict[str, Any]]:
        """Metric → {"value", "low", "high"}."""
        names = {
            "accuracy": _RIGHT,
            "margin": _MARGIN,
            "reward_chosen": _CHOSEN,
            "reward_rejected": _REJECTED,
        }
        found = {
            name: self._sums.summary(lambda s, at=at: s[..., at] / s[..., _PAIRS])
            for name, at in names.items()
        }
        return {name: entry for name, entry in found.items() if entry is not None}

    def details(self) -> dict[str, Any]:
        """For the report."""
        return {"pairs": int(self._sums.total[_PAIRS])}
