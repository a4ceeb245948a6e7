"""Answers and preferences: the losses against their formulas, written out anew."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn import functional as F

from modelworks.core.dataset import SPLITS, Dataset
from modelworks.engine import judge
from modelworks.engine.data.conversations import Answers, Pairs
from modelworks.engine.data.joined import joined
from modelworks.engine.data.prepare import fit, prepare
from modelworks.engine.data.windows import rows_of
from modelworks.engine.network import build, prepare_batch
from modelworks.engine.train.reference import reference
from modelworks.fields.chat import Chat
from modelworks.layers.linear_cross_entropy import linear_nll, linear_nll_grad
from modelworks.metrics.preference import PreferenceMeter
from modelworks.models.transformer import Transformer
from modelworks.tasks.instruct import Instruct
from modelworks.tasks.prefer import Prefer

torch.set_num_threads(1)
PAIRS = [("say a", "a a a", "b"), ("say b", "b", "c c c c"), ("hm", "yes", "no no")]


@pytest.fixture
def world(tmp_path):
    columns = {
        "prompt": [p for p, _, _ in PAIRS],
        "chosen": [c for _, c, _ in PAIRS],
        "rejected": [r for _, _, r in PAIRS],
    }
    proposal = Prefer.propose(list(columns))
    assert proposal["target"] == "chosen"
    parts = {name: field["parts"] for name, field in proposal["fields"].items()}
    dataset = joined(Dataset.from_batches([pa.record_batch(columns)]), parts)
    dataset = dataset.with_splits(np.array([0, 0, SPLITS.index("valid")], np.uint8))
    fields = fit({name: Chat(tokens="byte", parts=parts[name]) for name in parts}, dataset)
    prepared = prepare(dataset, fields, tmp_path)
    task = Prefer(target="chosen", beta=0.3)
    network = build(Transformer(width=16, depth=1, heads=2, positions="rope"), task, fields, 0)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return fields, prepared, task, network.eval()


def logp(network, fields, row: int, name: str) -> torch.Tensor:
    """log π(answer | prompt), token by token, of one unpadded conversation."""
    prompt, chosen, rejected = PAIRS[row]
    field = fields[name]
    asked = field.prompt([{"role": "user", "content": prompt}])
    said = [*field.ids(f" {chosen if name == 'chosen' else rejected}\n"), field.special_ids["<|endoftext|>"]]
    tokens = torch.tensor([asked + said])
    scores = network.head.logits(network.model({"chosen": tokens[:, :-1]}))[0].log_softmax(-1)
    return sum(scores[len(asked) - 1 + at, token] for at, token in enumerate(said))


def test_the_loss_is_the_papers(world) -> None:
    fields, prepared, task, network = world
    ref = np.array([[-20.0, -19.0], [-30.0, -31.5]], np.float32)
    rows = Pairs(prepared.store("train"), "chosen", "rejected", ref)
    batch = prepare_batch(rows.gather(np.arange(2)), fields, torch.device("cpu"))
    output = network(batch)
    expected = []
    for row in range(2):
        chosen, rejected = (logp(network, fields, row, name) for name in ("chosen", "rejected"))
        margin = 0.3 * ((chosen - ref[row, 0]) - (rejected - ref[row, 1]))
        expected.append(-torch.log(1 / (1 + torch.exp(-margin))))
    total, count = task.loss(output, batch)
    assert count == 2
    assert float(total) == pytest.approx(float(sum(expected)), rel=1e-4)
    smooth, _ = task.but(smoothing=0.2).loss(output, batch)
    flipped = sum(-0.2 * F.logsigmoid(torch.log(torch.expm1(e))) - 0.8 * F.logsigmoid(-torch.log(torch.expm1(e))) for e in expected)  # fmt: skip
    assert float(smooth) == pytest.approx(float(flipped), rel=1e-3)


def test_before_the_first_step_no_answer_is_preferred(world) -> None:
    fields, prepared, task, network = world
    for split in ("train", "valid"):
        prepared.reference[split] = reference(network, task, fields, prepared, split)
    assert prepared.reference["train"][1, 0] == pytest.approx(
        float(logp(network, fields, 1, "chosen")), rel=1e-4
    )
    found = judge.evaluate(network, task, fields, rows_of(prepared, "train", task, fields))["metrics"]
    assert found["loss"]["value"] == pytest.approx(math.log(2), rel=1e-5)
    assert found["margin"]["value"] == pytest.approx(0, abs=1e-4)


def test_training_raises_the_margin(world) -> None:
    fields, prepared, task, network = world
    prepared.reference["train"] = reference(network, task, fields, prepared, "train")
    rows = rows_of(prepared, "train", task, fields)
    batch = prepare_batch(rows.gather(np.arange(2)), fields, torch.device("cpu"))
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    for _ in range(10):
        optimizer.zero_grad()
        task.loss(network(batch), batch)[0].backward()
        optimizer.step()
    found = judge.evaluate(network, task, fields, rows)["metrics"]
    assert found["accuracy"]["value"] == 1
    assert found["margin"]["value"] > 0.1


def test_rewards_are_counted() -> None:
    meter = PreferenceMeter(bootstrap=0)
    meter.update({"rewards": np.array([[1.0, 0.0], [0.0, 3.0], [2.0, 2.0]])}, {"row": np.arange(3)})
    found = {name: entry["value"] for name, entry in meter.result().items()}
    assert found == pytest.approx(
        {"accuracy": 0.5, "margin": -2 / 3, "reward_chosen": 1.0, "reward_rejected": 5 / 3}
    )


def test_instruct_counts_answers_alone(world) -> None:
    fields, prepared, _, network = world
    task = Instruct(target="chosen")
    rows = rows_of(prepared, "train", task, fields)
    assert isinstance(rows, Answers)
    batch = prepare_batch(rows.gather(np.arange(2)), fields, torch.device("cpu"))
    total, count = task.loss(network(batch), batch)
    assert float(total) == pytest.approx(
        -float(sum(logp(network, fields, row, "chosen") for row in range(2))), rel=1e-4
    )
    assert int(count) == sum(len(f" {chosen}\n") + 1 for _, chosen, _ in PAIRS[:2])
    found = judge.evaluate(network, task, fields, rows)["metrics"]["perplexity"]["value"]
    assert found == pytest.approx(math.exp(float(total) / int(count)), rel=1e-4)


@pytest.mark.parametrize("limit", [1 << 24, 40])
def test_probabilities_with_gradients_in_pieces(limit: int) -> None:
    x = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, 4, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([1, -1, 3, 0, -1, 6, 2, 5, 5])
    found = linear_nll_grad(x, weight, target, 3.0, limit)
    assert torch.allclose(found, linear_nll(x, weight, target, 3.0).float(), atol=1e-6)
    whole = F.cross_entropy(3 * torch.tanh(x @ weight.T / 3), target, ignore_index=-1, reduction="none")
    ours = torch.autograd.grad(found[:5].square().sum(), (x, weight))
    theirs = torch.autograd.grad(whole[:5].square().sum(), (x, weight))
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(ours, theirs, strict=True))


def test_columns_of_usual_names_are_found() -> None:
    proposal = Instruct.propose(["instruction", "input", "output", "id"])
    assert proposal["fields"]["messages"]["parts"] == {
        "instruction": "user",
        "input": "user",
        "output": "assistant",
    }
    assert Instruct.propose(["messages"]) == {"target": "messages", "fields": {"messages": {"kind": "chat"}}}
    assert Instruct.propose(["a", "b"]) == {}
    json.dumps(proposal)
