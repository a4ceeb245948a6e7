"""Packed networks against the network that they were made from, and int8 weights against their definition."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from modelworks.core.errors import UserError
from modelworks.engine.language.generate import Generator
from modelworks.engine.language.pack import pack
from modelworks.engine.language.sampling import Sampling
from modelworks.layers import packed
from modelworks.layers.packed import PackedHead, PackedLinear, PackedNorm, quantise

ROUND = {"float32": 1e-6, "bfloat16": 1.2e-2, "int8": 2.5e-2}
"""Of the largest output: float32 sums; inputs and weights as bfloat16 (2⁻⁹ each); and weights in 127 steps."""


@given(
    st.integers(1, 70), st.integers(1, 80), st.integers(1, 40), st.booleans(), st.sampled_from(list(ROUND))
)
@settings(max_examples=60, deadline=None)
def test_a_packed_layer_is_the_layer(inputs: int, outputs: int, rows: int, bias: bool, weights: Any) -> None:
    torch.manual_seed(inputs * outputs)
    layer = nn.Linear(inputs, outputs, bias)
    x = torch.randn(2, rows, inputs)
    with torch.no_grad():
        expected, got = layer(x), PackedLinear(layer.weight, layer.bias, weights)(x)
    assert got.dtype == torch.float32
    bound = x.abs().amax() * layer.weight.abs().sum(1).amax()  # what rounding is a share of
    assert (got - expected).abs().max() <= ROUND[weights] * bound + 1e-6


@given(st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_int8_weights_are_within_half_a_step(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(5, 16, generator=generator) * torch.logspace(-4, 4, 5)[:, None]
    weight[2] = 0
    whole, scale = quantise(weight)
    step = scale.float()[:, None]
    # The scale itself is rounded to bfloat16, so that the largest weight may be cut by 2⁻⁸ of itself.
    slack = 127 * step * 2**-8
    assert ((whole.float() * step - weight).abs() <= step / 2 + slack).all()
    assert (whole[2] == 0).all()


@pytest.mark.parametrize("weight", [True, False])
@pytest.mark.parametrize("eps", [1e-5, 0.1, None])
def test_a_packed_norm_is_the_norm(weight: bool, eps: float | None) -> None:
    norm = nn.RMSNorm(24, eps=eps, elementwise_affine=weight)
    if weight:
        nn.init.normal_(norm.weight)
    x = torch.randn(3, 5, 24) * torch.tensor([1e-3, 1.0, 1e3])[:, None, None]
    with torch.no_grad():
        torch.testing.assert_close(PackedNorm(norm)(x), norm(x), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_norm_joined_with_what_follows_is_both(dtype: torch.dtype) -> None:
    norm, linear = nn.RMSNorm(32, eps=1e-5), nn.Linear(32, 16)
    nn.init.normal_(norm.weight)
    x = torch.randn(3, 5, 32) * torch.tensor([1e-3, 1.0, 1e3])[:, None, None]
    with torch.no_grad():
        joined = PackedLinear(linear.weight * PackedNorm.scale(norm), linear.bias, "float32")
        between = PackedNorm(norm, joined=True, dtype=dtype)(x)
        assert between.dtype == dtype
        exact = dtype == torch.float32
        torch.testing.assert_close(
            joined(between.float()),
            linear(norm(x)),
            atol=1e-5 if exact else 3e-2,
            rtol=1e-5 if exact else 1e-2,
        )


@pytest.mark.parametrize("weights", ["float32", "int8"])
@pytest.mark.parametrize(
    "shape", [{"gated": True}, {"qk_norm": True}, {"experts": 2, "active": 2}, {"order": "post"}]
)
def test_every_shape_of_block_is_packed(weights: Any, shape: dict[str, Any], language_model: Any) -> None:
    network, field = language_model(
        seed=1, width=64, depth=2, heads=4, positions="rope", normalisation="rms", **shape
    )
    network, seeded = network.float(), torch.Generator().manual_seed(0)
    for norm in (module for module in network.modules() if isinstance(module, nn.RMSNorm)):
        if norm.weight is not None:
            nn.init.uniform_(norm.weight, 0.5, 2, generator=seeded)
    batch = {"text": torch.randint(1, field.layout.size, (2, 12), generator=seeded)}
    with torch.no_grad():
        before = network.head.logits(network.model(batch)).log_softmax(-1)
        ready = pack(network, weights)
        cache = ready.model.new_cache(rows=2, length=12)
        steps = [ready.model({"text": batch["text"][:, at : at + 1]}, cache) for at in range(12)]
        after = ready.head.logits(torch.cat(steps, 1)).log_softmax(-1)
    divergence = (before.exp() * (before - after)).sum(-1).mean()
    assert divergence < {"float32": 1e-7, "int8": 6e-2}[weights]


def test_the_int8_ways_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = PackedLinear(torch.randn(48, 64), None, "int8"), torch.randn(20, 64)
    few = layer(x)
    monkeypatch.setattr(packed, "FEW", 1)
    monkeypatch.setattr(packed, "MANY", 1)
    torch.testing.assert_close(layer(x), few, atol=0.15, rtol=2e-2)
    assert layer._wide is None  # many rows of one text are no batch
    torch.testing.assert_close(layer(x[:, None])[:, 0], few, atol=0.15, rtol=2e-2)
    assert layer._wide is not None


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_the_best_logits_are_exact(weights: Any) -> None:
    torch.manual_seed(0)
    table, x = torch.randn(500, 32), torch.randn(3, 2, 32)
    logits = PackedHead(table, None, weights).logits(x)
    if weights == "int8":
        whole, scale = quantise(table)
        table = whole.float() * scale.float()[:, None]
    expected = x @ table.T
    best, where = expected.topk(20)
    torch.testing.assert_close(logits.gather(-1, where), best, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(logits, expected, atol=0.2, rtol=1e-2)
    assert torch.equal(logits.argmax(-1), expected.argmax(-1))
    capped = PackedHead(table, 5.0, weights).logits(x)
    assert capped.abs().max() <= 5


@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_packed_network_says_nearly_the_same(weights: Any, tied: bool, language_model: Any) -> None:
    options = {"width": 64, "depth": 2, "heads": 4, "tied": tied, "normalisation": "rms"}
    network, field = (language_model(**options)[0].float(), language_model(**options)[1])
    batch = {"text": torch.randint(1, field.layout.size, (4, 40), generator=torch.Generator().manual_seed(0))}
    with torch.no_grad():
        before = network.head.logits(network.model(batch)).log_softmax(-1)
        ready = pack(network, weights)
        after = ready.head.logits(ready.model(batch)).log_softmax(-1)
    assert not [m for m in ready.modules() if isinstance(m, nn.Linear)]
    divergence = (before.exp() * (before - after)).sum(-1).mean()
    assert divergence < {"float32": 1e-8, "bfloat16": 3e-2, "int8": 6e-2}[weights]
    answer = Generator(ready, field).generate([[3, 4]], Sampling(temperature=0, max_tokens=5))
    assert len(answer[0].ids) >= 1


def test_what_cannot_be_packed_is_said() -> None:
    with pytest.raises(UserError, match="only a language model"):
        pack(
            type(
                "Network",
                (nn.Module,),
                {"model": None, "head": None, "parameters": nn.Linear(1, 1).parameters},
            )(),
            "int8",
        )
