"""bag: the mean of a text's word vectors, and of hashed pairs of words (fastText, Joulin et al. 2017).

    model: {kind: bag, width: 64, ngrams: 2}

Trains in seconds on a CPU and is hard to beat on short texts; with `hidden` it is a deep averaging network
(Iyyer et al. 2015). B rows, T steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field as Setting
from pydantic import PositiveInt
from torch import Tensor, nn

from modelworks.core.choices import Activation, Initialisation, RowNormalisation
from modelworks.core.field import Layout
from modelworks.core.model import Features, Model
from modelworks.layers.dense import Dense
from modelworks.layers.features import one_a_row
from modelworks.layers.initialise import initialise
from modelworks.layers.padding import padding_mask


class Bag(Model):
    """Bag of embeddings."""

    forms: ClassVar[tuple[str, ...]] = ("tokens",)

    width: PositiveInt = 64
    """Width of a word's vector."""
    ngrams: PositiveInt = 2
    """Longest run of tokens that has a vector of its own; 1: single tokens only."""
    buckets: PositiveInt = 1 << 14
    """Rows of the table that runs of tokens are hashed into."""
    hidden: list[PositiveInt] = []
    """Width of each fully connected layer behind the mean."""
    activation: Activation = "relu"
    """Non-linearity of those layers."""
    normalisation: RowNormalisation = "none"
    """Norm of those layers."""
    dropout: float = Setting(default=0.5, ge=0, lt=1)
    """Share of the mean's and of each layer's units dropped in training."""
    initialisation: Initialisation = "default"
    """How the matrices start; the vectors start uniform ± 1/width, as fastText's, unless this is normal."""

    @classmethod
    def recognise(cls, inputs: Mapping[str, str], rows: int) -> float:
        return 0.6 if tuple(inputs.values()) == ("tokens",) else 0.0

    def regime(self, rows: int) -> dict[str, Any]:
        # It learns a corpus by heart within a few passes; the vectors start small and want a high rate.
        return {"epochs": 8.0, "optimizer": {"kind": "adamw", "lr": 0.01}}

    def build(self, inputs: Mapping[str, Layout], features: Features = "row") -> nn.Module:
        self.check(inputs)
        one_a_row(self.kind, features)
        ((name, layout),) = inputs.items()
        return initialise(Network(name, layout, self), self.initialisation)


def mix(x: Tensor) -> Tensor:
    """31 bits in which every bit of x counts: the rounds of MurmurHash3 (Appleby 2011)."""
    for multiplier in (0x85EBCA6B, 0xC2B2AE35):
        x = (x * multiplier) & 0x7FFFFFFF
        x = x ^ (x >> 15)
    return x


class Network(nn.Module):
    """One look-up of all tokens and runs, their mean, the layers."""

    def __init__(self, name: str, layout: Layout, settings: Bag) -> None:
        super().__init__()
        self.name, self.vocabulary = name, layout.size
        self.ngrams, self.buckets = settings.ngrams, settings.buckets
        rows = layout.size + (settings.buckets if settings.ngrams > 1 else 0)
        self.vectors = nn.EmbeddingBag(rows, settings.width, mode="mean", padding_idx=0)
        with torch.no_grad():
            self.vectors.weight.uniform_(-1 / settings.width, 1 / settings.width)[0] = 0
        self.dropout = nn.Dropout(settings.dropout)
        self.dense = Dense(
            settings.width,
            settings.hidden,
            act=settings.activation,
            norm=settings.normalisation,
            dropout=settings.dropout,
        )
        self.width = self.dense.width

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        token_BT = batch[self.name]
        mask_BT = padding_mask(batch.get(f"{self.name}.length"), token_BT.shape[1])
        token_BT = token_BT if mask_BT is None else token_BT * mask_BT
        id_BN = torch.cat([token_BT, *self.runs(token_BT)], 1)
        return self.dense(self.dropout(self.vectors(id_BN)))

    def runs(self, token_BT: Tensor) -> list[Tensor]:
        """Table rows for runs of 2, 3 … tokens; runs into the padding get row 0, which does not count."""
        found, hash_BT = [], mix(token_BT)
        for size in range(2, min(self.ngrams, token_BT.shape[1]) + 1):
            next_BT = token_BT[:, size - 1 :]
            hash_BT = mix(hash_BT[:, :-1] ^ next_BT)
            found.append((hash_BT % self.buckets + self.vocabulary) * (next_BT != 0))
        return found
