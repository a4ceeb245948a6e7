"""Optimizers: torch's own numbers, groups by rule, and state that resumes to the bit."""

import json

import pytest
import torch
from torch import nn

from modelworks.core.errors import DataError, UserError
from modelworks.engine.train.optim import KINDS, Optimizer, load_optimizer_tensors, optimizer_tensors, set_lr

torch.set_num_threads(1)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 8),
        nn.Tanh(),
        nn.Linear(8, 3),
    ).to(memory_format=torch.channels_last)


def train(model, optimizer, steps, start=0):
    for step in range(start, start + steps):
        generator = torch.Generator().manual_seed(step)
        x, y = torch.randn(6, 2, 4, 4, generator=generator), torch.randint(3, (6,), generator=generator)
        set_lr(optimizer, 1 / (1 + step))
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()


def variants():
    yield from ((kind, {}) for kind in KINDS)
    yield "sgd", {"momentum": 0.9, "nesterov": True}
    yield "rmsprop", {"momentum": 0.9, "centered": True}
    yield (
        "adamw",
        {"amsgrad": True, "groups": [{"match": "0.*", "frozen": True}, {"match": "4.*", "lr_scale": 0.1}]},
    )
    yield "asgd", {"t0": 3}
    yield "muon", {"scale": "original", "nesterov": False, "adamw_names": ["6.*"]}


@pytest.mark.parametrize("kind,more", list(variants()))
def test_resume_is_bit_identical(kind, more):
    settings = Optimizer(kind=kind, **more)
    whole = network()
    optimizer = settings.build(whole.named_parameters())
    train(whole, optimizer, 5)
    # Through bytes, as a checkpoint would: contiguous tensors and JSON text.
    tensors, scalars = optimizer_tensors(optimizer)
    tensors = {key: value.contiguous().clone() for key, value in tensors.items()}
    scalars = json.loads(json.dumps(scalars))
    weights = {key: value.clone() for key, value in whole.state_dict().items()}
    train(whole, optimizer, 5, start=5)

    fresh = network(seed=1)
    fresh.load_state_dict(weights)
    again = settings.build(fresh.named_parameters())
    load_optimizer_tensors(again, tensors, scalars)
    assert [group["lr"] for group in again.param_groups] == [group["lr"] for group in scalars["groups"]]
    train(fresh, again, 5, start=5)
    for (name, one), two in zip(whole.state_dict().items(), fresh.state_dict().values(), strict=True):
        assert torch.equal(one, two), name
    ours, theirs = optimizer_tensors(optimizer)[0], optimizer_tensors(again)[0]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    # What was compared is not nothing: without the state, ten steps end elsewhere (plain descent has none).
    if optimizer_tensors(optimizer)[0]:
        bare = network(seed=1)
        bare.load_state_dict(weights)
        train(bare, settings.build(bare.named_parameters()), 5, start=5)
        assert any(not torch.equal(a, b) for a, b in zip(bare.parameters(), whole.parameters(), strict=True))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "muon"])
def test_steps_are_torchs(kind):
    """The same three steps as the torch class by name, with torch's own defaults but for the rate."""
    name = {
        "gd": "SGD",
        "sgd": "SGD",
        "adamw": "AdamW",
        "nadam": "NAdam",
        "radam": "RAdam",
        "rmsprop": "RMSprop",
        "asgd": "ASGD",
    }
    ours, reference = network(), network()
    optimizer = Optimizer(kind=kind, lr=0.01, no_decay="none").build(ours.named_parameters())
    torchs = getattr(torch.optim, name.get(kind, kind.capitalize()))(reference.parameters(), lr=0.01)
    for group in torchs.param_groups:
        group["initial_lr"] = group["lr"]
    train(ours, optimizer, 3)
    train(reference, torchs, 3)
    for one, two in zip(ours.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-7)


def groups_of(optimizer):
    return {name: group for group in optimizer.param_groups for name in group["param_names"]}


def test_norms_and_biases_do_not_decay():
    groups = groups_of(Optimizer(weight_decay=0.1).build(network().named_parameters()))
    assert {name for name, group in groups.items() if group["weight_decay"] == 0.1} == {
        "0.weight",
        "4.weight",
        "6.weight",
    }
    groups = groups_of(Optimizer(weight_decay=0.1, no_decay="none").build(network().named_parameters()))
    assert all(group["weight_decay"] == 0.1 for group in groups.values())
    groups = groups_of(
        Optimizer(weight_decay=0.1, no_decay=["norms_and_biases", "6.*"]).build(network().named_parameters())
    )
    assert {name for name, group in groups.items() if group["weight_decay"]} == {"0.weight", "4.weight"}


def test_no_decay_is_carried_out():
    """With zero gradients only decay moves a weight: matrices shrink by exactly 1 − lr·decay, biases stay."""
    model = network()
    before = {name: p.clone() for name, p in model.named_parameters()}
    optimizer = Optimizer(lr=0.5, weight_decay=0.1).build(model.named_parameters())
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p, before[name] * (0.95 if p.ndim > 1 else 1.0), msg=name)


def test_groups_by_name():
    model = network()
    settings = Optimizer(
        lr=0.1,
        groups=[{"match": "0.*", "frozen": True}, {"match": ["4.*"], "lr_scale": 0.5, "weight_decay": 0.3}],
    )
    optimizer = settings.build(model.named_parameters())
    groups = groups_of(optimizer)
    assert not model[0].weight.requires_grad
    assert "0.weight" not in groups
    assert groups["4.weight"]["lr"] == 0.05
    assert groups["4.bias"]["weight_decay"] == 0.3
    set_lr(optimizer, 0.1)
    assert groups["4.weight"]["lr"] == pytest.approx(0.005)
    assert groups["6.weight"]["lr"] == pytest.approx(0.01)


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"no parameter matches '4.wieght'.*did you mean '4.weight'"):
        Optimizer(groups=[{"match": "4.wieght"}]).build(network().named_parameters())
    with pytest.raises(UserError, match="nothing to train"):
        Optimizer(groups=[{"match": "*", "frozen": True}]).build(network().named_parameters())


def test_a_checkpoint_of_another_model_is_refused():
    model = network()
    optimizer = Optimizer().build(model.named_parameters())
    train(model, optimizer, 1)
    tensors, scalars = optimizer_tensors(optimizer)
    with pytest.raises(DataError, match="other parameters"):
        load_optimizer_tensors(Optimizer().build(nn.Linear(2, 2).named_parameters()), tensors, scalars)
    tensors["4.weight:exp_avg"] = torch.zeros(16, 8)
    with pytest.raises(DataError, match="has shape"):
        load_optimizer_tensors(optimizer, tensors, scalars)


def test_fused_where_there_is_a_kernel():
    for kind in KINDS:
        optimizer = Optimizer(kind=kind).build(nn.Linear(2, 2).named_parameters())
        assert bool(optimizer.param_groups[-1].get("fused")) == (
            kind in ("gd", "sgd", "adam", "adamw", "adagrad", "muon")
        )
