"""The first layers of a deep image network: `stem(3, 64, sides=(224, 224))`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from modelworks.core.choices import Activation, Normalisation, Stem
from modelworks.layers.activation import activation
from modelworks.layers.normalisation import normalisation

SMALL = 96
"""Images with a side below this lose too much to the ImageNet stem, which shrinks four-fold at once."""


def stem(
    channels: int,
    width: int,
    sides: Sequence[int],
    kind: Stem = "auto",
    norm: Normalisation = "batch",
    act: Activation = "relu",
) -> nn.Sequential:
    """imagenet: 7 × 7 with stride 2, then max pooling; small: one 3 × 3 (He et al. 2016 on CIFAR-10)."""
    small = min(sides) < SMALL if kind == "auto" else kind == "small"
    side, stride = (3, 1) if small else (7, 2)
    return nn.Sequential(
        nn.Conv2d(channels, width, side, stride, padding=side // 2, bias=norm == "none"),
        normalisation(norm, width, 2),
        activation(act),
        nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1),
    )
