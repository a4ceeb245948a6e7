"""multilabel against torch's own binary cross-entropy, and what it answers."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from modelworks.core.errors import UserError
from modelworks.tasks.multilabel import Multilabel

LOGITS = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
TARGET = (torch.rand(5, 3, generator=torch.Generator().manual_seed(1)) < 0.5).float()


def ready(fields, **values):
    task = Multilabel(target="y", **values)
    task.head(4, 0, fields)
    return task


@pytest.mark.parametrize(
    "pos_weight, tensor", [(1.0, [1.0, 1, 1]), (3.0, [3.0, 3, 3]), ({"b": 2.0}, [1.0, 2, 1])]
)
def test_loss_is_torchs(genres, pos_weight, tensor):
    total, count = ready(genres, pos_weight=pos_weight).loss(LOGITS, {"y": TARGET})
    expected = F.binary_cross_entropy_with_logits(LOGITS, TARGET, pos_weight=torch.tensor(tensor))
    assert total / count == pytest.approx(expected)


def test_members_split_and_smoothing(genres):
    task = ready(genres, label_smoothing=0.2)
    members = [LOGITS, -LOGITS]
    total, count = task.loss(torch.stack(members, 1), {"y": TARGET})
    expected = sum(F.binary_cross_entropy_with_logits(m, TARGET * 0.8 + 0.1) for m in members) / 2
    assert total / count == pytest.approx(expected)
    parts = [task.loss(LOGITS[part], {"y": TARGET[part]}) for part in (slice(2), slice(2, None))]
    assert sum(t for t, _ in parts) == pytest.approx(task.loss(LOGITS, {"y": TARGET})[0])


def test_mixed_rows_pay_for_both_targets(genres):
    task = ready(genres)
    batch = {"y": TARGET, "mix.partner": torch.tensor([1, 2, 3, 4, 0]), "mix.weight": torch.full((5,), 0.25)}
    soft = 0.25 * TARGET + 0.75 * TARGET.roll(-1, 0)  # the loss is linear in the target
    assert task.loss(LOGITS, batch)[0] == pytest.approx(F.binary_cross_entropy_with_logits(LOGITS, soft) * 5)


def test_answer_and_meter(genres):
    task = ready(genres, threshold=0.4)
    predicted = {
        k: v.numpy() for k, v in task.predict(torch.tensor([[3.0, -3.0, -0.2], [-3.0, -3.0, -3.0]])).items()
    }
    found = task.answer(predicted, genres)
    assert found["prediction"] == [["a", "c"], []]
    assert found["probability_a"][0] == pytest.approx(0.9526, abs=1e-4)
    meter = task.meter(genres, bootstrap=0)
    meter.update(predicted, {"y": np.array([[1, 0, 0], [0, 0, 0]]), "row": np.arange(2)})
    assert meter.result()["subset_accuracy"] == {"value": 0.5}


def test_baseline_is_the_frequencies(genres):
    found = ready(genres).baseline(genres, np.array([[1, 1, 0], [0, 1, 0], [1, 0, 1], [0, 1, 0]], np.uint8))
    assert found["probability"].tolist() == [[0.5, 0.75, 0.25]]
    assert found["prediction"].tolist() == [[1, 1, 0]]


def test_an_unknown_tag_is_explained(genres):
    with pytest.raises(UserError, match=r"task.pos_weight: there is no label 'z'"):
        ready(genres, pos_weight={"z": 2.0})
