"""vit: an image as a sequence of patches, read by a transformer (Dosovitskiy et al. 2021).

    model: {kind: vit, size: tiny, patch: 4}

With an image of 224 pixels, patches of 16 and 1,000 classes, size base has the paper's 86,567,656 parameters.
B rows, C channels, H × W pixels, T patches, D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field as Setting
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from modelworks.core.choices import Activation, Initialisation, StepNormalisation
from modelworks.core.field import Layout
from modelworks.core.model import Features, Model
from modelworks.layers.block import Block
from modelworks.layers.features import one_a_row
from modelworks.layers.initialise import initialise
from modelworks.layers.normalisation import normalisation
from modelworks.layers.pooling import Pooling
from modelworks.layers.position import Position

SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12)}
"""Size → width, depth, heads; tiny and small are DeiT's (Touvron et al. 2021)."""


class Vit(Model):
    """Vision transformer."""

    forms: ClassVar[tuple[str, ...]] = ("image",)

    size: Literal["tiny", "small", "base"] = "tiny"
    """Named width, depth and heads, for those not given below."""
    width: PositiveInt | None = None
    """Width of a patch's vector."""
    depth: PositiveInt | None = None
    """Number of blocks."""
    heads: PositiveInt | None = None
    """Attention heads of a block."""
    ratio: float = Setting(default=4.0, gt=0)
    """Width of the feed-forward layer, in widths."""
    patch: PositiveInt | None = None
    """Side of a patch in pixels; when not given, a power of two up to 16 that leaves 7 patches a side."""
    positions: Literal["learned", "none"] = "learned"
    """How a patch knows its place."""
    pooling: Literal["cls", "mean", "attention"] = "cls"
    """cls: an extra learned patch gathers the image, as in the paper; otherwise patches are pooled."""
    activation: Activation = "gelu"
    """Non-linearity of the feed-forward layers."""
    normalisation: StepNormalisation = "layer"
    """Norm before each half of a block and at the end."""
    eps: float = Setting(default=1e-6, gt=0)
    """Added to the variance by every norm."""
    dropout: float = Setting(default=0.0, ge=0, lt=1)
    """Share dropped after the embedding and in each residual branch in training."""
    initialisation: Initialisation = "normal"
    """How the matrices start."""
    zero_residual: bool = False
    """Start each block as the identity."""

    @classmethod
    def recognise(cls, inputs: Mapping[str, str], rows: int) -> float:
        return 0.3 if tuple(inputs.values()) == ("image",) else 0.0  # wants millions of rows to shine

    def build(self, inputs: Mapping[str, Layout], features: Features = "row") -> nn.Module:
        self.check(inputs)
        one_a_row(self.kind, features)
        ((name, layout),) = inputs.items()
        return initialise(Network(name, layout, self), self.initialisation, self.zero_residual)


def patch_side(side: int) -> int:
    """The largest power of two up to 16 that leaves at least 7 patches a side: 16 at 224 pixels, 4 at 28."""
    return next((p for p in (16, 8, 4, 2) if side // p >= 7), 1)


class Network(nn.Module):
    """Patches, blocks, norm, pooling."""

    shortens: ClassVar[tuple[str, ...]] = ("blocks",)
    """Lists of blocks that do without any one of them, since each adds to what it is given."""

    def __init__(self, name: str, layout: Layout, settings: Vit) -> None:
        super().__init__()
        self.name = name
        width, depth, heads = SIZES[settings.size]
        width, depth = settings.width or width, settings.depth or depth
        heads = settings.heads or max(1, width // 64 if settings.width else heads)
        channels, *sides = layout.shape
        self.patch = settings.patch or patch_side(min(sides))
        steps = math.prod(-(-side // self.patch) for side in sides)
        self.project = nn.Conv2d(channels, width, self.patch, stride=self.patch)
        self.cls = nn.Parameter(torch.zeros(1, 1, width)) if settings.pooling == "cls" else None
        steps += self.cls is not None
        self.position = Position(settings.positions, width, heads, steps)
        self.dropout = nn.Dropout(settings.dropout)
        self.blocks = nn.ModuleList(
            Block(
                width,
                heads,
                round(width * settings.ratio),
                act=settings.activation,
                norm=settings.normalisation,
                dropout=settings.dropout,
                eps=settings.eps,
            )
            for _ in range(depth)
        )
        self.norm = normalisation(settings.normalisation, width, eps=settings.eps)
        self.pool = Pooling(settings.pooling, width)
        self.width = width

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        x_BCHW = batch[self.name]
        down, right = (-side % self.patch for side in x_BCHW.shape[2:])
        if down or right:  # a last patch that the image does not fill
            x_BCHW = F.pad(x_BCHW, (0, right, 0, down))
        x_BTD = self.project(x_BCHW).flatten(2).transpose(1, 2)
        if self.cls is not None:
            x_BTD = torch.cat((self.cls.to(x_BTD.dtype).expand(x_BTD.shape[0], -1, -1), x_BTD), 1)
        x_BTD = self.dropout(self.position.add(x_BTD))
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return self.pool(self.norm(x_BTD))
