"""Activations by name: `activation("gelu")` is a module."""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from modelworks.core.choices import Activation


class SquaredReLU(nn.Module):
    """max(x, 0)² (So et al. 2021, "Primer")."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).square()


_MODULES: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "gelu_tanh": functools.partial(nn.GELU, "tanh"),  # the approximation that GPT-2 was trained with
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "relu2": SquaredReLU,
    "identity": nn.Identity,
}


def activation(name: Activation, slope: float = 0.01) -> nn.Module:
    """The activation of this name. `slope`: leaky_relu's, below zero."""
    return nn.LeakyReLU(slope) if name == "leaky_relu" else _MODULES[name]()
