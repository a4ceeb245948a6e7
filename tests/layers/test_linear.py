"""Products by oneDNN against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from modelworks.layers import linear as module
from modelworks.layers.linear import Linear, linear


@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 7), (2, 3, 4, 7), (7,)])
@pytest.mark.parametrize("biased", [True, False])
def test_values_and_gradients_are_torchs(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], biased: bool
) -> None:
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("torch was built without oneDNN")
    monkeypatch.setattr(module, "SMALL", 0)
    monkeypatch.setattr(module, "suited", lambda: True)
    torch.manual_seed(0)
    x, weight = torch.randn(shape, requires_grad=True), torch.randn(6, 7, requires_grad=True)
    bias = torch.randn(6, requires_grad=True) if biased else None
    inputs = [x, weight, *([bias] if bias is not None else [])]
    found, wanted = linear(x, weight, bias), F.linear(x, weight, bias)
    assert found.grad_fn is not None
    assert "_Linear" in type(found.grad_fn).__name__  # it did take the other way
    torch.testing.assert_close(found, wanted)
    seed = torch.randn_like(wanted)
    for a, b in zip(
        torch.autograd.grad(found, inputs, seed), torch.autograd.grad(wanted, inputs, seed), strict=True
    ):
        torch.testing.assert_close(a, b)
    with torch.no_grad():
        torch.testing.assert_close(linear(x, weight, bias), wanted)


def test_other_precisions_keep_torchs_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALL", 0)
    layer = Linear(7, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(5, 7)).dtype == torch.bfloat16
    assert layer.double()(torch.randn(5, 7).double()).dtype == torch.float64
