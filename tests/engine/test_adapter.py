"""LoRA and DoRA against the papers' formulas, and against peft where it is installed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from modelworks.core.errors import UserError
from modelworks.engine.adapter import Adapter, adapt, merge
from modelworks.layers.adapted import Adapted
from modelworks.layers.attention import Attention

torch.set_num_threads(1)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double()


def shaken(network: nn.Module) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_at_the_start_nothing_changes_and_merging_changes_nothing(kind: str) -> None:
    network, x = net(), torch.randn(5, 6, dtype=torch.float64)
    before = network(x)
    assert adapt(network, Adapter(kind=kind, rank=2, alpha=3, match=["*"]), seed=1) == ["0", "2"]
    assert torch.allclose(network(x), before, atol=1e-12)
    assert {name for name, p in network.named_parameters() if p.requires_grad} == {
        f"{layer}.{part}"
        for layer in "02"
        for part in ("down_PRI", "up_OR", *(["magnitude_O"] if kind == "dora" else []))
    }
    shaken(network)
    trained = network(x)
    assert not torch.allclose(trained, before, atol=1e-2)
    merge(network)
    assert list(network.state_dict()) == list(net().state_dict())
    assert torch.allclose(network(x), trained, atol=1e-10)


def test_lora_is_the_papers_formula() -> None:
    layer = Adapted(nn.Linear(6, 4), rank=2, alpha=5, dropout=0.0, magnitude=False)
    shaken(layer)
    x = torch.randn(3, 6)
    a, b = layer.down_PRI[0], layer.up_OR
    expected = x @ layer.base.weight.T + layer.base.bias + 5 / 2 * x @ a.T @ b.T
    assert torch.allclose(layer(x), expected, atol=1e-6)


def test_dora_is_the_papers_formula_and_its_norm_has_no_gradient() -> None:
    layer = Adapted(nn.Linear(6, 4).double(), rank=2, alpha=2, dropout=0.0, magnitude=True)
    shaken(layer)
    x = torch.randn(3, 6, dtype=torch.float64)
    v = layer.base.weight + layer.up_OR @ layer.down_PRI[0]
    fixed = v.detach().norm(dim=1, keepdim=True)  # section 4.3: a constant when differentiated
    expected = x @ (layer.magnitude_O[:, None] * v / fixed).T + layer.base.bias
    assert torch.allclose(layer(x), expected, atol=1e-12)
    wanted = torch.autograd.grad(expected.square().sum(), [layer.up_OR, layer.down_PRI, layer.magnitude_O])
    found = torch.autograd.grad(layer(x).square().sum(), [layer.up_OR, layer.down_PRI, layer.magnitude_O])
    assert all(torch.allclose(one, other, atol=1e-10) for one, other in zip(found, wanted, strict=True))


def test_each_of_query_key_and_value_has_a_pair_of_its_own() -> None:
    attention = Attention(8, 4, kv_heads=2)
    adapt(attention, Adapter(rank=3, match=["qkv"]), seed=0)
    layer = attention.qkv
    assert layer.down_PRI.shape == (3, 3, 8)
    assert layer.up_OR.shape == (8 + 4 + 4, 3)
    shaken(attention)
    change = layer.change_OI()
    for rows, part in ((slice(0, 8), 0), (slice(8, 12), 1), (slice(12, 16), 2)):
        assert torch.allclose(change[rows], 16 / 3 * layer.up_OR[rows] @ layer.down_PRI[part], atol=1e-6)
    x = torch.randn(2, 5, 8)
    assert torch.allclose(layer(x), x @ (layer.base.weight + change).T + layer.base.bias, atol=1e-5)


def test_a_pattern_that_matches_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="no linear layer matches"):
        adapt(net(), Adapter(match=["*attention*"]), seed=0)


def test_what_is_new_is_trained_whole() -> None:
    network = net()
    assert adapt(network, Adapter(match=["*"]), 0, new=["2.weight", "2.bias"]) == ["0"]
    assert network[2].weight.requires_grad
    assert not network[0].base.bias.requires_grad


@pytest.mark.parametrize("dora", [False, True])
def test_parity_with_peft(dora: bool) -> None:
    peft = pytest.importorskip("peft")
    x = torch.randn(5, 6, dtype=torch.float64)
    config = peft.LoraConfig(r=2, lora_alpha=3, target_modules=["0", "2"], use_dora=dora, lora_dropout=0.0)
    theirs = peft.get_peft_model(net(), config).double()
    ours = net()
    adapt(ours, Adapter(kind="dora" if dora else "lora", rank=2, alpha=3, match=["*"]), 0)
    shaken(ours)
    with torch.no_grad():
        for name in "02":
            own, other = ours.get_submodule(name), theirs.base_model.model.get_submodule(name)
            other.lora_A["default"].weight.copy_(own.down_PRI[0])
            other.lora_B["default"].weight.copy_(own.up_OR)
            if dora:
                other.lora_magnitude_vector["default"].weight.copy_(own.magnitude_O)
    assert torch.allclose(ours(x), theirs(x), atol=1e-10)
    for model in (ours, theirs):
        model(x).square().sum().backward()
    for name in "02":
        own, other = ours.get_submodule(name), theirs.base_model.model.get_submodule(name)
        assert torch.allclose(own.down_PRI.grad[0], other.lora_A["default"].weight.grad, atol=1e-8)
        assert torch.allclose(own.up_OR.grad, other.lora_B["default"].weight.grad, atol=1e-8)
        if dora:
            magnitude = other.lora_magnitude_vector["default"].weight.grad
            assert torch.allclose(own.magnitude_O.grad, magnitude, atol=1e-8)
