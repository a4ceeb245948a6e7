"""bag: the words of a text and its hashed runs of 2 and 3 words, each with a vector (fastText, Joulin et al. 2017).

    model: {kind: bag, width: 16, ngrams: 3}

Trains in seconds on a CPU and is hard to beat on short texts; with `hidden` it is a deep averaging network
(Iyyer et al. 2015). B rows, T steps, N table rows looked up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field as Setting
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from modelworks.core.choices import Activation, Initialisation, RowNormalisation
from modelworks.core.field import Layout
from modelworks.core.model import Features, Model
from modelworks.layers.dense import Dense
from modelworks.layers.features import one_a_row
from modelworks.layers.initialise import initialise
from modelworks.layers.ngrams import mix, table_rows
from modelworks.layers.padding import padding_mask

GAIN = 4.0
"""Length of a text's vector of ones and zeros; at 1 ten classes were learned too slowly."""


class Bag(Model):
    """Bag of embeddings."""

    forms: ClassVar[tuple[str, ...]] = ("tokens",)

    width: PositiveInt = 16
    """Width of a word's vector."""
    ngrams: PositiveInt = 3
    """Longest run of tokens that has a vector of its own; 1: single tokens only."""
    buckets: PositiveInt | None = None
    """Rows of the table that runs of tokens are hashed into; None: 64 for each token of the vocabulary, which
    grows with the corpus, at most 262,144."""
    combine: Literal["presence", "mean"] = "presence"
    """presence: how often a token or run comes does not matter, and the sum is divided by the root of how many
    there are, as in a vector of ones and zeros of length one (Wang & Manning 2012); mean: of all."""
    hidden: list[PositiveInt] = []
    """Width of each fully connected layer behind the combination."""
    activation: Activation = "relu"
    """Non-linearity of those layers."""
    normalisation: RowNormalisation = "none"
    """Norm of those layers."""
    dropout: float = Setting(default=0.5, ge=0, lt=1)
    """Share of the combination's and of each layer's units dropped in training."""
    initialisation: Initialisation = "default"
    """How the matrices start; the vectors start uniform ± 1/width, as fastText's, unless this is normal."""

    @classmethod
    def recognise(cls, inputs: Mapping[str, str], rows: int) -> float:
        return 0.6 if tuple(inputs.values()) == ("tokens",) else 0.0

    def regime(self, rows: int) -> dict[str, Any]:
        # Tens of thousands of runs learn a corpus by heart within a few passes: weights are held small, and the
        # loss, which sees that before accuracy does, chooses them. docs/experiments.md has the comparison.
        batch = max(16, min(128, 1 << max(rows // 40, 1).bit_length()))
        epochs = float(max(6, min(30, round(600 * batch / max(rows, 1)))))
        return {
            "epochs": epochs,
            "batch_size": batch,
            "optimizer": {"kind": "adamw", "lr": 0.003},
            "l2": 1e-4,
            "metric": "loss",
            "patience": 4,
        }

    def build(self, inputs: Mapping[str, Layout], features: Features = "row") -> nn.Module:
        self.check(inputs)
        one_a_row(self.kind, features)
        ((name, layout),) = inputs.items()
        return initialise(Network(name, layout, self), self.initialisation)


def once(id_BN: Tensor) -> Tensor:
    """Each id of a row once, in rising order; the others become 0, which does not count."""
    id_BN = id_BN.sort(1).values
    again_BN = torch.zeros_like(id_BN, dtype=torch.bool)
    again_BN[:, 1:] = id_BN[:, 1:] == id_BN[:, :-1]
    return id_BN.masked_fill(again_BN, 0)


class Network(nn.Module):
    """One look-up of all tokens and runs, their combination, the layers."""

    def __init__(self, name: str, layout: Layout, settings: Bag) -> None:
        super().__init__()
        self.name, self.vocabulary = name, layout.size
        self.ngrams, self.presence = settings.ngrams, settings.combine == "presence"
        self.buckets = settings.buckets or table_rows(layout.size)
        rows = layout.size + (self.buckets if self.ngrams > 1 else 0)
        self.vectors = nn.EmbeddingBag(
            rows, settings.width, mode="sum" if self.presence else "mean", padding_idx=0
        )
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
        if not self.presence:
            return self.dense(self.dropout(self.combined(id_BN)))
        id_BN = once(id_BN)
        count_B1 = (id_BN != 0).sum(1, keepdim=True).clamp_min(1)
        return self.dense(self.dropout(self.combined(id_BN) * (GAIN * count_B1.rsqrt())))

    def combined(self, id_BN: Tensor) -> Tensor:
        """Sum or mean of the vectors; row 0 does not count."""
        if not torch.compiler.is_exporting():
            return self.vectors(id_BN)
        real_BN1 = (
            (id_BN != 0).unsqueeze(2).to(self.vectors.weight.dtype)
        )  # other runtimes have no such layer
        sum_BD = (F.embedding(id_BN, self.vectors.weight) * real_BN1).sum(1)
        return sum_BD if self.presence else sum_BD / real_BN1.sum(1).clamp_min(1)

    def chain(self) -> list[nn.Module]:
        """What the input goes through, in order (see layers/units.py)."""
        return [self.vectors, self.dropout, self.dense]

    def runs(self, token_BT: Tensor) -> list[Tensor]:
        """Table rows for runs of 2, 3 … tokens; runs into the padding get row 0, which does not count."""
        if torch.compiler.is_compiling():  # no graph for each short length: runs into padding do not count
            token_BT = F.pad(token_BT, (0, self.ngrams - 1))
        found, hash_BT = [], mix(token_BT)
        for size in range(2, min(self.ngrams, token_BT.shape[1]) + 1):
            next_BT = token_BT[:, size - 1 :]
            hash_BT = mix(hash_BT[:, :-1] ^ next_BT)
            found.append((hash_BT % self.buckets + self.vocabulary) * (next_BT != 0))
        return found
