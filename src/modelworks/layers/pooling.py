"""Many steps → one vector: `Pooling("mean", width)(x_BTD, mask_BT)`, blind to padding.

B rows, T steps, D width. A mask of None means that every step is real.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from modelworks.core.choices import Pool
from modelworks.layers.linear import Linear


def mean(x_BTD: Tensor, mask_BT: Tensor | None = None) -> Tensor:
    """Mean over the real steps, as one batched product."""
    if mask_BT is None:
        return x_BTD.mean(1)
    share_BT = mask_BT.to(x_BTD.dtype)
    share_BT = share_BT / share_BT.sum(1, keepdim=True)
    return torch.bmm(share_BT[:, None], x_BTD)[:, 0]


def maximum(x_BTD: Tensor, mask_BT: Tensor | None = None) -> Tensor:
    """Maximum over the real steps."""
    return (x_BTD if mask_BT is None else x_BTD.masked_fill(~mask_BT[..., None], -math.inf)).amax(1)


def last(x_BTD: Tensor, mask_BT: Tensor | None = None) -> Tensor:
    """The last real step."""
    if mask_BT is None:
        return x_BTD[:, -1]
    index_B = mask_BT.sum(1) - 1
    return x_BTD.gather(1, index_B[:, None, None].expand(-1, 1, x_BTD.shape[2]))[:, 0]


class Pooling(nn.Module):
    """Steps pooled by name. cls: the first step; attention: weighed by a learned query (Yang et al. 2016)."""

    def __init__(self, name: Pool, width: int) -> None:
        super().__init__()
        self.name = name
        self.score = Linear(width, 1, bias=False) if name == "attention" else None

    def forward(self, x_BTD: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        if self.score is not None:
            score_BT = self.score(x_BTD)[..., 0]
            if mask_BT is not None:
                score_BT = score_BT.masked_fill(~mask_BT, -math.inf)
            return torch.bmm(score_BT.softmax(1)[:, None], x_BTD)[:, 0]
        if self.name == "cls":
            return x_BTD[:, 0]
        return {"mean": mean, "max": maximum, "last": last}[self.name](x_BTD, mask_BT)
