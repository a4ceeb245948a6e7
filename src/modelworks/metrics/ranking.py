"""Metrics of ranks: area under the ROC curve and average precision, macro over columns of scores.

Exact while the scores fit in `EXACT_ROWS` rows and `EXACT_CELLS` numbers; from then on a histogram of `BINS`
bins, even in logits, and the result says "approximate". In a histogram the Poisson bootstrap needs no row:
the weights of the n rows of a bin add up to Poisson(n).

Shapes: N rows, S score columns, G groups of equal score, R replicates.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from modelworks.metrics.bootstrap import poisson_weights, summary

BINS = 8192
_REACH = 20.0  # logits covered by the bins: float32 probabilities end at about ±17 near 1
EXACT_ROWS = 100_000
EXACT_CELLS = 4_000_000
MAX_COLUMNS = 200
"""Beyond this many classes the rank metrics are left out: their histograms would no longer be small."""
_INTERVAL_WORK = 600_000_000  # rows × columns × replicates that intervals may cost: a few seconds
_CURVE = 101  # points a curve


class Ranks:
    """Scores and whether each is of a positive row."""

    def __init__(self, columns: int, replicates: int, seed: int = 0) -> None:
        self.columns, self.replicates, self.seed = columns, replicates, seed
        self.limit = min(EXACT_ROWS, EXACT_CELLS // max(columns, 1))
        self._kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._rows = 0
        self._bins_2SB: np.ndarray | None = None

    @property
    def approximate(self) -> bool:
        return self._bins_2SB is not None

    def add(self, scores_NS: np.ndarray, positive_NS: np.ndarray, rows_N: np.ndarray) -> None:
        """Add probabilities and truths (bool) of rows."""
        self._rows += len(rows_N)
        if not self.approximate:
            self._kept.append((scores_NS.copy(), positive_NS.copy(), np.array(rows_N)))
            if self._rows <= self.limit:
                return
            self._bins_2SB = np.zeros((2, self.columns, BINS), np.int64)
            kept, self._kept = self._kept, []
            for scores, positive, _ in kept:
                self._count(scores, positive)
        else:
            self._count(scores_NS, positive_NS)

    def _count(self, scores_NS: np.ndarray, positive_NS: np.ndarray) -> None:
        assert self._bins_2SB is not None
        bins_NS = _bin(scores_NS)
        for column in range(self.columns):
            code = bins_NS[:, column] + BINS * positive_NS[:, column]
            self._bins_2SB[:, column] += np.bincount(code, minlength=2 * BINS).reshape(2, BINS)

    def result(self) -> dict[str, dict[str, Any]]:
        """`roc_auc` and `pr_auc`; a column without both positives and negatives takes no part."""
        if not self._rows:
            return {}
        prepared = [self._prepare(column) for column in range(self.columns)]
        usable = [column for column, groups in enumerate(prepared) if groups.mixed]
        if not usable:
            return {}
        value = np.mean([prepared[column].areas_plain() for column in usable], axis=0)
        replicates = np.zeros((2, 0))
        size = BINS if self.approximate else self._rows
        if self.replicates and size * len(usable) * self.replicates <= _INTERVAL_WORK:
            replicates = self._replicate(prepared, usable, size)
        names = ("roc_auc", "pr_auc")
        found = {n: summary(v, r, self.approximate) for n, v, r in zip(names, value, replicates, strict=True)}
        return {name: entry for name, entry in found.items() if entry}

    def curves(self, column: int) -> dict[str, list[list[float]]]:
        """`roc` (false positive rate, true positive rate) and `pr` (recall, precision); bounded in length."""
        groups = self._prepare(column) if self._rows else None
        if groups is None or not groups.mixed:
            return {"roc": [], "pr": []}
        true, all_ = groups.positive_G, groups.all_G
        false = all_ - true
        # Evenly along the curve's own length, so that neither a steep nor a flat part is lost.
        along = true / true[-1] + false / false[-1]
        chosen = np.unique(np.searchsorted(along, np.linspace(0, along[-1], _CURVE)).clip(0, len(along) - 1))
        roc = np.stack([false / false[-1], true / true[-1]], 1)[chosen]
        pr = np.stack([true / true[-1], true / np.maximum(all_, 1)], 1)[chosen]
        return {
            "roc": [[0.0, 0.0], *roc.round(5).tolist()],
            "pr": [[0.0, float(pr[0, 1])], *pr.round(5).tolist()],
        }

    def _prepare(self, column: int) -> _Groups:
        if self._bins_2SB is not None:
            negative, positive = self._bins_2SB[:, column, ::-1]
            return _Groups(np.cumsum(positive), np.cumsum(negative + positive))
        scores_N = np.concatenate([scores[:, column] for scores, _, _ in self._kept])
        positive_N = np.concatenate([positive[:, column] for _, positive, _ in self._kept]).astype(bool)
        order = np.argsort(-scores_N, kind="stable")
        sorted_N, positive_N = scores_N[order], positive_N[order]
        ends = np.append(np.flatnonzero(sorted_N[1:] != sorted_N[:-1]), len(sorted_N) - 1)
        return _Groups(np.cumsum(positive_N)[ends], ends + 1, order, positive_N)

    def _replicate(self, prepared: list[_Groups], usable: list[int], size: int) -> np.ndarray:
        """Macro means for each replicate, (2, R)."""
        step = max(8, 1_000_000 // size // 4 * 4)  # replicates at once: bounds the scratch memory
        rows_N = None if self.approximate else np.concatenate([rows for _, _, rows in self._kept])
        parts = []
        for start in range(0, self.replicates, step):
            batch = range(start, min(start + step, self.replicates))
            areas = []
            weights_NR = None if rows_N is None else poisson_weights(rows_N, batch, self.seed)
            for column in usable:
                if weights_NR is None:
                    random = np.random.default_rng([self.seed, start, column])
                    assert self._bins_2SB is not None
                    bins_2B = self._bins_2SB[:, column, ::-1]
                    drawn = random.poisson(np.broadcast_to(bins_2B[..., None], (*bins_2B.shape, len(batch))))
                    areas.append(_areas(np.cumsum(drawn[1], 0), np.cumsum(drawn[0] + drawn[1], 0)))
                else:
                    areas.append(prepared[column].areas(weights_NR))
            stacked = np.stack(areas)  # (columns, 2, R)
            known = np.isfinite(stacked)
            with np.errstate(invalid="ignore"):
                parts.append(np.where(known, stacked, 0).sum(0) / known.sum(0))
        return np.concatenate(parts, axis=1)


class _Groups:
    """Rows of one column by falling score, in groups of equal score."""

    def __init__(
        self,
        positive_G: np.ndarray,
        all_G: np.ndarray,
        order: np.ndarray | None = None,
        positive_N: np.ndarray | None = None,
    ) -> None:
        self.positive_G, self.all_G = positive_G, all_G  # counts up to and with each group
        self.order, self.positive_N = order, positive_N

    @property
    def mixed(self) -> bool:
        return 0 < self.positive_G[-1] < self.all_G[-1]

    def areas_plain(self) -> np.ndarray:
        return _areas(self.positive_G[:, None], self.all_G[:, None])[:, 0]

    def areas(self, weights_NR: np.ndarray) -> np.ndarray:
        """(2, R) areas with these weights of the rows."""
        assert self.order is not None
        assert self.positive_N is not None
        sorted_NR = weights_NR[self.order]
        all_NR = np.cumsum(sorted_NR, axis=0, dtype=np.int32)
        positive_PR = np.cumsum(sorted_NR[self.positive_N], axis=0, dtype=np.int32)
        # Only groups that hold a positive row add to either area; of the others the running count is enough.
        before_G = np.concatenate([[0], self.positive_G[:-1]])
        held = np.flatnonzero(self.positive_G > before_G)
        return _areas(
            positive_PR[self.positive_G[held] - 1],
            all_NR[self.all_G[held] - 1],
            np.where((held == 0)[:, None], 0, all_NR[self.all_G[held - 1] - 1]),
            all_NR[-1],
        )


def _areas(
    positive_GR: np.ndarray,
    all_GR: np.ndarray,
    before_GR: np.ndarray | None = None,
    total_R: np.ndarray | None = None,
) -> np.ndarray:
    """ROC-AUC and average precision (2, R) from running counts by falling score.

    `before_GR`: the count of all rows before each group, where groups without positives were left out."""
    start = np.zeros_like(positive_GR[:1])
    earlier_GR = np.concatenate([start, positive_GR[:-1]])
    if before_GR is None:
        before_GR = np.concatenate([start, all_GR[:-1]])
    total_R = all_GR[-1] if total_R is None else total_R
    gained_GR = (positive_GR - earlier_GR).astype(np.float64)
    positives_R = positive_GR[-1].astype(np.float64)
    negatives_R = total_R - positives_R
    # A positive beats the negatives after its group, and half beats those within it.
    beaten_GR = negatives_R - 0.5 * ((before_GR - earlier_GR) + (all_GR - positive_GR))
    with np.errstate(divide="ignore", invalid="ignore"):
        roc_R = np.einsum("gr,gr->r", gained_GR, beaten_GR) / (positives_R * negatives_R)
        average_R = np.einsum("gr,gr->r", gained_GR, positive_GR / np.maximum(all_GR, 1)) / positives_R
    return np.stack([roc_R, average_R])


def _bin(scores: np.ndarray) -> np.ndarray:
    """Probability → bin, evenly in logits: near 0 and 1 is where confident models put their scores."""
    p = np.clip(scores.astype(np.float64), 1e-12, 1 - 1e-12)
    logit = np.log(p) - np.log1p(-p)
    return np.clip(((logit + _REACH) * (BINS / (2 * _REACH))).astype(np.int64), 0, BINS - 1)
