"""mlp: fully connected layers over numbers, categories, labels, or a flattened image.

    model: {kind: mlp, hidden: [128], activation: relu}

`hidden: []` is no layer at all: with the classify task on top, that is logistic regression.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field as Setting
from pydantic import PositiveInt
from torch import Tensor, nn

from modelworks.core.choices import Activation, Initialisation, RowNormalisation
from modelworks.core.field import Layout
from modelworks.core.model import Features, Model
from modelworks.layers.dense import Dense
from modelworks.layers.features import one_a_row
from modelworks.layers.initialise import initialise
from modelworks.layers.inputs import Inputs


class Mlp(Model):
    """Multi-layer perceptron."""

    forms: ClassVar[tuple[str, ...]] = ("vector", "index", "multihot", "image", "frames")
    several: ClassVar[bool] = True

    hidden: list[PositiveInt] | None = None
    """Width of each layer; when not given, `depth` layers of `width`."""
    width: PositiveInt = 256
    """Units of each layer."""
    depth: int = Setting(default=2, ge=0)
    """Number of layers."""
    activation: Activation = "relu"
    """Non-linearity after each layer."""
    normalisation: RowNormalisation = "none"
    """Norm between a layer and its activation."""
    dropout: float = Setting(default=0.0, ge=0, lt=1)
    """Share of units dropped after each activation in training."""
    initialisation: Initialisation = "default"
    """How the matrices start; default is torch's own."""

    @classmethod
    def recognise(cls, inputs: Mapping[str, str], rows: int) -> float:
        forms = set(inputs.values())
        if forms and forms <= {"vector", "index", "multihot"}:
            return 0.5  # sound on tables, but plain: tabular models do better
        return 0.1 if forms <= set(cls.forms) else 0.0

    def build(self, inputs: Mapping[str, Layout], features: Features = "row") -> nn.Module:
        self.check(inputs)
        one_a_row(self.kind, features)
        return initialise(Network(inputs, self), self.initialisation)


class Network(nn.Module):
    """Inputs side by side, then the layers."""

    def __init__(self, inputs: Mapping[str, Layout], settings: Mlp) -> None:
        super().__init__()
        hidden = [settings.width] * settings.depth if settings.hidden is None else settings.hidden
        self.inputs = Inputs(inputs)
        self.dense = Dense(
            self.inputs.width,
            hidden,
            act=settings.activation,
            norm=settings.normalisation,
            dropout=settings.dropout,
        )
        self.width = self.dense.width

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        return self.dense(self.inputs(batch))

    def chain(self) -> list[nn.Module]:
        """What the input goes through, in order (see layers/units.py)."""
        return [self.dense]
