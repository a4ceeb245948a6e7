"""AUC and R², and the intervals the tables are judged by."""

from __future__ import annotations

import math

import numpy as np

# Two-sided 95 % points of Student's t by degrees of freedom; beyond, the normal's.
_T = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}


def auc(truth: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a positive row scores above a negative one, ties half."""
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    positive = truth.astype(bool)
    ones, zeros = positive.sum(), (~positive).sum()
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def r2(truth: np.ndarray, guess: np.ndarray) -> float:
    """Share of the variance explained."""
    return float(1 - ((truth - guess) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())


def standard_error(values: list[float]) -> float:
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else float("nan")


def fold_interval(differences: list[float]) -> tuple[float, float]:
    """95 % interval of a mean over folds (Student's t). Folds share training rows, so it is a little too narrow."""
    mean, reach = (
        float(np.mean(differences)),
        _T.get(len(differences) - 1, 1.96) * standard_error(differences),
    )
    return mean - reach, mean + reach


def bootstrap_interval(
    metric, truth: np.ndarray, one: np.ndarray, other: np.ndarray, draws: int = 200
) -> tuple[float, float]:
    """95 % interval of metric(one) − metric(other) over resampled test rows."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        rows = random.integers(0, len(truth), len(truth))
        found.append(metric(truth[rows], one[rows]) - metric(truth[rows], other[rows]))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)
