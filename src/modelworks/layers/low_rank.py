"""A linear layer as the product of two thin ones: `LowRank(linear, rank)` has its shape, without its values.

I inputs, O outputs, R rank.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from modelworks.layers.linear import Linear


class LowRank(nn.Module):
    """y = U (V x) + b."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.out_features, self.in_features = base.weight.shape
        with torch.random.fork_rng(devices=[]):
            self.down = Linear(self.in_features, rank, bias=False)
            self.up = Linear(rank, self.out_features, bias=base.bias is not None)
        if base.bias is not None:
            self.up.bias = base.bias
        self.fused: Any = getattr(base, "fused", 1)

    @property
    def weight(self) -> Tensor:
        """The matrix that the two make, (O, I)."""
        return self.up.weight @ self.down.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x))
