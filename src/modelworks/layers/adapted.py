"""A linear layer with an adapter: small matrices that are trained in the place of its own, and merged into it.

LoRA (Hu et al. 2021, arXiv:2106.09685): y = W x + (α/r)·B A x, where A starts random and B at zero.
DoRA (Liu et al. 2024, arXiv:2402.09353): W' = m·V/‖V‖ with V = W + (α/r)·B A; ‖·‖ is of each output's weights, m
starts as ‖W‖, and the norm counts as a constant when differentiated (section 4.3).
The frozen layer may be held as int8 (quantised.py), as in QLoRA; merging gives a plain layer all the same.
A layer that holds several matrices (queries, keys and values; gate and up) has a pair A, B for each of them.
I inputs, O outputs of the layer, P matrices within it, R rank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelworks.layers.linear import linear
from modelworks.layers.quantised import QuantisedLinear


class Adapted(nn.Module):
    """A linear layer with an adapter."""

    def __init__(
        self, base: nn.Linear | QuantisedLinear, rank: int, alpha: float, dropout: float, magnitude: bool
    ) -> None:
        super().__init__()
        self.base: nn.Linear | QuantisedLinear = base.requires_grad_(False)
        self.scale, self.rank = alpha / rank, rank
        self.rows = _parts(base)
        like = base.weight
        self.down_PRI = nn.Parameter(like.new_empty(len(self.rows), rank, base.in_features))
        # As torch starts the weights of a linear layer, like the authors' own code.
        nn.init.uniform_(self.down_PRI, -1 / math.sqrt(base.in_features), 1 / math.sqrt(base.in_features))
        self.up_OR = nn.Parameter(like.new_zeros(base.out_features, rank))
        self.magnitude_O = nn.Parameter(like.detach().norm(dim=1)) if magnitude else None
        self.dropout = nn.Dropout(dropout)

    def change_OI(self) -> Tensor:
        """(α/r)·B A."""
        ups = self.up_OR.split(self.rows)
        return self.scale * torch.cat([up @ down for up, down in zip(ups, self.down_PRI, strict=True)])

    def weight_OI(self) -> Tensor:
        """The weights of the plain layer that does the same."""
        weight_OI = self.base.weight + self.change_OI()
        if self.magnitude_O is None:
            return weight_OI
        return weight_OI * (self.magnitude_O / _norm(weight_OI))[:, None]

    def forward(self, x: Tensor) -> Tensor:
        low = F.linear(self.dropout(x), self.down_PRI.flatten(0, 1)).split(self.rank, -1)
        ups = self.up_OR.split(self.rows)
        change = torch.cat([F.linear(part, up) for part, up in zip(low, ups, strict=True)], -1)
        if self.magnitude_O is None:
            return self.base(x) + self.scale * change
        with torch.no_grad():
            norm_O = _norm(self.base.weight + self.change_OI())
        base = self.base
        plain = base.product(x) if isinstance(base, QuantisedLinear) else linear(x, base.weight)
        y = (self.magnitude_O / norm_O) * (plain + self.scale * change)
        return y if self.base.bias is None else y + self.base.bias

    def merged(self) -> nn.Linear:
        """The plain layer, with the change in its weights."""
        with torch.no_grad():
            weight_OI = self.weight_OI()
            if isinstance(self.base, QuantisedLinear):
                return self.base.plain(weight_OI)
            self.base.weight.copy_(weight_OI)
        return self.base.requires_grad_(True)


def _norm(weight_OI: Tensor) -> Tensor:
    """Length of each output's weights; where they are all zero the magnitude is too, and so is the product."""
    return weight_OI.norm(dim=1).clamp_min(torch.finfo(weight_OI.dtype).tiny)


def _parts(layer: nn.Linear | QuantisedLinear) -> tuple[int, ...]:
    """Output rows of each matrix that a layer holds (layers mark it by `fused`)."""
    fused = getattr(layer, "fused", 1)
    if isinstance(fused, Sequence):
        return tuple(int(rows) for rows in fused)
    return (layer.out_features // int(fused),) * int(fused)
