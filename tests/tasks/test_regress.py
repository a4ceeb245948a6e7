"""regress against torch's and scikit-learn's losses; answers and metrics are in raw units."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.metrics import mean_pinball_loss
from torch.nn import functional as F

from modelworks.core.errors import UserError
from modelworks.tasks.regress import Regress

OUTPUT = torch.randn(6, 1, generator=torch.Generator().manual_seed(0))
TARGET = torch.randn(6, 1, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "objective, reference",
    [("mse", F.mse_loss), ("mae", F.l1_loss), ("huber", lambda a, b: F.huber_loss(a, b, delta=0.3))],
)
def test_loss_is_torchs(objective, reference):
    task = Regress(target="y", objective=objective, delta=0.3)
    total, count = task.loss(OUTPUT, {"y": TARGET})
    assert total / count == pytest.approx(reference(OUTPUT, TARGET))
    members = torch.stack([OUTPUT, OUTPUT + 1], 1)
    expected = (reference(OUTPUT, TARGET) + reference(OUTPUT + 1, TARGET)) / 2
    assert task.loss(members, {"y": TARGET})[0] / 6 == pytest.approx(expected)
    parts = [task.loss(OUTPUT[part], {"y": TARGET[part]})[0] for part in (slice(2), slice(2, None))]
    assert sum(parts) == pytest.approx(total)


def test_quantile_loss_is_sklearns():
    task = Regress(target="y", objective="quantile", quantiles=[0.9, 0.1])
    output = torch.cat([OUTPUT, OUTPUT + 1], 1)
    total, count = task.loss(output, {"y": TARGET})
    expected = [mean_pinball_loss(TARGET, output[:, i], alpha=a) for i, a in enumerate((0.1, 0.9))]
    assert total / count == pytest.approx(np.mean(expected))


def test_mixed_rows_pay_for_both_targets():
    task = Regress(target="y")
    batch = {"y": TARGET, "mix.partner": torch.arange(6).roll(1), "mix.weight": torch.full((6,), 0.25)}
    expected = 0.25 * F.mse_loss(OUTPUT, TARGET) + 0.75 * F.mse_loss(OUTPUT, TARGET.roll(1, 0))
    assert task.loss(OUTPUT, batch)[0] / 6 == pytest.approx(expected)


def test_answers_and_metrics_are_in_raw_units(price):
    task = Regress(target="y")
    stored = torch.tensor([[0.0], [1.0], [-2.0]])
    predicted = {k: v.numpy() for k, v in task.predict(stored).items()}
    assert task.answer(predicted, price)["prediction"] == pytest.approx([100, 110, 80])
    meter = task.meter(price, bootstrap=0)
    meter.update(predicted, {"y": np.array([[0.5], [1.0], [-2.0]], np.float32), "row": np.arange(3)})
    found = meter.result()
    assert found["mae"]["value"] == pytest.approx(5 / 3)
    assert found["mape"]["value"] == pytest.approx(5 / 105 / 3, rel=1e-5)


def test_quantiles_are_in_order_and_named(price):
    task = Regress(target="y", objective="quantile")
    predicted = {k: v.numpy() for k, v in task.predict(torch.tensor([[2.0, 0.0, 1.0]])).items()}
    found = task.answer(predicted, price)
    assert found == {
        "prediction": [110.0],
        "quantile_0.05": [100.0],
        "quantile_0.5": [110.0],
        "quantile_0.95": [120.0],
    }
    meter = task.meter(price, bootstrap=0)
    meter.update(predicted, {"y": np.array([[1.0]]), "row": np.arange(1)})
    assert meter.result()["coverage"]["value"] == 1.0
    assert task.head(4, 3, price)(torch.zeros(2, 3, 4)).shape == (2, 3, 3)


def test_baseline_minimises_the_raw_error(fit):
    raw = np.random.default_rng(0).lognormal(3, 1.5, 500)
    field = fit("number", raw.tolist(), scale="log", missing="drop", indicator=False)
    stored = field.encode(pa.array(raw)).values
    found = Regress(target="y").baseline({"y": field}, stored)["prediction"]
    assert field.decode(found)[0] == pytest.approx(raw.mean(), rel=1e-3)
    found = Regress(target="y", objective="mae").baseline({"y": field}, stored)["prediction"]
    assert field.decode(found)[0] == pytest.approx(np.median(raw), rel=1e-2)


def test_a_target_of_two_numbers_is_refused(fit):
    field = fit("number", [1.0, None, 3.0])
    with pytest.raises(UserError, match="one number a row, 'y' gives 2"):
        Regress(target="y").head(4, 0, {"y": field})
    assert Regress.recognise(field.layout) == 0
