"""Metrics of classification, binary or multi-class.

    meter = ClassificationMeter("label", ["no", "yes"])

Averages follow scikit-learn: `macro` over the classes that occur in truth or prediction, `weighted` by their
truth, `micro` over rows. `brier` is the mean of (p − y)² of class 1 for two classes, and of the sum over
classes for more. `ece` has 15 even bins of the predicted class's probability (Guo et al. 2017).

Shapes: N rows, C classes, R replicates, F columns of sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelworks.core.errors import DataError
from modelworks.metrics.bootstrap import Counts, Sums, blocks, summary
from modelworks.metrics.ranking import MAX_COLUMNS, Ranks

ECE_BINS = 15
MATRIX_CLASSES = 200
"""Beyond this many classes the confusion matrix is not kept."""
CURVE_CLASSES = 10
"""Curves are shown of the first classes only."""
_ROWS, _LOSS, _BRIER, _TOP = range(4)
_GAPS = 4  # first of ECE_BINS columns


class ClassificationMeter:
    """Streaming metrics of predicted codes and, where there are, probabilities."""

    def __init__(
        self, target: str, labels: Sequence[str], top_k: int = 5, bootstrap: int = 200, seed: int = 0
    ) -> None:
        self.target, self.labels = target, [str(label) for label in labels]
        self.top_k, self.bootstrap, self.seed = top_k, bootstrap, seed
        classes = len(self.labels)
        self.binary = classes == 2
        self._counts = [Counts(classes, bootstrap) for _ in range(3)]  # hits, truths, predictions
        self._sums = Sums(_GAPS + ECE_BINS, bootstrap)
        self._bins = np.zeros((ECE_BINS, 3))  # rows, confidence, hits
        self._matrix = np.zeros((classes, classes), np.int64) if classes <= MATRIX_CLASSES else None
        self._ranks: Ranks | None = None
        self._has_probability = False
        if classes <= MAX_COLUMNS:
            self._ranks = Ranks(1 if self.binary else classes, bootstrap, seed)

    def update(self, answer: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> None:
        """Add one batch of `prediction` (N,) and perhaps `probability` (N, C)."""
        truth_N = np.asarray(batch[self.target]).reshape(-1).astype(np.int64)
        predicted_N = np.asarray(answer["prediction"]).reshape(-1).astype(np.int64)
        rows_N = np.asarray(batch["row"]).reshape(-1)
        if not len(rows_N):
            return
        if truth_N.min() < 0 or truth_N.max() >= len(self.labels):
            raise DataError(
                f"{self.target}: class {truth_N.max()} in the truth, there are {len(self.labels)} classes"
            )
        probability_NC = answer.get("probability")
        hit_N = truth_N == predicted_N
        classes = len(self.labels)
        values_NF = np.zeros((len(truth_N), _GAPS + ECE_BINS))
        values_NF[:, _ROWS] = 1.0
        if probability_NC is not None:
            self._has_probability = True
            self._score(values_NF, probability_NC, truth_N, predicted_N, hit_N)
            if self._ranks is not None:
                if self.binary:
                    self._ranks.add(probability_NC[:, 1:], (truth_N == 1)[:, None], rows_N)
                else:
                    self._ranks.add(probability_NC, truth_N[:, None] == np.arange(classes), rows_N)
        if self._matrix is not None:
            code_N = truth_N * classes + predicted_N
            self._matrix += np.bincount(code_N, minlength=classes**2).reshape(classes, classes)
        codes = (np.where(hit_N, truth_N, -1), truth_N, predicted_N)
        for part, weights_NR in blocks(rows_N, self.bootstrap, self.seed):
            self._sums.add(values_NF[part], weights_NR)
            for counts, code_N in zip(self._counts, codes, strict=True):
                counts.add(code_N[part], weights_NR)

    def _score(
        self,
        values_NF: np.ndarray,
        probability_NC: np.ndarray,
        truth_N: np.ndarray,
        predicted_N: np.ndarray,
        hit_N: np.ndarray,
    ) -> None:
        """Fill the columns that need probabilities."""
        rows = np.arange(len(truth_N))
        tiny = float(np.finfo(probability_NC.dtype).eps)  # as scikit-learn clips
        p_NC = probability_NC.astype(np.float64)
        own_N = p_NC[rows, truth_N]
        values_NF[:, _LOSS] = -np.log(np.clip(own_N, tiny, 1 - tiny))
        if self.binary:
            values_NF[:, _BRIER] = (p_NC[:, 1] - truth_N) ** 2
        else:
            values_NF[:, _BRIER] = (p_NC**2).sum(1) - own_N**2 + (1 - own_N) ** 2
        values_NF[:, _TOP] = (p_NC > own_N[:, None]).sum(1) < self.top_k
        confidence_N = np.nan_to_num(p_NC[rows, predicted_N])  # a network that diverged is sure of nothing
        bins_N = np.clip(np.ceil(confidence_N * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)
        values_NF[rows, _GAPS + bins_N] = confidence_N - hit_N
        for column, weights in enumerate((None, confidence_N, hit_N.astype(np.float64))):
            self._bins[:, column] += np.bincount(bins_N, weights, ECE_BINS)

    def result(self) -> dict[str, dict[str, Any]]:
        """Metric → {"value", "low", "high"}; what is undefined on these rows is left out."""
        if not self._sums.total[_ROWS]:
            return {}
        plain = _from_counts(*(counts.total for counts in self._counts), binary=self.binary)
        spread = _from_counts(*(counts.weighted for counts in self._counts), binary=self.binary)
        found = {name: summary(value, spread[name]) for name, value in plain.items()}
        if self._has_probability:
            found["log_loss"] = self._sums.summary(lambda s: s[..., _LOSS] / s[..., _ROWS])
            found["brier"] = self._sums.summary(lambda s: s[..., _BRIER] / s[..., _ROWS])
            found["ece"] = self._calibration_error()
            if len(self.labels) > self.top_k > 1:
                found[f"top_{self.top_k}_accuracy"] = self._sums.summary(
                    lambda s: s[..., _TOP] / s[..., _ROWS]
                )
            if self._ranks is not None:
                found |= self._ranks.result()
        return {name: entry for name, entry in found.items() if entry is not None}

    def _calibration_error(self) -> dict[str, Any] | None:
        """Noise only adds to a sum of absolute gaps, so replicates lie too high: their bias is taken off."""
        weighted = self._sums.weighted[self._sums.weighted[:, _ROWS] > 0]
        value, replicates = (
            np.abs(sums[..., _GAPS:]).sum(-1) / sums[..., _ROWS] for sums in (self._sums.total, weighted)
        )
        if len(replicates):
            replicates = np.maximum(replicates - (replicates.mean() - value), 0.0)
        return summary(value, replicates)

    def details(self) -> dict[str, Any]:
        """For the report: `labels`, `confusion` (rows: truth), `roc` and `pr` curves, `reliability` bins."""
        support = self._counts[1].total
        found: dict[str, Any] = {"rows": int(self._sums.total[_ROWS]), "labels": self.labels}
        if self._matrix is not None:
            found["confusion"] = self._matrix.tolist()
        found["classes"] = [
            {"label": label, "truth": int(t), "predicted": int(p), "hits": int(h)}
            for label, h, t, p in zip(self.labels, *(counts.total for counts in self._counts), strict=True)
        ][:1000]
        if not self._has_probability:
            return found
        kept = self._bins[:, 0] > 0
        means = self._bins[kept, 1:] / self._bins[kept, :1]
        found["reliability"] = [
            {"confidence": float(c), "accuracy": float(a), "rows": int(n)}
            for (c, a), n in zip(means, self._bins[kept, 0], strict=True)
        ]
        if self._ranks is not None:
            shown = (
                [1]
                if self.binary
                else [c for c in np.argsort(-support, kind="stable")[:CURVE_CLASSES] if support[c]]
            )
            curves = {self.labels[c]: self._ranks.curves(0 if self.binary else int(c)) for c in shown}
            found["roc"] = {label: curve["roc"] for label, curve in curves.items()}
            found["pr"] = {label: curve["pr"] for label, curve in curves.items()}
        return found


def _from_counts(
    hit_C: np.ndarray, truth_C: np.ndarray, predicted_C: np.ndarray, binary: bool
) -> dict[str, np.ndarray]:
    """Metrics of the per-class counts (last axis: classes)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        rows = truth_C.sum(-1)
        hits = hit_C.sum(-1)
        precision_C = np.nan_to_num(hit_C / predicted_C)
        recall_C = np.nan_to_num(hit_C / truth_C)
        f1_C = np.nan_to_num(2 * hit_C / (truth_C + predicted_C))
        present_C = (truth_C + predicted_C) > 0
        found = {
            "accuracy": hits / rows,
            "balanced_accuracy": recall_C.sum(-1) / (truth_C > 0).sum(-1),
        }
        for name, value_C in (("precision", precision_C), ("recall", recall_C), ("f1", f1_C)):
            if binary:
                found[name] = value_C[..., 1]
            found[f"{name}_micro"] = hits / rows
            found[f"{name}_macro"] = (value_C * present_C).sum(-1) / present_C.sum(-1)
            found[f"{name}_weighted"] = (value_C * truth_C).sum(-1) / rows
        # Matthews' coefficient for any number of classes (Gorodkin 2004); 0 where one side is constant.
        both = (truth_C * predicted_C).sum(-1)
        spread = (rows**2 - (truth_C**2).sum(-1)) * (rows**2 - (predicted_C**2).sum(-1))
        found["mcc"] = np.nan_to_num((hits * rows - both) / np.sqrt(spread), posinf=0.0, neginf=0.0)
    return found
