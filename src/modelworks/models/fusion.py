"""fusion: an encoder for each input, their features combined.

    model: {kind: fusion, combine: gated, encoders: {photo: {kind: resnet}, table: {kind: mlp}}}

Numbers, categories and labels share one encoder, called `table`. What `encoders` does not name gets the best
default for its form. B rows, M encoders, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field as Setting
from pydantic import PositiveInt
from torch import Tensor, nn

from modelworks.core.choices import Activation, Initialisation, RowNormalisation
from modelworks.core.errors import UserError, did_you_mean
from modelworks.core.field import Layout
from modelworks.core.kinds import every
from modelworks.core.model import Features, Model
from modelworks.layers.activation import activation
from modelworks.layers.block import Block
from modelworks.layers.dense import Dense
from modelworks.layers.features import one_a_row
from modelworks.layers.initialise import initialise
from modelworks.layers.linear import Linear
from modelworks.layers.pooling import Pooling

TABLE = ("vector", "index", "multihot")
ROWS = 5_000
"""Rows for which default encoders are chosen; they are not known here, and light encoders suit any number."""


class Fusion(Model):
    """Several encoders and a combination."""

    forms: ClassVar[tuple[str, ...]] = ("vector", "index", "multihot", "tokens", "image", "frames")
    several: ClassVar[bool] = True

    encoders: dict[str, Model] = {}
    """Input, or `table` for the inputs that share one, → its model; the best default where not given."""
    combine: Literal["concat", "gated", "attention"] = "concat"
    """concat: side by side; gated: a learned weight for each feature (Arevalo et al. 2017); attention: a
    transformer block over the encoders' features, pooled by a learned query."""
    width: PositiveInt = 128
    """Width to which every encoder's features are projected."""
    heads: PositiveInt = 4
    """Heads of combine attention."""
    hidden: list[PositiveInt] = []
    """Width of each fully connected layer behind the combination."""
    activation: Activation = "gelu"
    """Non-linearity of the projections (gated has tanh) and layers."""
    normalisation: RowNormalisation = "none"
    """Norm of the layers; projections always have a layer norm, since encoders differ in scale."""
    dropout: float = Setting(default=0.1, ge=0, lt=1)
    """Share of the combined features and of each layer's units dropped in training."""
    initialisation: Initialisation = "default"
    """How the matrices of the combination start; encoders have their own setting."""

    @classmethod
    def recognise(cls, inputs: Mapping[str, str], rows: int) -> float:
        return 0.9 if len(inputs) > 1 and not set(inputs.values()) <= set(TABLE) else 0.0

    def build(self, inputs: Mapping[str, Layout], features: Features = "row") -> nn.Module:
        self.check(inputs)
        one_a_row(self.kind, features)
        groups = self.groups(inputs)
        unknown = [name for name in self.encoders if name not in groups]
        if unknown:
            raise UserError(
                f"encoders.{unknown[0]}: there is no such input; {did_you_mean(unknown[0], groups)}"
            )
        encoders = [
            (self.encoders.get(name) or default_encoder(group)).build(group) for name, group in groups.items()
        ]
        return Network(encoders, self)

    def groups(self, inputs: Mapping[str, Layout]) -> dict[str, dict[str, Layout]]:
        """Encoder → the inputs that it reads."""
        groups: dict[str, dict[str, Layout]] = {}
        for name, layout in inputs.items():
            shared = layout.form in TABLE and name not in self.encoders
            groups.setdefault("table" if shared else name, {})[name] = layout
        return groups


def default_encoder(inputs: Mapping[str, Layout]) -> Model:
    """The kind that recognises these inputs best, with its default settings."""
    forms = {name: layout.form for name, layout in inputs.items()}
    sure = {kind: kind.recognise(forms, ROWS) for kind in every(Model).values() if kind is not Fusion}
    best = max(sure, key=lambda kind: sure[kind])
    if not sure[best]:
        raise UserError(f"no model reads {forms} by default", "name one under encoders")
    return best()


class Network(nn.Module):
    """Encoders, projections to one width, combination, layers."""

    def __init__(self, encoders: list[Any], settings: Fusion) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.combine, width = settings.combine, settings.width
        joined = len(encoders) * width
        self.project = nn.ModuleList(
            nn.Sequential(
                Linear(encoder.width, width),
                nn.LayerNorm(width),
                activation("tanh" if self.combine == "gated" else settings.activation),
            )
            for encoder in encoders
        )
        self.gate = Linear(joined, joined) if self.combine == "gated" else None
        attends = self.combine == "attention"
        self.source_MD = nn.Parameter(torch.randn(len(encoders), width) * 0.02) if attends else None
        self.block = Block(width, settings.heads, 4 * width, dropout=settings.dropout) if attends else None
        self.pool = Pooling("attention", width) if attends else None
        self.dropout = nn.Dropout(settings.dropout)
        self.dense = Dense(
            joined if self.combine == "concat" else width,
            settings.hidden,
            act=settings.activation,
            norm=settings.normalisation,
            dropout=settings.dropout,
        )
        self.width = self.dense.width
        for part in (self.project, self.gate, self.block, self.pool, self.dense):
            if part is not None:
                initialise(part, settings.initialisation)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        parts = []
        for encoder, project in zip(self.encoders, self.project, strict=True):
            x = encoder(batch)
            parts.append(project(x.mean(1) if x.ndim == 3 else x))  # an ensemble's members count alike
        x_BMD = torch.stack(parts, 1)
        if self.gate is not None:
            weight_BMD = self.gate(x_BMD.flatten(1)).view_as(x_BMD).sigmoid()
            x_BD = (weight_BMD * x_BMD).sum(1)
        elif self.block is not None and self.pool is not None and self.source_MD is not None:
            x_BD = self.pool(self.block(x_BMD + self.source_MD))
        else:
            x_BD = x_BMD.flatten(1)
        return self.dense(self.dropout(x_BD))

    def chain(self) -> list[nn.Module]:
        """What the input goes through, in order (see layers/units.py)."""
        return [self.dropout, self.dense]

    def chains(self) -> list[list[nn.Module]]:
        """Each encoder's output is read by its own projection alone."""
        pairs = zip(self.encoders, self.project, strict=True)
        return [[encoder, project] for encoder, project in pairs]
