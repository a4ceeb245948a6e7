"""Metrics of written texts against those that should have been written: perplexity, and BLEU (Papineni et al. 2002) as
sacrebleu computes it (Post 2018; extra `translate`), with bootstrap intervals over rows.

N rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from modelworks.core.errors import need
from modelworks.metrics.bootstrap import Sums, blocks

_NLL, _TOKENS, _RIGHT = range(3)
_BLEU = 3
"""From here on: matches of 1 to 4 words, written groups of as many, words written, words wanted."""
_SHOWN = 10


def bleu(sums: np.ndarray) -> np.ndarray:
    """BLEU in percent of summed counts (…, 10), an order without a match smoothed as in sacrebleu (`exp`)."""
    match, total = sums[..., :4], sums[..., 4:8]
    written, wanted = sums[..., 8], sums[..., 9]
    none = (match == 0) & (total > 0)
    smoothed = np.where(none, 0.5 ** np.cumsum(none, -1), match)
    share = np.where(total > 0, smoothed / np.where(total > 0, total, 1), 0)
    geometric = np.where((share > 0).all(-1), np.exp(np.log(np.where(share > 0, share, 1)).mean(-1)), 0.0)
    brevity = np.where(written < wanted, np.exp(1 - wanted / np.maximum(written, 1)), 1.0)
    return 100 * geometric * brevity * (match[..., 0] > 0)


class TranslationMeter:
    """Streams `nll` and `right` (N, T) of the tokens `next` (N, T), −1 where there is none, and where texts are
    written `written` (N, W), rows of ids."""

    def __init__(
        self,
        target: str,
        decode: Callable[[Any], list[str]],
        tokenize: str = "13a",
        bootstrap: int = 200,
        seed: int = 0,
    ) -> None:
        """`decode`: rows of ids → texts. `tokenize`: sacrebleu's name for how words are told (13a, zh, char …)."""
        self.target, self.decode, self.bootstrap, self.seed = target, decode, bootstrap, seed
        self.tokenize = tokenize
        self._sums = Sums(_BLEU + 10, bootstrap)
        self._bleu: Any = None
        self._shown: list[dict[str, str]] = []

    def update(self, answer: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> None:
        """Add one batch of rows."""
        next_NT = np.asarray(answer["next"])
        counted_NT = next_NT >= 0
        values_NF = np.zeros((len(next_NT), _BLEU + 10))
        values_NF[:, _NLL] = (np.asarray(answer["nll"], np.float64) * counted_NT).sum(1)
        values_NF[:, _TOKENS] = counted_NT.sum(1)
        values_NF[:, _RIGHT] = (np.asarray(answer["right"]) * counted_NT).sum(1)
        if "written" in answer:
            wanted = self.decode(np.where(counted_NT, next_NT, 0))
            for row, pair in enumerate(zip(self.decode(answer["written"]), wanted, strict=True)):
                values_NF[row, _BLEU:] = self._counts(*pair)
                if len(self._shown) < _SHOWN:
                    self._shown.append({"written": pair[0], "wanted": pair[1]})
        for part, weights_NR in blocks(np.asarray(batch["row"]), self.bootstrap, self.seed):
            self._sums.add(values_NF[part], weights_NR)

    def _counts(self, written: str, wanted: str) -> list[float]:
        if self._bleu is None:
            self._bleu = need("sacrebleu", "translate", "BLEU").BLEU(
                tokenize=self.tokenize, effective_order=True
            )
        found = self._bleu.sentence_score(written, [wanted])
        return [*found.counts, *found.totals, found.sys_len, found.ref_len]

    def result(self) -> dict[str, dict[str, Any]]:
        """Metric → {"value", "low", "high"}."""
        if not self._sums.total[_TOKENS]:
            return {}
        found = {
            "perplexity": self._sums.summary(lambda s: np.exp(s[..., _NLL] / s[..., _TOKENS])),
            "token_accuracy": self._sums.summary(lambda s: s[..., _RIGHT] / s[..., _TOKENS]),
        }
        if self._sums.total[_BLEU + 9]:
            found["bleu"] = self._sums.summary(lambda s: bleu(s[..., _BLEU:]))
        return {name: entry for name, entry in found.items() if entry is not None}

    def details(self) -> dict[str, Any]:
        """For the report: the first texts, beside those wanted."""
        return {"tokens": int(self._sums.total[_TOKENS]), "texts": self._shown}
