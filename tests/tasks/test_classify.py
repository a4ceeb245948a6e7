"""classify against torch's own losses, and by properties: splitting, mixing, members, focal at gamma 0."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from modelworks.core.errors import RecipeError, UserError
from modelworks.tasks.classify import Classify

LOGITS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
TARGET = torch.tensor([0, 1, 2, 2, 1, 2])
BATCH = {"y": TARGET}


def ready(fields, **values):
    task = Classify(target="y", **values)
    task.head(4, 0, fields)
    return task


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", ["none", {"ant": 3.0, "cat": 0.5}])
def test_cross_entropy_is_torchs(animals, smoothing, weights):
    total, count = ready(animals, label_smoothing=smoothing, class_weights=weights).loss(LOGITS, BATCH)
    weight = None if weights == "none" else torch.tensor([3.0, 1.0, 0.5])
    expected = F.cross_entropy(LOGITS, TARGET, weight, label_smoothing=smoothing, reduction="sum")
    assert total == pytest.approx(expected)
    assert count == 6


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_focal_at_gamma_zero_is_cross_entropy(animals, smoothing, weights):
    common = {"label_smoothing": smoothing, "class_weights": weights}
    focal, _ = ready(animals, objective="focal", gamma=0.0, **common).loss(LOGITS, BATCH)
    assert focal == pytest.approx(ready(animals, **common).loss(LOGITS, BATCH)[0])


def test_focal_is_the_papers(animals):
    p = LOGITS.softmax(1)[torch.arange(6), TARGET]
    expected = -((1 - p) ** 2 * p.log()).sum()
    assert ready(animals, objective="focal").loss(LOGITS, BATCH)[0] == pytest.approx(expected)
    sure = torch.tensor([[0.0, 90.0, 0.0]], requires_grad=True)
    ready(animals, objective="focal", gamma=0.5).loss(sure, {"y": torch.tensor([1])})[0].backward()
    assert sure.grad.isfinite().all()


def test_one_sigmoid_unit(coin):
    logit, target = LOGITS[:, :1], TARGET.clamp(max=1)
    batch = {"y": target}
    task = ready(coin, units="one", objective="mse")
    assert task.loss(logit, batch)[0] == pytest.approx(
        F.mse_loss(logit[:, 0].sigmoid(), target.float(), reduction="sum")
    )
    assert task.head(4, 0, coin)(torch.zeros(2, 4)).shape == (2, 1)
    expected = F.binary_cross_entropy_with_logits(logit[:, 0], target.float(), reduction="sum")
    assert ready(coin, units="one").loss(logit, batch)[0] == pytest.approx(expected)
    assert torch.allclose(task.predict(logit)["probability"][:, 1], logit[:, 0].sigmoid())


def test_balanced_weights_are_sklearns(animals):
    from sklearn.utils.class_weight import compute_class_weight

    rows = np.array([0] * 1 + [1] * 2 + [2] * 5)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=rows)
    assert np.allclose(ready(animals, class_weights="balanced")._weight_C, expected)
    assert expected[rows].mean() == pytest.approx(1)


def test_balanced_weights_pass_over_the_unknown_class(fit):
    fields = {"y": fit("category", ["a", "b", "b"])}
    assert ready(fields, class_weights="balanced")._weight_C.tolist() == pytest.approx([1.0, 1.5, 0.75])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.sampled_from(["cross_entropy", "focal", "mse"]), st.booleans())
def test_sum_and_count_do_not_depend_on_how_a_batch_is_split(cut, objective, ensemble):
    task = Classify(target="y", objective=objective)
    output = torch.stack([LOGITS, LOGITS * 0.5], 1) if ensemble else LOGITS
    whole, count = task.loss(output, BATCH)
    parts = [task.loss(output[part], {"y": TARGET[part]}) for part in (slice(cut), slice(cut, None))]
    assert sum(float(total) for total, _ in parts) == pytest.approx(float(whole), rel=1e-5)
    assert sum(rows for _, rows in parts) == count


@pytest.mark.parametrize("objective", ["cross_entropy", "focal", "mse"])
def test_mixed_rows_pay_for_both_targets(objective):
    task = Classify(target="y", objective=objective)
    partner, weight = torch.tensor([5, 4, 3, 2, 1, 0]), torch.tensor([1.0, 0.0, 0.3, 0.5, 0.7, 0.9])
    each = torch.stack([task.loss(LOGITS[i : i + 1], {"y": TARGET[i : i + 1]})[0] for i in range(6)])
    other = torch.stack(
        [task.loss(LOGITS[i : i + 1], {"y": TARGET[partner[i]].view(1)})[0] for i in range(6)]
    )
    total, _ = task.loss(LOGITS, {**BATCH, "mix.partner": partner, "mix.weight": weight})
    assert total == pytest.approx(float((weight * each + (1 - weight) * other).sum()), rel=1e-5)


@pytest.mark.parametrize("objective", ["cross_entropy", "focal", "mse"])
def test_each_member_of_an_ensemble_has_its_own_loss(objective):
    task = Classify(target="y", objective=objective)
    members = [LOGITS, -LOGITS, LOGITS * 2]
    total, count = task.loss(torch.stack(members, 1), BATCH)
    assert total == pytest.approx(sum(float(task.loss(m, BATCH)[0]) for m in members) / 3, rel=1e-5)
    assert count == 6
    found = task.predict(torch.stack(members, 1))
    assert torch.allclose(found["probability"], sum(m.softmax(1) for m in members) / 3)


def test_threshold(coin):
    output = torch.tensor([[0.0, 0.0], [0.0, -1.0]])  # 0.5 and 0.27 for the second class
    assert ready(coin, threshold=0.2).predict(output)["prediction"].tolist() == [1, 1]
    assert ready(coin, threshold=0.4).predict(output)["prediction"].tolist() == [1, 0]


def test_answer_names_classes(coin):
    task = ready(coin)
    predicted = {k: v.numpy() for k, v in task.predict(torch.tensor([[2.0, 0.0], [0.0, 2.0]])).items()}
    found = task.answer(predicted, coin)
    assert found["prediction"] == ["no", "yes"]
    assert found["probability_yes"] == pytest.approx([0.1192, 0.8808], abs=1e-4)


def test_baseline_is_the_commonest_class(animals):
    task = ready(animals)
    found = task.baseline(animals, np.array([0, 1, 1, 2, 2, 2, 2, 2], np.uint8))
    assert found["prediction"].tolist() == [2]
    assert found["probability"].tolist() == [[0.125, 0.25, 0.625]]


def test_meter_reads_what_predict_gives(animals):
    task = ready(animals)
    meter = task.meter(animals, bootstrap=20)
    meter.update(
        {k: v.numpy() for k, v in task.predict(LOGITS).items()}, {"y": TARGET.numpy(), "row": np.arange(6)}
    )
    assert meter.result()["log_loss"]["value"] == pytest.approx(
        float(F.cross_entropy(LOGITS, TARGET)), abs=1e-6
    )
    assert meter.details()["labels"] == ["ant", "bee", "cat"]


@pytest.mark.parametrize(
    "values, message",
    [
        ({"units": "one"}, "units: one is for two classes, 'y' has 3"),
        ({"threshold": 0.3}, "threshold is for two classes"),
        ({"class_weights": {"bea": 2.0}}, "did you mean 'bee'"),
        ({"target": "z"}, "no field 'z'"),
    ],
)
def test_mistakes_are_explained(animals, values, message):
    with pytest.raises(UserError, match=message):
        Classify(**{"target": "y", **values}).head(4, 0, animals)


def test_a_field_of_another_form_is_refused(price):
    with pytest.raises(UserError, match="'y' is a number"):
        Classify(target="y").head(4, 0, price)
    with pytest.raises(RecipeError):
        Classify(target="y", objective="hinge")
