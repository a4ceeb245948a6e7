"""resnet: convolutions in blocks that add to their input (He et al. 2016).

    model: {kind: resnet, depth: 50}

Depths 18 and 34 use blocks of two 3 × 3 convolutions; 50, 101 and 152 use bottlenecks with the stride in the
3 × 3 convolution, as everybody does since. With 3 channels and 1,000 classes, depth 18 has 11,689,512
parameters and depth 50 has 25,557,032.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

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

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Depth → blocks of each stage (table 1 of the paper)."""


class Resnet(Model):
    """Residual network."""

    forms: ClassVar[tuple[str, ...]] = ("image",)

    depth: Literal[18, 34, 50, 101, 152] = 18
    """Layers with weights, the head included."""
    width: PositiveInt = 64
    """Channels of the first stage; each stage doubles them."""
    stem: Stem = "auto"
    """imagenet: 7 × 7 with stride 2, then max pooling; small: one 3 × 3; auto: by the image's size."""
    activation: Activation = "relu"
    """Non-linearity after each norm."""
    normalisation: Normalisation = "batch"
    """Norm after each convolution."""
    dropout: float = Setting(default=0.0, ge=0, lt=1)
    """Share of features dropped before the head in training."""
    initialisation: Initialisation = "he"
    """How the matrices start."""
    zero_residual: bool = True
    """Start each block as the identity, by zeros in its last norm (Goyal et al. 2017)."""

    @classmethod
    def recognise(cls, inputs: Mapping[str, str], rows: int) -> float:
        # Better than cnn once there is much to learn from, and many times its price.
        return 0.6 if tuple(inputs.values()) == ("image",) else 0.0

    def build(self, inputs: Mapping[str, Layout], features: Features = "row") -> nn.Module:
        self.check(inputs)
        one_a_row(self.kind, features)
        ((name, layout),) = inputs.items()
        return initialise(Network(name, layout, self), self.initialisation, self.zero_residual)


class Network(nn.Module):
    """Stem, four stages, mean over the map."""

    def __init__(self, name: str, layout: Layout, settings: Resnet) -> None:
        super().__init__()
        self.name = name
        channels, *sides = layout.shape
        width, norm, act = settings.width, settings.normalisation, settings.activation
        self.stem = stem(channels, width, sides, settings.stem, norm, act)
        blocks: list[nn.Module] = []
        channels = width
        for stage, count in enumerate(BLOCKS[settings.depth]):
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                part, channels = block(channels, width << stage, stride, settings.depth >= 50, norm, act)
                blocks.append(part)
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(settings.dropout)
        self.width = channels

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        x_BCHW = self.blocks(self.stem(batch[self.name]))
        return self.dropout(x_BCHW.mean((2, 3)))


class Block(nn.Module):
    """act(branch(x) + x)."""

    def __init__(
        self, branch: nn.Sequential, shortcut: nn.Module, norm: Normalisation, act: Activation
    ) -> None:
        super().__init__()
        self.branch, self.shortcut, self.act = branch, shortcut, activation(act)
        # What zero_residual sets to zero: the last norm, or the last convolution where there is no norm.
        self.residual_outputs = (f"branch.{len(branch) - (2 if norm == 'none' else 1)}",)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.act(self.branch(x_BCHW) + self.shortcut(x_BCHW))


def block(
    channels: int, width: int, stride: int, bottleneck: bool, norm: Normalisation, act: Activation
) -> tuple[Block, int]:
    """A block and its channels: two 3 × 3, or as a bottleneck 1 × 1 down, 3 × 3, 1 × 1 up to four widths."""

    def layer(inputs: int, outputs: int, kernel: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=norm == "none")
        return conv, normalisation(norm, outputs, 2)

    outputs = width * (4 if bottleneck else 1)
    if bottleneck:
        first, middle = layer(channels, width, 1), layer(width, width, 3, stride)
        parts = (*first, activation(act), *middle, activation(act), *layer(width, outputs, 1))
    else:
        parts = (*layer(channels, width, 3, stride), activation(act), *layer(width, width, 3))
    # Where shapes differ, the shortcut is a 1 × 1 convolution (option B of the paper).
    differs = stride > 1 or channels != outputs
    shortcut = nn.Sequential(*layer(channels, outputs, 1, stride)) if differs else nn.Identity()
    return Block(nn.Sequential(*parts), shortcut, norm, act), outputs
