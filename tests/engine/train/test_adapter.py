"""LoRA and DoRA against the papers' formulas, and against peft where it is installed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from modelworks.core.errors import UserError
from modelworks.engine.train.adapter import Adapter, adapt, merge
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


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_on_int8_everything_is_as_on_the_dequantised_base(kind: str) -> None:
    """Outputs, gradients and merged weights, against the same adapters beside float weights that int8 stands for."""
    torch.manual_seed(0)
    wide = lambda: nn.Sequential(nn.Linear(40, 96), nn.ReLU(), nn.Linear(96, 3))  # noqa: E731
    quantised, plain, x = wide(), wide(), torch.randn(5, 40, requires_grad=True)
    float_weights = quantised[0].weight.detach().clone()
    settings = {"kind": kind, "rank": 2, "alpha": 3, "match": ["*"]}
    adapt(quantised, Adapter(base="int8", **settings), seed=1)
    layer = quantised[0].base
    assert layer.whole_OI.dtype == torch.int8
    step_O = (
        float_weights.abs().amax(1) / 127
    )  # at most half a step is lost, and what rounding the scale costs
    assert ((layer.weight - float_weights).abs().amax(1) <= step_O * 1.1).all()
    with torch.no_grad():
        for at in (0, 2):
            plain[at].weight.copy_(quantised[at].base.weight)
            plain[at].bias.copy_(quantised[at].base.bias)
    adapt(plain, Adapter(**settings), seed=1)
    shaken(quantised)
    trained = {name: p for name, p in quantised.named_parameters() if p.requires_grad}
    mirror = {name: p for name, p in plain.named_parameters() if p.requires_grad}
    assert trained.keys() == mirror.keys()
    with torch.no_grad():
        for name, p in mirror.items():
            p.copy_(trained[name])
    y, z = quantised(x), plain(x)
    assert torch.allclose(y, z, atol=1e-6)
    found = torch.autograd.grad(y.square().sum(), [x, *trained.values()])
    wanted = torch.autograd.grad(z.square().sum(), [x, *mirror.values()])
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-5) for a, b in zip(found, wanted, strict=True))
    merge(quantised)
    merge(plain)
    assert all(type(layer) is nn.Linear for layer in (quantised[0], quantised[2]))
    assert all(p.requires_grad for p in quantised.parameters())
    ours, theirs = quantised.state_dict(), plain.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in ours)
    assert torch.allclose(quantised(x), y, atol=1e-5)


def test_int8_keeps_pairs_of_query_key_and_value_and_no_float_weights() -> None:
    attention = Attention(32, 4)
    adapt(attention, Adapter(rank=3, match=["*"], base="int8"), seed=0)
    assert attention.qkv.down_PRI.shape == (3, 3, 32)
    frozen = [p for p in attention.parameters() if not p.requires_grad and p.ndim == 2]
    assert {p.dtype for p in frozen} == {torch.int8}
    held = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t) or t, lambda t: t):
        attention.qkv(torch.randn(2, 3, 32)).sum()
    assert not [t for t in held if t.is_floating_point() and t.shape == (96, 32)]


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
