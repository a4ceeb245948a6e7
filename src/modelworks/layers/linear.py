"""Linear layers on the fastest product that the CPU has: `linear(x, weight, bias)` and `Linear`, an nn.Linear.

torch multiplies float32 matrices on a CPU by MKL, which on AMD processors reaches half of what oneDNN, also within
torch, does (docs/experiments.md). So on a CPU that is not Intel's, forward and backward products go to oneDNN; half
precision, other devices and export keep torch's own way. The rule looks at the processor, not at the clock: a resumed
run must take the same products. N rows, I inputs, O outputs.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

SMALL = 1 << 20
"""Multiplications below which calling oneDNN costs more than it saves."""


@functools.cache
def suited() -> bool:
    """Whether oneDNN is the faster one here."""
    try:
        vendor = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if "vendor_id" in line)
    except (OSError, StopIteration):
        return False
    has = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return has and "AuthenticAMD" in vendor


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        x, weight_OI, bias_O = inputs
        ctx.save_for_backward(x, weight_OI)
        return _product(x, weight_OI, bias_O)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        x, weight_OI = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        (dy,) = grads
        dy_NO = dy.reshape(-1, dy.shape[-1])
        dx = _product(dy, weight_OI.t(), None) if wants_x else None
        dweight_OI = _product(dy_NO.t(), x.reshape(-1, x.shape[-1]).t(), None) if wants_weight else None
        return dx, dweight_OI, dy_NO.sum(0) if wants_bias else None


def linear(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """x (…, I) → (…, O), as F.linear."""
    if torch.compiler.is_exporting():  # first, for a recorded graph must not depend on the number of rows
        return F.linear(x, weight_OI, bias_O)
    plain = x.dtype == weight_OI.dtype == torch.float32 and x.device.type == "cpu" == weight_OI.device.type
    if not plain or not suited() or x.numel() * len(weight_OI) < SMALL or torch.is_autocast_enabled("cpu"):
        return F.linear(x, weight_OI, bias_O)
    if not torch.is_grad_enabled():
        return _product(x, weight_OI, bias_O)
    return _Linear.apply(x, weight_OI, bias_O)  # type: ignore[return-value]


class Linear(nn.Linear):
    """nn.Linear on `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)
