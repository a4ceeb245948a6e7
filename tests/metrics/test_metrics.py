"""Values against scikit-learn; batch sizes and the order of rows change nothing; details are JSON of bounded size."""

import json
import time

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from modelworks.core.errors import DataError
from modelworks.metrics import higher_is_better
from modelworks.metrics.classification import ClassificationMeter
from modelworks.metrics.generation import GenerationMeter
from modelworks.metrics.multilabel import MultilabelMeter
from modelworks.metrics.ranking import Ranks
from modelworks.metrics.regression import RegressionMeter


def class_data(rows=800, classes=4, seed=0, ties=False):
    random = np.random.default_rng(seed)
    truth = random.choice(classes, rows, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum())
    logits = random.normal(size=(rows, classes))
    logits[np.arange(rows), truth] += 1
    if ties:
        logits = logits.round()
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return truth, probability


def fill(meter, answer, truth, rows=None, sizes=(10**9,)):
    rows = np.arange(len(truth)) if rows is None else rows
    start = turn = 0
    while start < len(truth):
        part = slice(start, start + sizes[turn % len(sizes)])
        meter.update({k: v[part] for k, v in answer.items()}, {"y": truth[part], "row": rows[part]})
        start, turn = part.stop, turn + 1
    return meter


def values(meter):
    return {name: entry["value"] for name, entry in meter.result().items()}


@pytest.mark.parametrize("classes, ties", [(2, False), (2, True), (4, False), (4, True)])
def test_classification_equals_sklearn(classes, ties):
    truth, p = class_data(classes=classes, ties=ties)
    predicted = p.argmax(1)
    found = values(
        fill(
            ClassificationMeter("y", range(classes), top_k=2),
            {"prediction": predicted, "probability": p},
            truth,
        )
    )
    expected = {
        "accuracy": sk.accuracy_score(truth, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, predicted),
        "mcc": sk.matthews_corrcoef(truth, predicted),
        "log_loss": sk.log_loss(truth, p),
    }
    for average in ("micro", "macro", "weighted"):
        expected[f"precision_{average}"] = sk.precision_score(
            truth, predicted, average=average, zero_division=0
        )
        expected[f"recall_{average}"] = sk.recall_score(truth, predicted, average=average)
        expected[f"f1_{average}"] = sk.f1_score(truth, predicted, average=average)
    if classes == 2:
        expected |= {
            "precision": sk.precision_score(truth, predicted),
            "recall": sk.recall_score(truth, predicted),
            "f1": sk.f1_score(truth, predicted),
            "brier": sk.brier_score_loss(truth, p[:, 1]),
            "roc_auc": sk.roc_auc_score(truth, p[:, 1]),
            "pr_auc": sk.average_precision_score(truth, p[:, 1]),
        }
    else:
        hot = np.eye(classes)[truth]
        expected |= {
            "brier": ((p - hot) ** 2).sum(1).mean(),
            "roc_auc": sk.roc_auc_score(truth, p, multi_class="ovr"),
            "pr_auc": sk.average_precision_score(hot, p),
        }
        if not ties:
            expected["top_2_accuracy"] = sk.top_k_accuracy_score(truth, p, k=2)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name
    assert found.keys() >= expected.keys()


def test_calibration_error_by_hand():
    p = np.array([[0.1, 0.9], [0.1, 0.9], [0.4, 0.6], [0.4, 0.6]])
    truth = np.array([1, 0, 1, 1])
    meter = fill(ClassificationMeter("y", "ab"), {"prediction": p.argmax(1), "probability": p}, truth)
    assert values(meter)["ece"] == pytest.approx(0.5 * abs(0.9 - 0.5) + 0.5 * abs(0.6 - 1.0))
    assert meter.details()["reliability"] == [
        {"confidence": pytest.approx(0.6), "accuracy": 1.0, "rows": 2},
        {"confidence": pytest.approx(0.9), "accuracy": 0.5, "rows": 2},
    ]


def test_calibration_interval_holds_the_value():
    random = np.random.default_rng(0)
    score = random.random(20_000)
    truth = (random.random(20_000) < score).astype(int)
    p = np.stack([1 - score, score], 1)
    entry = fill(
        ClassificationMeter("y", "ab"), {"prediction": p.argmax(1), "probability": p}, truth
    ).result()["ece"]
    assert entry["low"] <= entry["value"] <= entry["high"]


def test_multilabel_equals_sklearn():
    random = np.random.default_rng(0)
    truth = (random.random((500, 5)) < [0.5, 0.3, 0.2, 0.1, 0.02]).astype(np.float32)
    p = 1 / (1 + np.exp(-(random.normal(size=(500, 5)) + 2 * truth - 1)))
    predicted = p > 0.5
    found = values(fill(MultilabelMeter("y", "abcde"), {"prediction": predicted, "probability": p}, truth))
    expected = {
        "subset_accuracy": sk.accuracy_score(truth, predicted),
        "hamming_loss": sk.hamming_loss(truth, predicted),
        "map": sk.average_precision_score(truth, p),
        "roc_auc": sk.roc_auc_score(truth, p),
        "f1_micro": sk.f1_score(truth, predicted, average="micro"),
        "f1_macro": sk.f1_score(truth, predicted, average="macro", zero_division=0),
        "precision_macro": sk.precision_score(truth, predicted, average="macro", zero_division=0),
        "recall_micro": sk.recall_score(truth, predicted, average="micro"),
        "log_loss": np.mean([sk.log_loss(truth[:, i], p[:, i]) for i in range(5)]),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


def test_regression_equals_sklearn():
    random = np.random.default_rng(0)
    truth = random.normal(1e6, 3, 501)  # a mean far from zero: R² must keep its digits
    predicted = truth + random.normal(size=501)
    quantile = np.stack([predicted - 1, predicted, predicted + 1], 1)
    meter = fill(
        RegressionMeter("y", [0.1, 0.5, 0.9]),
        {"prediction": predicted, "quantile": quantile},
        truth,
        sizes=(100,),
    )
    found = values(meter)
    expected = {
        "mse": sk.mean_squared_error(truth, predicted),
        "rmse": sk.root_mean_squared_error(truth, predicted),
        "mae": sk.mean_absolute_error(truth, predicted),
        "r2": sk.r2_score(truth, predicted),
        "mape": sk.mean_absolute_percentage_error(truth, predicted),
        "median_ae": sk.median_absolute_error(truth, predicted),
        "pinball": np.mean(
            [sk.mean_pinball_loss(truth, quantile[:, i], alpha=a) for i, a in enumerate((0.1, 0.5, 0.9))]
        ),
        "coverage": (np.abs(predicted - truth) <= 1).mean(),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-8), name
    assert list(meter.details()["residuals"].values())[4] == pytest.approx(np.median(predicted - truth))


def test_mape_leaves_out_zero_truths_and_says_so():
    meter = fill(RegressionMeter("y"), {"prediction": np.array([1.0, 3.0])}, np.array([0.0, 2.0]))
    assert values(meter)["mape"] == pytest.approx(0.5)
    assert meter.details()["mape_left_out"] == 1


def test_frechet_equals_scipy():
    random = np.random.default_rng(0)
    real, fake = (
        random.normal(size=(400, 4)) @ random.normal(size=(4, 4)),
        random.normal(0.5, 2, size=(400, 4)),
    )
    judged = {
        "real": real,
        "fake": fake,
        "prediction": np.full(400, 0.9),
        "prediction_fake": np.full(400, 0.8),
    }
    meter = GenerationMeter(bootstrap=20)
    meter.update(judged, {"row": np.arange(400)})
    found = values(meter)
    a, b = np.cov(real.T, bias=True), np.cov(fake.T, bias=True)
    distance = ((real.mean(0) - fake.mean(0)) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert found["frechet"] == pytest.approx(distance, rel=1e-6)
    assert found["diversity"] == pytest.approx(np.trace(b) / np.trace(a))
    assert (found["real_accuracy"], found["fake_accuracy"]) == (1.0, 0.0)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
    st.sampled_from([2, 3]),
)
def test_batches_and_order_change_nothing(sizes, shuffler, classes):
    truth, p = class_data(200, classes, ties=True)
    number, guess = p[:, 0], p[:, 1]
    rows = np.arange(200) * 7
    order = np.array(shuffler.sample(range(200), 200))
    made = {
        "class": (
            lambda: ClassificationMeter("y", range(classes), bootstrap=8),
            {"prediction": p.argmax(1), "probability": p},
            truth,
        ),
        "number": (lambda: RegressionMeter("y", bootstrap=8), {"prediction": guess}, number),
        "tags": (
            lambda: MultilabelMeter("y", range(classes), bootstrap=8),
            {"prediction": p > 0.3, "probability": p},
            np.eye(classes)[truth],
        ),
    }
    for build, answer, target in made.values():
        whole = fill(build(), answer, target, rows)
        parts = fill(build(), {k: v[order] for k, v in answer.items()}, target[order], rows[order], sizes)
        left, right = whole.result(), parts.result()
        assert left.keys() == right.keys()
        for name in left:
            assert left[name] == pytest.approx(right[name], rel=1e-9, abs=1e-12), name
        assert json.dumps(whole.details()["rows"]) == json.dumps(parts.details()["rows"])


@settings(max_examples=5, deadline=None)
@given(st.lists(st.integers(1, 900), min_size=1, max_size=3))
def test_histograms_do_not_depend_on_batches(sizes):
    truth, p = class_data(1500, 3)
    results = []
    for cut in ((10**9,), tuple(sizes)):
        ranks = Ranks(3, 8)
        ranks.limit = 700
        start = turn = 0
        while start < 1500:
            part = slice(start, start + cut[turn % len(cut)])
            ranks.add(p[part], truth[part, None] == np.arange(3), np.arange(1500)[part])
            start, turn = part.stop, turn + 1
        results.append(ranks.result())
    assert results[0] == results[1]


def test_histogram_is_close_and_says_approximate():
    truth, p = class_data(110_000, 2)
    entry = fill(
        ClassificationMeter("y", "ab"), {"prediction": p.argmax(1), "probability": p}, truth, sizes=(4096,)
    ).result()
    assert entry["roc_auc"]["approximate"] is True
    assert entry["roc_auc"]["value"] == pytest.approx(sk.roc_auc_score(truth, p[:, 1]), abs=1e-4)
    assert entry["pr_auc"]["value"] == pytest.approx(sk.average_precision_score(truth, p[:, 1]), abs=1e-3)
    exact = Ranks(1, 200)
    exact.limit = 10**9
    exact.add(p[:, 1:], truth[:, None] == 1, np.arange(110_000))
    other = exact.result()["roc_auc"]
    assert other["high"] - other["low"] == pytest.approx(
        entry["roc_auc"]["high"] - entry["roc_auc"]["low"], rel=0.25
    )
    error = np.abs(np.random.default_rng(0).normal(size=110_000))
    median = fill(RegressionMeter("y", bootstrap=50), {"prediction": error}, np.zeros(110_000)).result()[
        "median_ae"
    ]
    assert median["approximate"] is True
    assert median["value"] == pytest.approx(np.median(error), rel=0.005)


@pytest.mark.parametrize("rows, classes, seconds", [(10_000, 10, 1.0), (300_000, 2, 5.0)])
def test_intervals_are_cheap(rows, classes, seconds):
    truth, p = class_data(rows, classes)
    answer = {"prediction": p.argmax(1), "probability": p.astype(np.float32)}
    started = time.process_time()
    fill(ClassificationMeter("y", range(classes)), answer, truth, sizes=(512,)).result()
    assert time.process_time() - started < 2 * seconds  # twice what one quiet core needs: CI cores are shared


def test_details_are_bounded_json():
    truth, p = class_data(30_000, 3)
    found = fill(
        ClassificationMeter("y", "abc"), {"prediction": p.argmax(1), "probability": p}, truth
    ).details()
    text = json.dumps(found, allow_nan=False)
    assert len(text) < 60_000
    assert np.array(found["confusion"]).tolist() == sk.confusion_matrix(truth, p.argmax(1)).tolist()
    points = np.array(found["roc"]["a"])
    assert sk.auc(points[:, 0], points[:, 1]) == pytest.approx(
        sk.roc_auc_score(truth == 0, p[:, 0]), abs=2e-3
    )
    number = fill(RegressionMeter("y"), {"prediction": p[:, 0]}, p[:, 1]).details()
    assert len(json.dumps(number, allow_nan=False)) < 150_000


def test_one_class_only_gives_no_rank_metrics():
    p = np.array([[0.2, 0.8], [0.6, 0.4]])
    found = values(
        fill(ClassificationMeter("y", "ab"), {"prediction": p.argmax(1), "probability": p}, np.array([1, 1]))
    )
    assert "roc_auc" not in found
    assert found["accuracy"] == 0.5
    assert ClassificationMeter("y", "ab").result() == {}


def test_many_classes_stay_small():
    truth = np.arange(5000) % 3000
    found = fill(ClassificationMeter("y", range(3000), bootstrap=20), {"prediction": truth}, truth)
    assert values(found)["f1_macro"] == 1.0
    assert "confusion" not in found.details()


def test_a_class_beyond_the_labels_is_refused():
    with pytest.raises(DataError, match="class 7"):
        fill(ClassificationMeter("y", "ab"), {"prediction": np.array([0])}, np.array([7]))


def test_direction_of_every_metric():
    lower = {
        "log_loss",
        "brier",
        "ece",
        "hamming_loss",
        "mse",
        "rmse",
        "mae",
        "mape",
        "median_ae",
        "pinball",
        "frechet",
        "valid/loss",
    }
    higher = {
        "accuracy",
        "f1_macro",
        "roc_auc",
        "map",
        "mcc",
        "r2",
        "top_5_accuracy",
        "coverage",
        "diversity",
    }
    assert not any(map(higher_is_better, lower))
    assert all(map(higher_is_better, higher))
