"""densenet: every layer sees the outputs of all layers before it (Huang et al. 2017).

    model: {kind: densenet, depth: 121}

DenseNet-BC: bottlenecks of four times the growth, transitions that halve the channels. With 3 channels and
1,000 classes, depth 121 has 7,978,856 parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field as Setting
from pydantic import PositiveInt
from torch import Tensor, nn

from modelworks.core.choices import Activation, Initialisation, Normalisation, Stem
from modelworks.core.field import Layout
from modelworks.core.model import Features, Model
from modelworks.layers.activation import activation
from modelworks.layers.features import one_a_row
from modelworks.layers.initialise import initialise
from modelworks.layers.normalisation import normalisation
from modelworks.layers.stem import stem

LAYERS = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}
"""Depth → layers of each dense block (table 1 of the paper)."""


class Densenet(Model):
    """Densely connected network."""

    forms: ClassVar[tuple[str, ...]] = ("image",)

    depth: Literal[121, 169, 201] = 121
    """Layers with weights, the head included."""
    growth: PositiveInt = 32
    """Channels that each layer adds; the stem has twice as many."""
    stem: Stem = "auto"
    """imagenet: 7 × 7 with stride 2, then max pooling; small: one 3 × 3; auto: by the image's size."""
    activation: Activation = "relu"
    """Non-linearity after each norm."""
    normalisation: Normalisation = "batch"
    """Norm before each convolution."""
    dropout: float = Setting(default=0.0, ge=0, lt=1)
    """Share of each layer's output dropped in training (the paper: 0.2 without augmentation)."""
    initialisation: Initialisation = "he"
    """How the matrices start."""

    @classmethod
    def recognise(cls, inputs: Mapping[str, str], rows: int) -> float:
        return 0.3 if tuple(inputs.values()) == ("image",) else 0.0  # few parameters, but slow

    def build(self, inputs: Mapping[str, Layout], features: Features = "row") -> nn.Module:
        self.check(inputs)
        one_a_row(self.kind, features)
        ((name, layout),) = inputs.items()
        return initialise(Network(name, layout, self), self.initialisation)


class Network(nn.Module):
    """Stem, dense blocks with transitions between them, mean over the map."""

    def __init__(self, name: str, layout: Layout, settings: Densenet) -> None:
        super().__init__()
        self.name = name
        channels, *sides = layout.shape
        growth, norm, act = settings.growth, settings.normalisation, settings.activation
        bias = norm == "none"
        width = 2 * growth
        self.stem = stem(channels, width, sides, settings.stem, norm, act)
        parts: list[nn.Module] = []
        for block, count in enumerate(LAYERS[settings.depth]):
            if block:
                parts += [normalisation(norm, width, 2), activation(act)]
                parts += [nn.Conv2d(width, width // 2, 1, bias=bias), nn.AvgPool2d(2, ceil_mode=True)]
                width //= 2
            parts.append(Block(width, count, growth, settings))
            width += count * growth
        self.blocks = nn.Sequential(*parts, normalisation(norm, width, 2), activation(act))
        self.width = width

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        return self.blocks(self.stem(batch[self.name])).mean((2, 3))


class Block(nn.Module):
    """Layers of norm → 1 × 1 → norm → 3 × 3, each fed with everything so far."""

    def __init__(self, width: int, count: int, growth: int, settings: Densenet) -> None:
        super().__init__()
        norm, act = settings.normalisation, settings.activation
        bias = norm == "none"
        self.layers = nn.ModuleList(
            nn.Sequential(
                normalisation(norm, width + index * growth, 2),
                activation(act),
                nn.Conv2d(width + index * growth, 4 * growth, 1, bias=bias),
                normalisation(norm, 4 * growth, 2),
                activation(act),
                nn.Conv2d(4 * growth, growth, 3, padding=1, bias=bias),
                nn.Dropout(settings.dropout),
            )
            for index in range(count)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        for layer in self.layers:
            x_BCHW = torch.cat((x_BCHW, layer(x_BCHW)), 1)
        return x_BCHW
