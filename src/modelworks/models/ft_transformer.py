"""ft_transformer: each column of a table is a token, read by a transformer (Gorishniy et al. 2021).

    model: {kind: ft_transformer, width: 192, depth: 3, heads: 8}

A learned CLS token gathers the row. Defaults are the paper's: with 8 numbers and one output it has the
published implementation's 894,913 parameters. `kind: tabular` is the faster default.
B rows, N number columns, C category columns, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field as Setting
from pydantic import PositiveInt
from torch import Tensor, nn

from modelworks.core.choices import Activation, Initialisation, StepNormalisation
from modelworks.core.field import Layout
from modelworks.core.model import Features, Model
from modelworks.layers.activation import activation
from modelworks.layers.block import Block
from modelworks.layers.columns import Categories, Columns, Numbers
from modelworks.layers.features import one_a_row
from modelworks.layers.initialise import initialise
from modelworks.layers.linear import Linear
from modelworks.layers.normalisation import normalisation


class FtTransformer(Model):
    """Feature tokenizer and transformer."""

    forms: ClassVar[tuple[str, ...]] = ("vector", "index", "multihot")
    several: ClassVar[bool] = True

    width: PositiveInt = 192
    """Width of a column's token."""
    depth: PositiveInt = 3
    """Number of blocks."""
    heads: PositiveInt = 8
    """Attention heads of a block; they share the width."""
    ratio: float = Setting(default=4 / 3, gt=0)
    """Width of the feed-forward layer, in widths."""
    gated: bool = True
    """Gate the feed-forward layer (Shazeer 2020): ReGLU with relu."""
    embedding: Literal["linear", "piecewise"] = "linear"
    """A number's token: linear in it, as in the paper, or piecewise linear (Gorishniy et al. 2022)."""
    activation: Activation = "relu"
    """Non-linearity of the feed-forward layers, and of the row's vector at the end."""
    normalisation: StepNormalisation = "layer"
    """Norm before each half of a block, but for the first, and at the end."""
    dropout: float = Setting(default=0.1, ge=0, lt=1)
    """Share of the feed-forward layers' units dropped in training."""
    attention_dropout: float = Setting(default=0.2, ge=0, lt=1)
    """Share of attention weights dropped in training."""
    residual_dropout: float = Setting(default=0.0, ge=0, lt=1)
    """Share dropped of what each half of a block adds."""
    initialisation: Initialisation = "default"
    """How the matrices start; default is torch's own."""
    zero_residual: bool = False
    """Start each block as the identity."""

    @classmethod
    def recognise(cls, inputs: Mapping[str, str], rows: int) -> float:
        return 0.4 if inputs and set(inputs.values()) <= set(cls.forms) else 0.0

    def regime(self, rows: int) -> dict[str, Any]:
        return {
            "epochs": 100.0,
            # The paper's 256, or what leaves a dozen steps a pass on small tables.
            "batch_size": max(16, min(256, 1 << (max(rows // 12, 1).bit_length() - 1))),
            "optimizer": {
                "kind": "adamw",
                "lr": 1e-4,
                "weight_decay": 1e-5,
                "no_decay": ["norms_and_biases", "*numbers*", "*categories*", "*labels*", "*cls*"],
            },
            "patience": 16,
            "metric": "loss",
        }

    def build(self, inputs: Mapping[str, Layout], features: Features = "row") -> nn.Module:
        self.check(inputs)
        one_a_row(self.kind, features)
        return initialise(Network(inputs, self), self.initialisation, self.zero_residual)


class Tokenizer(nn.Module):
    """Columns → tokens_BTD, CLS first."""

    def __init__(self, inputs: Mapping[str, Layout], width: int, piecewise: bool) -> None:
        super().__init__()
        columns = self.columns = Columns(inputs)
        bound = width**-0.5
        self.cls_D = nn.Parameter(torch.empty(width).uniform_(-bound, bound))
        self.numbers = Numbers(columns.edges, width, piecewise, bound) if columns.edges else None
        self.categories = self.categories_bias_CD = None
        if columns.sizes:
            self.categories = Categories(columns.sizes, width)
            self.categories_bias_CD = nn.Parameter(
                torch.empty(len(columns.sizes), width).uniform_(-bound, bound)
            )
        self.labels = nn.ModuleList(Linear(labels, width) for labels in columns.labels)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        columns, parts = self.columns, []
        if self.numbers is not None:
            parts.append(self.numbers(columns.numbers(batch)))
        if self.categories is not None:
            parts.append(self.categories(columns.codes(batch)) + self.categories_bias_CD)
        sets = columns.label_sets(batch)
        parts += [to_token(x_BL).unsqueeze(1) for to_token, x_BL in zip(self.labels, sets, strict=True)]
        return torch.cat((self.cls_D.expand(parts[0].shape[0], 1, -1), *parts), 1)


class Network(nn.Module):
    """Tokens, pre-norm blocks, then norm and activation of the CLS token."""

    shortens: ClassVar[tuple[str, ...]] = ("blocks",)
    """Lists of blocks that do without any one of them, since each adds to what it is given."""

    def __init__(self, inputs: Mapping[str, Layout], settings: FtTransformer) -> None:
        super().__init__()
        self.tokens = Tokenizer(inputs, settings.width, settings.embedding == "piecewise")
        self.blocks = nn.ModuleList(
            Block(
                settings.width,
                settings.heads,
                int(settings.width * settings.ratio),
                act=settings.activation,
                gated=settings.gated,
                norm=settings.normalisation,
                dropout=settings.residual_dropout,
                attention_dropout=settings.attention_dropout,
            )
            for _ in range(settings.depth)
        )
        blocks: list[Any] = list(self.blocks)
        blocks[0].norm1 = nn.Identity()  # the paper found the first norm to hurt
        for block in blocks:
            # On the gate before it meets the rest: the same as on their product.
            block.feedforward.act = nn.Sequential(block.feedforward.act, nn.Dropout(settings.dropout))
        self.norm = normalisation(settings.normalisation, settings.width)
        self.act = activation(settings.activation)
        self.width = settings.width

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        x_BTD = self.tokens(batch)
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return self.act(self.norm(x_BTD[:, 0]))
