"""Several inputs → one vector: `Inputs({"age": layout, "city": layout})(batch)` gives x_BD; `width` is D.

Numbers and labels are taken as they are, images and frames are flattened (frames up to their longest length),
a category is one-hot when there are few of them and a learned vector otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelworks.core.errors import UserError
from modelworks.core.field import Layout
from modelworks.layers.embedding import embedding_width
from modelworks.layers.padding import padding_mask

ONE_HOT = 8
"""Most categories that are one-hot: up to here a learned vector would be about as wide."""


class Inputs(nn.Module):
    """Inputs side by side: dense ones in the order given, then one-hot categories, then embedded ones."""

    def __init__(self, inputs: Mapping[str, Layout], one_hot: int = ONE_HOT) -> None:
        super().__init__()
        self.layouts = dict(inputs)
        indexed = {name: layout for name, layout in inputs.items() if layout.form == "index"}
        self.dense = [name for name in inputs if name not in indexed]
        self.one_hot = [name for name, layout in indexed.items() if layout.size <= one_hot]
        self.embedded = [name for name in indexed if name not in self.one_hot]
        self.embeddings = nn.ModuleList(
            nn.Embedding(indexed[name].size, embedding_width(indexed[name].size)) for name in self.embedded
        )
        tables: list[Any] = list(self.embeddings)
        for embedding in tables:  # torch's N(0, 1) would be as loud as a standardised number
            nn.init.uniform_(embedding.weight, -0.1, 0.1)
        self.bits = sum(indexed[name].size for name in self.one_hot)
        first = torch.tensor([0, *(indexed[name].size for name in self.one_hot)])[:-1].cumsum(0)
        self.first: Tensor
        self.register_buffer("first", first)  # where each one-hot category begins
        self.width = (
            sum(flat_width(name, inputs[name]) for name in self.dense)
            + self.bits
            + sum(embedding.embedding_dim for embedding in tables)
        )

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        parts = [self.flat(name, batch) for name in self.dense]
        if self.one_hot:
            code_BC = torch.stack([batch[name] for name in self.one_hot], 1) + self.first
            bits_BN = torch.zeros(code_BC.shape[0], self.bits, device=code_BC.device)
            parts.append(bits_BN.scatter(1, code_BC, 1.0))
        parts += [table(batch[name]) for name, table in zip(self.embedded, self.embeddings, strict=True)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def flat(self, name: str, batch: Mapping[str, Tensor]) -> Tensor:
        """One dense input as (B, D)."""
        x = batch[name]
        if self.layouts[name].form == "frames":
            longest = self.layouts[name].length
            mask_BT = padding_mask(batch.get(f"{name}.length"), x.shape[1])
            x = x if mask_BT is None else x * mask_BT[..., None]
            x = F.pad(x, (0, 0, 0, longest - x.shape[1]))  # a negative pad cuts
        return x.flatten(1)


def flat_width(name: str, layout: Layout) -> int:
    """Width of a dense input, flattened."""
    if layout.form == "multihot":
        return layout.size
    if layout.form == "frames" and not layout.length:
        raise UserError(f"input {name!r} has no longest length, so it cannot be flattened", "use model: rnn")
    return math.prod(layout.shape) * (layout.length if layout.form == "frames" else 1)
