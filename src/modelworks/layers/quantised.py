"""A frozen linear layer held as int8: what an adapter is trained beside, in a quarter of the memory.

    layer = QuantisedLinear(linear)       # frozen; y = layer(x), gradients go through to x
    layer.weight                          # what it stands for, float32 (O, I)

QLoRA's idea (Dettmers et al. 2023, arXiv:2305.14314), with eight bits and a scale for each output instead of four and
blocks. The weights are made float32 again for each product, forward and backward, and never kept. I inputs, O outputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from modelworks.layers.linear import linear
from modelworks.layers.packed import quantise


class QuantisedLinear(nn.Module):
    """A linear layer that is not trained."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.out_features, self.in_features = base.weight.shape
        self.fused: Any = getattr(base, "fused", 1)
        whole_OI, scale_O = quantise(base.weight.detach())
        # Parameters, for what is no parameter is written into every checkpoint.
        self.whole_OI = nn.Parameter(whole_OI, requires_grad=False)
        self.scale_O = nn.Parameter(scale_O.float(), requires_grad=False)
        self.bias = base.bias if base.bias is None else base.bias.requires_grad_(False)

    @property
    def weight(self) -> Tensor:
        """The weights that it stands for."""
        return _restored(self.whole_OI, self.scale_O)

    def product(self, x: Tensor) -> Tensor:
        """W x, without the bias."""
        return _Product.apply(x, self.whole_OI, self.scale_O)  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        y = self.product(x)
        return y if self.bias is None else y + self.bias

    def plain(self, weight_OI: Tensor) -> nn.Linear:
        """A trainable layer with these weights and this one's bias."""
        layer = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        layer.weight = nn.Parameter(weight_OI)
        layer.bias = None if self.bias is None else self.bias.requires_grad_(True)  # type: ignore[assignment]
        return layer


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        x, whole_OI, scale_O = inputs
        ctx.save_for_backward(whole_OI, scale_O)
        return linear(x, _restored(whole_OI, scale_O).to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        (dy,) = grads
        return linear(dy, _restored(*ctx.saved_tensors).to(dy.dtype).t()), None, None


def _restored(whole_OI: Tensor, scale_O: Tensor) -> Tensor:
    return whole_OI.to(scale_O.dtype) * scale_O[:, None]
