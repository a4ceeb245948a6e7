"""Cross-entropy in pieces against torch's own, values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from modelworks.layers.linear_cross_entropy import linear_cross_entropy, linear_nll


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("limit", [1 << 24, 300, 1])
def test_pieces_give_the_whole(limit: int, softcap: float | None) -> None:
    torch.manual_seed(0)
    x = torch.randn(37, 8, dtype=torch.float64).float().requires_grad_()
    weight = torch.randn(50, 8, requires_grad=True)
    target = torch.randint(0, 50, (37,))
    target[[3, 20]] = -1
    logits = x @ weight.T
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    expected = F.cross_entropy(logits, target, ignore_index=-1, reduction="sum")
    wanted = torch.autograd.grad(3 * expected, (x, weight))
    found = linear_cross_entropy(x, weight, target, softcap, limit)
    given = torch.autograd.grad(3 * found, (x, weight))
    torch.testing.assert_close(found, expected)
    for a, b in zip(given, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    rows = linear_nll(x, weight, target, softcap, limit)
    torch.testing.assert_close(rows.sum(), expected)
    assert not rows[[3, 20]].any()


def test_memory_is_bounded() -> None:
    """No tensor of all logits is made: the largest one allocated stays within the limit."""
    x, weight = torch.randn(64, 4, requires_grad=True), torch.randn(1000, 4, requires_grad=True)
    sizes: list[int] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            sizes.extend(
                t.numel() for t in torch.utils._pytree.tree_leaves(out) if isinstance(t, torch.Tensor)
            )
            return out

    with Watch():
        linear_cross_entropy(x, weight, torch.randint(0, 1000, (64,)), None, 8000).backward()
    assert max(sizes) <= 8000
