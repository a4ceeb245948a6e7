"""Experts against the formula that runs them all."""

from __future__ import annotations

import pytest
import torch

from modelworks.core.errors import UserError
from modelworks.core.field import Layout
from modelworks.engine.train.capture import Captured
from modelworks.layers.moe import Experts
from modelworks.models.transformer import Transformer

torch.set_num_threads(1)


def formula(layer: Experts, x_ND: torch.Tensor) -> torch.Tensor:
    score_NX = layer.router(x_ND)
    best_NX = score_NX >= score_NX.sort(-1, descending=True)[0][:, layer.active - 1, None]
    gate_NX = score_NX.masked_fill(~best_NX, -torch.inf).softmax(-1)
    return sum(gate_NX[:, [i]] * expert(x_ND) for i, expert in enumerate(layer.experts))


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("active", [1, 2, 5])
def test_the_chosen_are_weighed(active: int, gated: bool) -> None:
    torch.manual_seed(0)
    layer = Experts(8, 16, 5, active, gated=gated)
    x = torch.randn(3, 7, 8)
    wanted = formula(layer, x.flatten(0, 1)).view(3, 7, 8)
    found = layer(x)
    torch.testing.assert_close(found, wanted)
    parameters = list(layer.parameters())
    ours = torch.autograd.grad(found.square().sum(), parameters, retain_graph=True)
    for a, b in zip(ours, torch.autograd.grad(wanted.square().sum(), parameters), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_an_expert_without_steps_has_a_gradient_of_zero() -> None:
    layer = Experts(4, 8, 3, 1)
    layer(torch.randn(1, 1, 4)).sum().backward()
    assert sorted(float(expert.down.weight.grad.abs().sum()) > 0 for expert in layer.experts) == [
        False,
        False,
        True,
    ]


def test_balance_is_the_paper_s() -> None:
    layer = Experts(4, 8, 4, 1)
    torch.nn.init.zeros_(layer.router.weight)
    layer(torch.randn(2, 8, 4))  # equal shares, whoever is chosen
    assert layer.balance.item() == pytest.approx(1.0)
    layer.router.weight.data[2] = 100.0
    layer(torch.rand(2, 8, 4) + 1)  # all to one, and surely
    assert layer.balance.item() == pytest.approx(4.0)
    torch.manual_seed(1)
    body = Transformer(width=8, heads=2, depth=2, experts=4, active=1).build(
        {"x": Layout("tokens", size=9, length=8)}, "next"
    )
    body({"x": torch.ones(2, 8, dtype=torch.int64)})
    body.balance.backward()
    assert body.blocks[1].feedforward.router.weight.grad.abs().sum() > 0


def test_routing_is_never_recorded() -> None:
    """A recorded pass would send other steps the way of the first ones."""
    body = Transformer(width=8, heads=2, depth=1, experts=4).build(
        {"x": Layout("tokens", size=9, length=8)}, "next"
    )
    run = Captured(body, list(body.parameters()), lambda batch: (body(batch).sum(), torch.tensor(1)))
    assert run({"x": torch.ones(2, 8, dtype=torch.int64)}) is None


def test_settings() -> None:
    with pytest.raises(UserError, match="active: 5 of 4 experts cannot be"):
        Transformer(experts=4, active=5)
    assert Transformer().build({"x": Layout("tokens", size=9, length=8)}).balance is None
    body = Transformer(experts=3, zero_residual=True, dropout=0.0).build(
        {"x": Layout("tokens", size=9, length=8)}
    )
    x = torch.randn(2, 5, 128)
    torch.testing.assert_close(body.blocks[0](x), x)
