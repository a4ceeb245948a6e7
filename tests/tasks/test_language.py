"""The language task against what can be computed by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from modelworks.core.dataset import Dataset
from modelworks.core.errors import UserError
from modelworks.engine import judge
from modelworks.engine.data.prepare import fit, prepare
from modelworks.engine.data.windows import Windows
from modelworks.engine.network import Network, build
from modelworks.fields.corpus import Corpus
from modelworks.metrics.language import LanguageMeter
from modelworks.models.transformer import Transformer
from modelworks.tasks.language import Language


class Constant(nn.Module):
    """Features that do not look at the input."""

    width = 3

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(300, 3)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.ones(*batch["text"].shape, 3)


@pytest.fixture
def corpus(tmp_path: Path):
    dataset = Dataset.from_batches([pa.record_batch({"text": ["ab" * 5000 + "é" * 1000]})])
    fields = fit({"text": Corpus(tokens="byte", length=7, end=False)}, dataset)
    return fields, prepare(dataset, fields, tmp_path).store("train")


def test_a_head_of_zeros_finds_every_token_equally_likely(corpus) -> None:
    fields, store = corpus
    task = Language(target="text")
    network = Network(Constant(), task.head(3, 0, fields))
    rows = Windows(store, "text", 7, whole=True)
    found = judge.evaluate(network, task, fields, rows)["metrics"]
    size = fields["text"].layout.size
    assert found["perplexity"]["value"] == pytest.approx(size, rel=1e-5)
    assert found["loss"]["value"] == pytest.approx(math.log(size), rel=1e-5)
    assert found["bits_per_byte"]["value"] == pytest.approx(
        math.log2(size), rel=1e-5
    )  # a token is a byte here


def test_the_baseline_is_the_entropy_of_the_tokens(corpus) -> None:
    fields, store = corpus
    task = Language(target="text")
    rows = Windows(store, "text", 7, whole=True)
    trivial = judge.trivial_answer(task, fields, rows)
    network = Network(Constant(), task.head(3, 0, fields))
    found = judge.evaluate(network, task, fields, rows, baseline=trivial)["baseline"]
    shares = np.array([50, 50, 10, 10]) / 120
    assert math.log(found["perplexity"]["value"]) == pytest.approx(-(shares * np.log(shares)).sum(), rel=0.1)


def test_bits_per_byte_counts_bytes_not_tokens() -> None:
    meter = LanguageMeter(np.array([0, 1, 3]), bootstrap=0)
    nll = np.array([[1.0, 2.0, 9.0]])
    meter.update({"nll": nll, "next": np.array([[1, 2, -1]])}, {"row": np.array([0])})
    found = meter.result()
    assert found["perplexity"]["value"] == pytest.approx(math.exp(1.5))
    assert found["bits_per_byte"]["value"] == pytest.approx(3 / 4 / math.log(2))


def test_a_tied_head_has_no_table_of_its_own(corpus) -> None:
    fields, _ = corpus
    task, body = Language(target="text", tied=True), Constant()
    head = task.head(3, 0, fields)
    task.connect(body, head)
    assert not list(head.parameters())
    x = torch.randn(2, 3)
    assert torch.equal(head.logits(x), x @ body.embedding.weight.T)
    with pytest.raises(UserError, match="no table of tokens"):
        task.connect(nn.Linear(3, 3), task.head(3, 0, fields))


def test_the_cap_bounds_the_logits(corpus) -> None:
    fields, _ = corpus
    head = Language(target="text", softcap=2.0, start="normal").head(3, 0, fields)
    assert head.logits(1e6 * torch.ones(1, 3)).abs().max() <= 2.0


def test_experts_are_balanced(corpus) -> None:
    """The balancing loss is in the training loss, with its weight, and not in the evaluation's."""
    fields, store = corpus
    model = Transformer(width=16, depth=2, heads=2, experts=4, active=2, dropout=0.0)
    batch = Windows(store, "text", 7, whole=False).gather(np.arange(8))
    losses = []
    for weight in (0.0, 0.5):
        task = Language(target="text", balance=weight)
        network = build(model, task, fields, 0)
        total, count = task.loss(task.forward(network, batch), batch)
        losses.append(float(total.detach() / count))
        total.backward()
        assert all(p.grad is not None for p in network.parameters())
    assert losses[1] - losses[0] == pytest.approx(0.5 * float(network.model.balance.detach()), rel=1e-4)
    network.eval()
    total, count = task.loss(task.forward(network, batch), batch)
    assert float(total.detach() / count) == pytest.approx(losses[0], rel=1e-5)
