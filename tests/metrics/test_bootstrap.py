"""The Poisson bootstrap: its weights are Poisson(1) and independent, its intervals are the plain bootstrap's."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score, roc_auc_score

from modelworks.metrics.bootstrap import Counts, poisson_weights, summary
from modelworks.metrics.classification import ClassificationMeter
from modelworks.metrics.regression import RegressionMeter


def test_weights_are_poisson():
    weights = poisson_weights(np.arange(40_000), 40, seed=3)
    observed = np.bincount(weights.reshape(-1), minlength=8)[:8]
    expected = stats.poisson(1).pmf(np.arange(8)) * weights.size
    assert stats.chisquare(observed[:7], expected[:7] * observed[:7].sum() / expected[:7].sum()).pvalue > 1e-4


def test_weights_are_independent_of_each_other():
    weights = poisson_weights(np.arange(20_000), 200).astype(float)
    between = np.corrcoef(weights.T) - np.eye(200)
    assert np.abs(between).max() < 5 / np.sqrt(20_000)
    neighbours = [np.corrcoef(weights[:-1, b], weights[1:, b])[0, 1] for b in range(200)]
    assert np.abs(neighbours).max() < 5 / np.sqrt(20_000)


def test_weights_are_a_function_of_seed_replicate_and_row():
    rows = np.array([5, 0, 99, 10**12])
    whole = poisson_weights(rows, 22, seed=1)
    assert np.array_equal(whole[::-1], poisson_weights(rows[::-1], 22, seed=1))
    assert np.array_equal(whole[:, 8:20], poisson_weights(rows, range(8, 20), seed=1))
    assert not np.array_equal(
        poisson_weights(np.arange(100), 22, seed=1), poisson_weights(np.arange(100), 22, seed=2)
    )


@pytest.mark.parametrize("size", [10, 500])
def test_counts_equal_weighted_bincount(size):
    codes = np.random.default_rng(0).integers(-1, size, 3000)
    weights = poisson_weights(np.arange(3000), 8).astype(float)
    counts = Counts(size, 8)
    counts.add(codes, weights)
    kept = codes >= 0
    assert np.array_equal(counts.total, np.bincount(codes[kept], minlength=size))
    for b in range(8):
        assert np.allclose(counts.weighted[b], np.bincount(codes[kept], weights[kept, b], size))


def test_undefined_value_has_no_entry():
    assert summary(np.nan, np.zeros(3)) is None
    assert summary(1.0, np.zeros(0)) == {"value": 1.0}


def plain_bootstrap(metric, rows, replicates=600):
    random = np.random.default_rng(7)
    values = [metric(random.integers(0, rows, rows)) for _ in range(replicates)]
    return np.percentile(values, [2.5, 97.5])


def close(entry, reference):
    """Both ends within a fifth of the interval's width: what 600 replicates can promise."""
    width = reference[1] - reference[0]
    return abs(entry["low"] - reference[0]) < 0.2 * width and abs(entry["high"] - reference[1]) < 0.2 * width


def test_intervals_of_classification_are_the_plain_bootstraps():
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 600)
    score = 1 / (1 + np.exp(-random.normal(truth * 1.2 - 0.6)))
    probability = np.stack([1 - score, score], 1)
    predicted = (score > 0.5).astype(int)
    meter = ClassificationMeter("y", ["a", "b"], bootstrap=600)
    meter.update({"prediction": predicted, "probability": probability}, {"y": truth, "row": np.arange(600)})
    found = meter.result()
    assert close(found["accuracy"], plain_bootstrap(lambda i: (truth[i] == predicted[i]).mean(), 600))
    assert close(found["roc_auc"], plain_bootstrap(lambda i: roc_auc_score(truth[i], score[i]), 600))
    assert close(
        found["f1_macro"], plain_bootstrap(lambda i: f1_score(truth[i], predicted[i], average="macro"), 600)
    )


def test_intervals_of_regression_are_the_plain_bootstraps():
    random = np.random.default_rng(0)
    truth = random.normal(size=600)
    predicted = truth + random.normal(size=600)
    meter = RegressionMeter("y", bootstrap=600)
    meter.update({"prediction": predicted}, {"y": truth, "row": np.arange(600)})
    found = meter.result()
    error = predicted - truth
    assert close(found["rmse"], plain_bootstrap(lambda i: np.sqrt((error[i] ** 2).mean()), 600))
    assert close(found["median_ae"], plain_bootstrap(lambda i: np.median(np.abs(error[i])), 600))
    r2 = lambda i: 1 - (error[i] ** 2).mean() / truth[i].var()  # noqa: E731
    assert close(found["r2"], plain_bootstrap(r2, 600))
