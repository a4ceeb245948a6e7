"""The last linear layer: `Head(width, outputs)` turns features_BD into output_BC, and BKD into BKC.

An ensemble of K members has K separate layers, computed as one batched product.
B rows, K members, D width, C outputs.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from modelworks.layers.linear import linear
from modelworks.layers.units import Axis


class Head(nn.Module):
    """A linear layer, or one for each member of an ensemble."""

    def __init__(
        self,
        width: int,
        outputs: int,
        members: int = 1,
        init: Literal["default", "normal", "zeros"] = "default",
        bias: bool = True,
    ) -> None:
        """`init`: default is nn.Linear's, uniform ± 1/√width; normal is N(0, 0.02²)."""
        super().__init__()
        self.members = members
        lead = (members,) if members > 1 else ()
        self.weight = nn.Parameter(torch.empty(*lead, outputs, width))
        self.bias = nn.Parameter(torch.empty(*lead, outputs)) if bias else None
        bound = 1 / math.sqrt(max(width, 1))
        if init == "default":
            nn.init.uniform_(self.weight, -bound, bound)
        elif init == "normal":
            nn.init.normal_(self.weight, std=0.02)
        else:
            nn.init.zeros_(self.weight)
        if self.bias is not None:
            if init == "default":
                nn.init.uniform_(self.bias, -bound, bound)
            else:
                nn.init.zeros_(self.bias)

    def forward(self, features: Tensor) -> Tensor:
        if self.members == 1:
            return linear(features, self.weight, self.bias)
        features_KBD, weight_KDC = features.transpose(0, 1), self.weight.transpose(1, 2)
        if self.bias is None:
            return torch.bmm(features_KBD, weight_KDC).transpose(0, 1)
        return torch.baddbmm(self.bias[:, None], features_KBD, weight_KDC).transpose(0, 1)

    def ends(self) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
        """(Nothing is made that others read, where features are read): see units.py."""
        return (), (Axis("weight", self.weight.dim() - 1),)
