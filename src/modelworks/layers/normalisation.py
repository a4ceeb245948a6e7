"""Normalisation by name: `normalisation("batch", 64, axes=2)` after a 2-D convolution.

layer and rms normalise each position over its channels, also in images (as ConvNeXt does), so that what they
give never depends on how far a row was padded. batch: Ioffe & Szegedy 2015; layer: Ba et al. 2016;
group: Wu & He 2018; rms: Zhang & Sennrich 2019.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from modelworks.core.choices import Normalisation


class ChannelsLast(nn.Module):
    """Applies a last-axis norm to channels-first features; free of copies in the channels_last format."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


class _Scaled(torch.autograd.Function):
    """x / √(mean x² + eps). The gradient is written out: torch's, on a CPU, takes 3 to 10 times as long."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = norm.square().mul(1 / x.shape[-1]).add(eps).rsqrt()
        return x * scale, scale

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        y, scale = output
        ctx.save_for_backward(y, scale)
        ctx.mark_non_differentiable(scale)

    @staticmethod
    def backward(ctx: Any, g: Tensor, _: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        y, scale = ctx.saved_tensors
        along = (g * y).mean(-1, keepdim=True)
        return torch.addcmul(g, y, along, value=-1) * scale, None


class RMSNorm(nn.RMSNorm):
    """torch's, faster on a CPU: in training, and for the few steps of one token where calls are what costs."""

    def __init__(self, width: int, eps: float, elementwise_affine: bool = True) -> None:
        super().__init__(width, eps, elementwise_affine)
        self._eps_ = torch.tensor(
            eps, device="cpu"
        )  # neither parameter nor buffer: only the CPU's path reads it

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32 or x.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(x)
        if x.requires_grad:
            y = _Scaled.apply(x, self.eps)[0]  # type: ignore[index]
        else:
            norm = torch.linalg.vector_norm(x, 2, -1, True)
            y = x * torch.addcmul(self._eps_, norm, norm, value=1 / x.shape[-1]).rsqrt_()
        return y if self.weight is None else y * self.weight


def normalisation(
    name: Normalisation, width: int, axes: int = 0, eps: float = 1e-5, weight: bool = True, bias: bool = True
) -> nn.Module:
    """The norm of this name. `axes`: spatial axes behind the channels; 0: the channels are the last axis.
    `weight`, `bias`: what layer and rms learn."""
    if name == "none":
        return nn.Identity()
    if name == "batch":
        return (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d)[axes](width, eps=eps)
    if name == "group":  # 32 groups as in the paper, or the most that divide the width
        return nn.GroupNorm(next(g for g in range(min(32, width), 0, -1) if width % g == 0), width, eps=eps)
    if name == "layer":
        norm: nn.Module = nn.LayerNorm(width, eps=eps, elementwise_affine=weight, bias=bias)
    else:
        norm = RMSNorm(width, eps=eps, elementwise_affine=weight)
    return ChannelsLast(norm) if axes else norm
