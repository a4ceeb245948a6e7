"""Metrics of language models: perplexity and bits per byte of held-out text, with bootstrap intervals over windows.

`bits_per_byte` compares models with different tokenizers: total −log₂ p over the UTF-8 bytes of the text.
N windows, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from modelworks.metrics.bootstrap import Sums, blocks

_NLL, _TOKENS, _BYTES = range(3)


class LanguageMeter:
    """Streams `nll` (N, T), in nats, of the tokens `next` (N, T); −1 marks what does not count."""

    def __init__(self, bytes_V: np.ndarray, bootstrap: int = 200, seed: int = 0) -> None:
        self.bytes_V, self.bootstrap, self.seed = np.asarray(bytes_V, np.int64), bootstrap, seed
        self._sums = Sums(3, bootstrap)

    def update(self, answer: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> None:
        """Add one batch of windows; their numbers stand for row numbers."""
        next_NT, nll_NT = np.asarray(answer["next"]), np.asarray(answer["nll"], np.float64)
        counted_NT = next_NT >= 0
        values_NF = np.stack(
            [
                (nll_NT * counted_NT).sum(1),
                counted_NT.sum(1),
                (self.bytes_V[np.maximum(next_NT, 0)] * counted_NT).sum(1),
            ],
            1,
        ).astype(np.float64)
        for part, weights_NR in blocks(np.asarray(batch["row"]), self.bootstrap, self.seed):
            self._sums.add(values_NF[part], weights_NR)

    def result(self) -> dict[str, dict[str, Any]]:
        """Metric → {"value", "low", "high"}."""
        if not self._sums.total[_TOKENS]:
            return {}
        wanted = {"perplexity": self._sums.summary(lambda s: np.exp(s[..., _NLL] / s[..., _TOKENS]))}
        if self._sums.total[_BYTES]:
            wanted["bits_per_byte"] = self._sums.summary(
                lambda s: s[..., _NLL] / s[..., _BYTES] / math.log(2)
            )
        return {name: entry for name, entry in wanted.items() if entry is not None}

    def details(self) -> dict[str, Any]:
        """For the report."""
        tokens, size = self._sums.total[_TOKENS], self._sums.total[_BYTES]
        return {"tokens": int(tokens), "bytes": int(size), "bytes_a_token": size / tokens if tokens else 0.0}
