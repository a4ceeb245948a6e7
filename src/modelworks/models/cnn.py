"""cnn: a plain stack of convolutions for images, and for frames (waveforms, sensor series) along time.

    model: {kind: cnn, channels: [32, 64], hidden: [128]}

Each stage is `convolutions` layers and halves the picture; then come fully connected layers. Without settings
the number of stages follows the input's size. B rows, C channels, H × W pixels, T steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field as Setting
from pydantic import PositiveInt, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from modelworks.core.choices import Activation, Downsample, Initialisation, Normalisation
from modelworks.core.errors import UserError
from modelworks.core.field import Layout
from modelworks.core.model import Features, Model
from modelworks.layers.convolution import Convolution
from modelworks.layers.dense import Dense
from modelworks.layers.features import one_a_row
from modelworks.layers.initialise import initialise
from modelworks.layers.padding import padding_mask
from modelworks.layers.pooling import maximum, mean
from modelworks.layers.units import Flat


class Cnn(Model):
    """Convolutional network."""

    forms: ClassVar[tuple[str, ...]] = ("image", "frames")

    channels: list[PositiveInt] | None = Setting(default=None, min_length=1)
    """Channels of each stage; when not given, 32, 64, 128 and then 256, until 3 to 7 pixels are left."""
    convolutions: PositiveInt | list[PositiveInt] = 1
    """Convolutions a stage, or of each stage in turn."""
    kernel: PositiveInt | None = None
    """Side of a kernel, odd; when not given, 3 for images and 9 for frames."""
    pooling: Downsample = "max"
    """How a stage shrinks its input: pooling, or a stride in its last convolution."""
    pool: PositiveInt | None = None
    """Factor by which a stage shrinks each axis; when not given, 2, and 4 for more than 256 frames."""
    gather: Literal["auto", "flatten", "mean", "max"] = "auto"
    """How the last map becomes a vector; auto: flatten up to 16 positions of an image, else mean."""
    hidden: list[PositiveInt] = [128]
    """Width of each fully connected layer; empty for none."""
    activation: Activation = "relu"
    """Non-linearity after each layer."""
    normalisation: Normalisation = "batch"
    """Norm of the convolutions; group is for images only."""
    dropout: float = Setting(default=0.0, ge=0, lt=1)
    """Share of units dropped before and after each fully connected layer in training."""
    initialisation: Initialisation = "default"
    """How the matrices start; default is torch's own."""

    @field_validator("kernel")
    @classmethod
    def _odd(cls, kernel: int | None) -> int | None:
        if kernel is not None and kernel % 2 == 0:
            raise ValueError(f"wants an odd number, got {kernel}")
        return kernel

    @classmethod
    def recognise(cls, inputs: Mapping[str, str], rows: int) -> float:
        # For pictures it learns fastest from few rows; for frames it costs a fraction of a recurrent network.
        good: dict[tuple[str, ...], float] = {("image",): 0.8, ("frames",): 0.7}
        return good.get(tuple(inputs.values()), 0.0)

    def build(self, inputs: Mapping[str, Layout], features: Features = "row") -> nn.Module:
        self.check(inputs)
        one_a_row(self.kind, features)
        ((name, layout),) = inputs.items()
        if layout.form == "frames" and (self.gather == "flatten" or self.normalisation == "group"):
            raise UserError(
                "frames are of different lengths, so they have no flat map and no group norm",
                "gather: mean, normalisation: batch or layer",
            )
        return initialise(Network(name, layout, self), self.initialisation)


def stages(side: int, pool: int, channels: list[int] | None) -> list[int]:
    """Channels of each stage; by default one for each time that `side` can shrink and keep 3 pixels."""
    if channels is not None:
        return channels
    count = 1
    while side // pool ** (count + 1) >= 3 and pool > 1:
        count += 1
    return [min(32 << stage, 256) for stage in range(count)]


class Network(nn.Module):
    """Stages of convolutions, a vector of what is left, fully connected layers."""

    def __init__(self, name: str, layout: Layout, settings: Cnn) -> None:
        super().__init__()
        self.name, self.ragged = name, layout.form == "frames"
        sides = (layout.length,) if self.ragged else layout.shape[1:]
        pool = settings.pool or (4 if self.ragged and layout.length > 256 else 2)
        self.pool, self.by = pool, settings.pooling
        channels = stages(min(sides), pool, settings.channels)
        self.shortest = pool ** len(channels)
        if min(sides) < self.shortest and not self.ragged:
            raise UserError(
                f"{min(sides)} pixels cannot be shrunk {pool}-fold {len(channels)} times",
                "fewer channels, or pool: 1",
            )
        width = layout.shape[0]
        self.layers, self.shrinks = nn.ModuleList(), []
        each = (
            settings.convolutions
            if isinstance(settings.convolutions, list)
            else [settings.convolutions] * len(channels)
        )
        if len(each) != len(channels):
            raise UserError(
                f"convolutions names {len(each)} stages, channels {len(channels)}", "one number for each"
            )
        for output, count in zip(channels, each, strict=True):
            for index in range(count):
                end = index == count - 1
                self.layers.append(
                    Convolution(
                        width,
                        output,
                        axes=1 if self.ragged else 2,
                        kernel=settings.kernel or (9 if self.ragged else 3),
                        pool=pool if end else 1,
                        by=settings.pooling,
                        norm=settings.normalisation,
                        act=settings.activation,
                    )
                )
                self.shrinks.append(end)
                width = output
            sides = tuple(self.shrunk(side) for side in sides)
        flat = math.prod(sides)
        self.gather = settings.gather
        if self.gather == "auto":
            self.gather = "flatten" if not self.ragged and flat <= 16 else "mean"
        self.positions = flat if self.gather == "flatten" else 1
        self.dropout = nn.Dropout(settings.dropout)
        self.dense = Dense(
            width * self.positions,
            settings.hidden,
            act=settings.activation,
            dropout=settings.dropout,
        )
        self.width = self.dense.width

    def shrunk(self, side: Any) -> Any:
        """A length, or a tensor of lengths, after a stage shrank it."""
        return (side + self.pool - 1) // self.pool if self.by == "stride" else side // self.pool

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        x = batch[self.name]
        x_BD = self.over_time(x, batch.get(f"{self.name}.length")) if self.ragged else self.over_space(x)
        return self.dense(self.dropout(x_BD))

    def chain(self) -> list[nn.Module | Flat]:
        """What the input goes through, in order (see layers/units.py)."""
        return [*self.layers, Flat(self.positions), self.dropout, self.dense]

    def over_space(self, x_BCHW: Tensor) -> Tensor:
        for layer in self.layers:
            x_BCHW = layer(x_BCHW)
        if self.gather == "flatten":
            return x_BCHW.flatten(1)
        return x_BCHW.amax((2, 3)) if self.gather == "max" else x_BCHW.mean((2, 3))

    def over_time(self, x_BTC: Tensor, length_B: Tensor | None) -> Tensor:
        """Padding is set to zero before every layer, so that it is what a convolution sees beyond the end."""
        # A recorded graph takes any length: it always has enough, for padding does not change a result.
        missing = self.shortest if torch.compiler.is_compiling() else self.shortest - x_BTC.shape[1]
        if missing > 0:
            if length_B is None:
                length_B = torch.full(x_BTC.shape[:1], x_BTC.shape[1], device=x_BTC.device)
            x_BTC = F.pad(x_BTC, (0, 0, 0, missing))
        mask_BT = padding_mask(length_B, x_BTC.shape[1])
        x_BCT = x_BTC.transpose(1, 2)
        for layer, shrinks in zip(self.layers, self.shrinks, strict=True):
            x_BCT = layer(x_BCT if mask_BT is None else x_BCT * mask_BT[:, None])
            if mask_BT is not None and length_B is not None and shrinks:
                length_B = self.shrunk(length_B).clamp(min=1)
                mask_BT = padding_mask(length_B, x_BCT.shape[2])
        return (maximum if self.gather == "max" else mean)(x_BCT.transpose(1, 2), mask_BT)
