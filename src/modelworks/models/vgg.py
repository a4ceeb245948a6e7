"""vgg: deep stacks of 3 × 3 convolutions and three fully connected layers (Simonyan & Zisserman 2015).

    model: {kind: vgg, depth: 16}

The two fully connected layers of 4,096 belong to the model, the last one is the task's head. With an image of
224 pixels, `normalisation: none` and 1,000 classes, depth 16 has the paper's 138,357,544 parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field as Setting
from pydantic import PositiveInt
from torch import Tensor, nn

from modelworks.core.choices import Activation, Initialisation, Normalisation
from modelworks.core.field import Layout
from modelworks.core.model import Features, Model
from modelworks.layers.convolution import Convolution
from modelworks.layers.dense import Dense
from modelworks.layers.features import one_a_row
from modelworks.layers.initialise import initialise
from modelworks.layers.units import Flat

CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Depth → convolutions of each stage (table 1 of the paper)."""


class Vgg(Model):
    """VGG network."""

    forms: ClassVar[tuple[str, ...]] = ("image",)

    depth: Literal[11, 13, 16, 19] = 11
    """Layers with weights, the head included."""
    width: PositiveInt = 64
    """Channels of the first stage; they double up to eight times as many."""
    hidden: list[PositiveInt] = [4096, 4096]
    """Width of each fully connected layer."""
    activation: Activation = "relu"
    """Non-linearity after each layer."""
    normalisation: Normalisation = "batch"
    """Norm after each convolution; the paper had none."""
    dropout: float = Setting(default=0.5, ge=0, lt=1)
    """Share of units dropped after each fully connected layer in training."""
    initialisation: Initialisation = "he"
    """How the matrices start. Without a norm only `he` keeps the signal alive through 19 layers."""

    @classmethod
    def recognise(cls, inputs: Mapping[str, str], rows: int) -> float:
        return 0.2 if tuple(inputs.values()) == ("image",) else 0.0  # heavy for what it gives

    def build(self, inputs: Mapping[str, Layout], features: Features = "row") -> nn.Module:
        self.check(inputs)
        one_a_row(self.kind, features)
        ((name, layout),) = inputs.items()
        return initialise(Network(name, layout, self), self.initialisation)


class Network(nn.Module):
    """Five stages, a map of at most 7 × 7, fully connected layers."""

    def __init__(self, name: str, layout: Layout, settings: Vgg) -> None:
        super().__init__()
        self.name = name
        channels, *sides = layout.shape
        layers: list[nn.Module] = []
        for stage, count in enumerate(CONVOLUTIONS[settings.depth]):
            output = settings.width * min(1 << stage, 8)
            shrink = min(sides) >= 2  # a small image is not halved to nothing
            for index in range(count):
                pool = 2 if shrink and index == count - 1 else 1
                layers.append(
                    Convolution(
                        channels, output, pool=pool, norm=settings.normalisation, act=settings.activation
                    )
                )
                channels = output
            sides = [side // 2 for side in sides] if shrink else sides
        self.layers = nn.Sequential(*layers)
        # 7 × 7 at 224 pixels, as in the paper; larger images are averaged down to it
        sides = [min(side, 7) for side in sides]
        self.gather = nn.AdaptiveAvgPool2d((sides[0], sides[1]))
        self.positions = sides[0] * sides[1]
        self.dense = Dense(
            channels * self.positions, settings.hidden, act=settings.activation, dropout=settings.dropout
        )
        self.width = self.dense.width

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        return self.dense(self.gather(self.layers(batch[self.name])).flatten(1))

    def chain(self) -> list[nn.Module | Flat]:
        """What the input goes through, in order (see layers/units.py)."""
        return [self.layers, self.gather, Flat(self.positions), self.dense]
