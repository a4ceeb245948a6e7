"""From features to scores of every token, for tasks that answer with tokens: `TokenHead(width, size)(features)`.

Logits of a large vocabulary would fill memory, so a head gives what they are made of (`Scores`); the losses of
`linear_cross_entropy.py` take it from there, and `logits` gives them whole where they are few.
B rows, T steps, N steps of all rows, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelworks.core.errors import UserError
from modelworks.layers.linear import Linear
from modelworks.layers.linear_cross_entropy import linear_cross_entropy, linear_nll, logits


@dataclass(frozen=True)
class Scores:
    """Logits not yet computed."""

    features: Tensor
    """(…, D)"""
    weight_VD: Tensor

    @property
    def flat(self) -> Tensor:
        """features (N, D)."""
        return self.features.flatten(0, -2)

    def loss(self, target: Tensor) -> Tensor:
        """Sum of −log p of the targets (…) that are not −1."""
        return linear_cross_entropy(self.flat, self.weight_VD, target.flatten())

    def nll(self, target: Tensor) -> Tensor:
        """−log p of each target, 0 where it is −1; without gradients."""
        return linear_nll(self.flat, self.weight_VD, target.flatten()).view_as(target)

    def best(self, rows: int = 4096) -> Tensor:
        """The likeliest token of each step (…), int64."""
        found = [logits(x_CD, self.weight_VD).argmax(-1) for x_CD in self.flat.detach().split(rows)]
        return torch.cat(found).view(self.features.shape[:-1])


class TokenHead(nn.Module):
    """A matrix with a row for each token, its own or the model's table of tokens (Press & Wolf 2017).

    `transform`: a dense layer, GELU and a norm before it, as BERT has (Devlin et al. 2019)."""

    def __init__(
        self, width: int, size: int, *, tied: bool = False, bias: bool = False, transform: bool = False
    ) -> None:
        super().__init__()
        self.dense = Linear(width, width) if transform else None
        self.norm = nn.LayerNorm(width) if transform else None
        self.weight = None if tied else nn.Parameter(torch.empty(size, width))
        self.bias = nn.Parameter(torch.zeros(size)) if bias else None
        self._tied: list[nn.Embedding] = []
        if self.dense is not None:
            nn.init.normal_(self.dense.weight, std=0.02)
            nn.init.zeros_(self.dense.bias)
        if self.weight is not None:
            nn.init.normal_(self.weight, std=0.02)

    def tie(self, model: nn.Module) -> None:
        """Share the model's token table, where this head has none; it stays the model's and is stored once. A norm
        takes the model's eps: BERT's is 1e-12, and the norm's inputs are small."""
        if self.norm is not None:
            self.norm.eps = getattr(model, "eps", self.norm.eps)
        if self.weight is not None:
            return
        table: Any = getattr(model, "embedding", None)
        if not isinstance(table, nn.Embedding) or table.weight.shape[1] != model.width:
            raise UserError("this model has no table of tokens to tie the head to", "set task.tied: false")
        self._tied = [table]  # within a list, for a module would count as a part of this one

    def forward(self, features: Tensor) -> Scores:
        weight_VD: Tensor = self._tied[0].weight if self.weight is None else self.weight
        if self.dense is not None and self.norm is not None:
            features = self.norm(F.gelu(self.dense(features)))
        if self.bias is not None:  # a bias is one more column that every feature meets with 1
            features = F.pad(features, (0, 1), value=1.0)
            weight_VD = torch.cat((weight_VD, self.bias[:, None]), 1)
        return Scores(features, weight_VD)

    def logits(self, features: Tensor) -> Tensor:
        """(…, D) → float32 (…, V)."""
        scores = self(features)
        return logits(scores.features, scores.weight_VD)
