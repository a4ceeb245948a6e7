"""Initialisation by name: `initialise(module, "he")` refills every matrix of a module and zeroes its biases.

With d inputs and n outputs of a matrix (a convolution's d is channels × kernel size):
default     torch's own: uniform ± 1/√d
normal      N(0, 0.02²) (Radford et al. 2018, GPT), embeddings too
xavier      uniform with variance 2 / (d + n) (Glorot & Bengio 2010)
he          N(0, 2/d), that is √2/√d (He et al. 2015)
orthogonal  a random orthogonal matrix (Saxe et al. 2014)
Norms keep weight 1 and bias 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from modelworks.core.choices import Initialisation

M = TypeVar("M", bound=nn.Module)

NORMAL_STD = 0.02


def normal(weight: Tensor) -> Tensor:
    """N(0, 0.02²)."""
    return nn.init.normal_(weight, std=NORMAL_STD)


def he(weight: Tensor) -> Tensor:
    """N(0, 2 / fan-in)."""
    return nn.init.kaiming_normal_(weight, mode="fan_in", nonlinearity="relu")


_FILL: dict[str, Callable[[Tensor], Tensor]] = {
    "normal": normal,
    "xavier": nn.init.xavier_uniform_,
    "he": he,
    "orthogonal": nn.init.orthogonal_,
}


def initialise(module: M, scheme: Initialisation, zero_residual: bool = False) -> M:
    """Refill `module` in place by the scheme and return it.

    `zero_residual`: set the last matrix of each residual branch to zero, so that every block starts as the
    identity (Goyal et al. 2017; Zhang et al. 2019). Blocks name these in `residual_outputs`."""
    with torch.no_grad():
        if scheme != "default":
            for part in module.modules():
                for weight in _matrices(part):
                    _FILL[scheme](weight)
                for bias in _biases(part):
                    nn.init.zeros_(bias)
                if scheme == "normal" and isinstance(part, (nn.Embedding, nn.EmbeddingBag)):
                    normal(part.weight)
                    if part.padding_idx is not None:
                        nn.init.zeros_(part.weight[part.padding_idx])
        if zero_residual:
            for part in module.modules():
                for name in getattr(part, "residual_outputs", ()):
                    for parameter in part.get_submodule(name).parameters():
                        nn.init.zeros_(parameter)
    return module


def _matrices(part: nn.Module) -> Iterator[Tensor]:
    """The matrices of one module; fused ones (qkv, gates) are taken apart, each with its own fan-out."""
    if isinstance(part, nn.RNNBase):
        gates = {"LSTM": 4, "GRU": 3}.get(part.mode, 1)
        for name, weight in part.named_parameters():
            if name.startswith("weight"):
                yield from weight.chunk(gates)
    elif isinstance(part, nn.Linear):
        fused = getattr(part, "fused", 1)  # how many equal matrices, or the rows of each
        yield from part.weight.split(fused) if isinstance(fused, tuple) else part.weight.chunk(fused)
    elif isinstance(part, (nn.Conv1d, nn.Conv2d)):
        yield part.weight


def _biases(part: nn.Module) -> Iterator[Tensor]:
    if isinstance(part, (nn.Linear, nn.Conv1d, nn.Conv2d)) and part.bias is not None:
        yield part.bias
    elif isinstance(part, nn.RNNBase):
        yield from (bias for name, bias in part.named_parameters() if name.startswith("bias"))
