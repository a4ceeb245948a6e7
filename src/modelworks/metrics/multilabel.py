"""Metrics of tags: every row has any number of labels.

    meter = MultilabelMeter("tags", ["red", "round", "sweet"])

`map` is the mean over labels of average precision; `log_loss` and `hamming_loss` are means over rows and
labels.

Shapes: N rows, L labels, F columns of sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelworks.metrics.bootstrap import Sums, blocks
from modelworks.metrics.ranking import MAX_COLUMNS, Ranks

_ROWS, _SUBSET, _WRONG, _LOSS = range(4)
_FIRST = 4  # then hits, truths and predictions of each label
CURVE_LABELS = 10


class MultilabelMeter:
    """Streaming metrics of predicted label sets and, where there are, probabilities."""

    def __init__(self, target: str, labels: Sequence[str], bootstrap: int = 200, seed: int = 0) -> None:
        self.target, self.labels = target, [str(label) for label in labels]
        self.bootstrap, self.seed = bootstrap, seed
        self._sums = Sums(_FIRST + 3 * len(self.labels), bootstrap)
        self._ranks = Ranks(len(self.labels), bootstrap, seed) if len(self.labels) <= MAX_COLUMNS else None
        self._has_probability = False

    def update(self, answer: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> None:
        """Add one batch of `prediction` (N, L) and perhaps `probability` (N, L)."""
        truth_NL = np.asarray(batch[self.target]) > 0.5
        predicted_NL = np.asarray(answer["prediction"]) > 0.5
        rows_N = np.asarray(batch["row"]).reshape(-1)
        probability_NL = answer.get("probability")
        wrong_N = (truth_NL != predicted_NL).sum(1)
        loss_N = np.zeros(len(rows_N))
        if probability_NL is not None:
            self._has_probability = True
            tiny = float(np.finfo(probability_NL.dtype).eps)
            p_NL = np.clip(probability_NL.astype(np.float64), tiny, 1 - tiny)
            loss_N = -np.log(np.where(truth_NL, p_NL, 1 - p_NL)).mean(1)
            if self._ranks is not None:
                self._ranks.add(probability_NL, truth_NL, rows_N)
        first = np.stack([np.ones(len(rows_N)), wrong_N == 0, wrong_N / len(self.labels), loss_N], 1)
        values_NF = np.concatenate([first, truth_NL & predicted_NL, truth_NL, predicted_NL], 1)
        for part, weights_NR in blocks(rows_N, self.bootstrap, self.seed):
            self._sums.add(values_NF[part], weights_NR)

    def result(self) -> dict[str, dict[str, Any]]:
        """Metric → {"value", "low", "high"}."""
        if not self._sums.total[_ROWS]:
            return {}
        found = {
            "subset_accuracy": self._sums.summary(lambda s: s[..., _SUBSET] / s[..., _ROWS]),
            "hamming_loss": self._sums.summary(lambda s: s[..., _WRONG] / s[..., _ROWS]),
        }
        for name in ("precision", "recall", "f1"):
            found[f"{name}_micro"] = self._sums.summary(lambda s, n=name: self._rate(s, n, micro=True))
            found[f"{name}_macro"] = self._sums.summary(lambda s, n=name: self._rate(s, n, micro=False))
        if self._has_probability:
            found["log_loss"] = self._sums.summary(lambda s: s[..., _LOSS] / s[..., _ROWS])
            if self._ranks is not None:
                ranks = self._ranks.result()
                found |= {{"pr_auc": "map"}.get(name, name): entry for name, entry in ranks.items()}
        return {name: entry for name, entry in found.items() if entry is not None}

    def _rate(self, sums: np.ndarray, name: str, micro: bool) -> np.ndarray:
        hit, truth, predicted = np.split(sums[..., _FIRST:], 3, axis=-1)
        if micro:
            hit, truth, predicted = (part.sum(-1, keepdims=True) for part in (hit, truth, predicted))
        over = {"precision": predicted, "recall": truth, "f1": (truth + predicted) / 2}[name]
        return np.nan_to_num(hit / over).mean(-1)  # a label that neither occurs nor is predicted counts as 0

    def details(self) -> dict[str, Any]:
        """For the report: `classes` (truth, predicted, hits of each) and curves of the commonest labels."""
        hit, truth, predicted = np.split(self._sums.total[_FIRST:], 3)
        found: dict[str, Any] = {"rows": int(self._sums.total[_ROWS]), "labels": self.labels}
        found["classes"] = [
            {"label": label, "truth": int(t), "predicted": int(p), "hits": int(h)}
            for label, h, t, p in zip(self.labels, hit, truth, predicted, strict=True)
        ][:1000]
        if self._has_probability and self._ranks is not None:
            shown = np.argsort(-truth, kind="stable")[:CURVE_LABELS]
            curves = {self.labels[label]: self._ranks.curves(int(label)) for label in shown}
            found["roc"] = {label: curve["roc"] for label, curve in curves.items()}
            found["pr"] = {label: curve["pr"] for label, curve in curves.items()}
        return found
