"""The embed task: views are pieces of their text, the loss is InfoNCE by hand, and halves come to find one another."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from modelworks.core.errors import UserError
from modelworks.engine.network import build
from modelworks.fields.text import Text
from modelworks.metrics.embedding import EmbeddingMeter
from modelworks.models.transformer import Transformer
from modelworks.tasks.embed import Embed, piece

torch.set_num_threads(1)
TEXTS = [
    " ".join(f"w{topic}{(at * 7 + row) % 4}" for at in range(10)) for topic in range(4) for row in range(4)
]


@pytest.fixture(scope="module")
def fields():
    return {"text": Text(min_count=1).fit([pa.array(TEXTS)])}


def batch_of(fields, texts=TEXTS):
    encoded = fields["text"].encode(pa.array(texts))
    rows = np.split(encoded.values.astype(np.int64), np.cumsum(encoded.lengths)[:-1])
    padded = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = torch.from_numpy(ids)
    return {"text": padded, "text.length": torch.from_numpy(encoded.lengths), "row": torch.arange(len(rows))}


def made(fields, **settings):
    task = Embed(target="text", **settings)
    return task, build(Transformer(width=16, depth=1, heads=2, dropout=0.1), task, fields, seed=0)


def test_a_piece_is_what_stands_there() -> None:
    tokens = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 0, 0, 0]])
    found = piece(tokens, torch.tensor([1, 1]), torch.tensor([3, 1]))
    assert found.tolist() == [[2, 3, 4, 0, 0], [7, 0, 0, 0, 0]]


def test_crops_lie_within_their_text(fields) -> None:
    task, _ = made(fields)
    torch.manual_seed(0)
    length = torch.randint(1, 40, (500,))
    start, kept = task._crop(length)
    assert (start >= 0).all()
    assert (kept >= 1).all()
    assert (start + kept <= length).all()
    assert ((kept >= 0.1 * length - 0.5) & (kept <= torch.maximum(0.5 * length + 0.5, torch.ones(500)))).all()


@pytest.mark.parametrize("views", ["crop", "dropout"])
def test_loss_by_hand(fields, views) -> None:
    task, network = made(fields, views=views, temperature=0.1)
    batch = batch_of(fields)
    del batch["row"]  # which training batches lack
    output = task.forward(network.train(), batch)
    total, count = task.loss(output, batch)
    a, b = output.first_BD.detach().numpy(), output.second_BD.detach().numpy()
    wanted = 0.0
    for row in range(len(a)):
        scores = [float(a[row] @ other) / 0.1 for other in b]
        wanted += math.log(sum(math.exp(score) for score in scores)) - scores[row]
    assert count == len(TEXTS)
    assert float(total.detach()) == pytest.approx(wanted, rel=1e-4)
    assert not torch.equal(output.first_BD, output.second_BD)
    torch.testing.assert_close(output.first_BD.norm(dim=1), torch.ones(len(TEXTS)))


def test_halves_are_measured_and_wholes_answered(fields) -> None:
    task, network = made(fields)
    batch, network = batch_of(fields, ["w00 w01 w02", "w10"]), network.eval()
    with torch.no_grad():
        halves = task.forward(network, batch)
        first = task.forward(
            network, {k: v for k, v in batch_of(fields, ["w00 w01", "w10"]).items() if k != "row"}
        )
        second = task.forward(
            network, {k: v for k, v in batch_of(fields, ["w02", "w10"]).items() if k != "row"}
        )
    torch.testing.assert_close(halves.first_BD, first.first_BD)
    torch.testing.assert_close(halves.second_BD, second.first_BD)
    answers = task.answer({name: value.numpy() for name, value in task.predict(first).items()}, fields)
    assert len(answers["prediction"]) == 2
    assert len(answers["prediction"][0]) == 16


def test_it_learns(fields) -> None:
    task, network = made(fields, projection=False)
    texts = [f"w{n % 4}{n // 4 % 4} " * 6 for n in range(16)]
    batch = batch_of(fields, texts)
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(network.train().parameters(), 3e-3)
    loss = task.players(network)[0].loss
    for _ in range(60):
        optimizer.zero_grad()
        total, count = loss({name: value for name, value in batch.items() if name != "row"})
        (total / count).backward()
        optimizer.step()
    with torch.no_grad():
        output = task.forward(network.eval(), batch)
    meter = task.meter(fields, bootstrap=8)
    meter.update({name: value.numpy() for name, value in task.measure(output, batch).items()}, batch)
    assert meter.result()["recall_at_1"]["value"] == 1


def test_metrics_by_hand() -> None:
    meter = EmbeddingMeter(bootstrap=0)
    first, second = np.eye(3), np.eye(3)[[0, 2, 1]]
    meter.update({"first": first[:2], "second": second[:2]}, {"row": np.arange(2)})
    meter.update({"first": first[2:], "second": second[2:]}, {"row": np.array([2])})
    found = {name: entry["value"] for name, entry in meter.result().items()}
    assert found["recall_at_1"] == pytest.approx(1 / 3)  # the other two find one another's
    assert found["mrr"] == pytest.approx((1 + 2 * 1 / 2.5) / 3)
    assert found["alignment_distance"] == pytest.approx(4 / 3)
    assert found["uniformity_loss"] == pytest.approx(-4)
    task = Embed(target="text")
    chance = task.meter({}, bootstrap=0)
    truth = {"row": np.arange(8)}
    chance.update(task.trivial(task.baseline({}, np.zeros(1)), truth), truth)
    assert chance.result()["recall_at_1"]["value"] == pytest.approx(1 / 8)


def test_wrong_settings_are_refused(fields) -> None:
    with pytest.raises(UserError, match="is more than"):
        Embed(target="text", least=0.9).head(4, 0, fields)


def test_the_loss_is_had_before_training_begins(fields) -> None:
    """As engine/train/threads.py measures it: in evaluation mode, without row numbers."""
    task, network = made(fields)
    batch = batch_of(fields)
    del batch["row"]
    total, count = task.players(network.eval())[0].loss(batch)
    assert total.isfinite()
    assert int(count) > 0
