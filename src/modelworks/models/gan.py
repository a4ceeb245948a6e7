"""gan: a generator that draws images from noise, and a discriminator that tells them from real ones.

    model: {kind: gan, latent: 100}                      # fully connected: 28×28 digits
    model: {kind: gan, generator: dcgan, channels: 64}   # convolutional (Radford et al. 2016): 32×32, 64×64
    task: adversarial

`generator(noise_BZ)` gives and `discriminator(images)` takes images in −1 … 1; `to_unit` and `to_prepared` go
between that range and the image field's own scale. `forward` serves evaluation: for each row its real image,
a generated one, and both logits, side by side.
B rows, Z latent size, C channels, H height, W width, P = C·H·W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field as Setting
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from modelworks.core.errors import UserError
from modelworks.core.field import Layout
from modelworks.core.model import Features, Model
from modelworks.layers.features import one_a_row

_SMALLEST = 4  # side of the innermost feature maps of dcgan


class Gan(Model):
    """Generator and discriminator of one image."""

    forms: ClassVar[tuple[str, ...]] = ("image",)

    latent: PositiveInt = 100
    """Size of the noise."""
    generator: Literal["mlp", "dcgan"] = "mlp"
    """mlp: fully connected layers, for small images; dcgan: strided convolutions, for sides that halve down
    to 4 … 8 (28, 32, 64, 128)."""
    widths: list[PositiveInt] = Setting(default=[256, 512, 1024], min_length=1)
    """mlp only: units of the generator's layers; the discriminator has them the other way round."""
    channels: PositiveInt = 64
    """dcgan only: channels at the finest level; each coarser level has twice as many."""
    slope: NonNegativeFloat = 0.2
    """Slope of the discriminator's LeakyReLU below zero."""
    dropout: float = Setting(default=0.0, ge=0, lt=1)
    """mlp only: share of the discriminator's units dropped after each activation in training."""

    def build(self, inputs: Mapping[str, Layout], features: Features = "row") -> nn.Module:
        self.check(inputs)
        one_a_row(self.kind, features)
        ((name, layout),) = inputs.items()
        make = _dcgan if self.generator == "dcgan" else _mlp
        return Network(name, layout.shape, self.latent, *make(self, layout.shape))


class Network(nn.Module):
    """The two players."""

    low_C: Tensor
    high_C: Tensor

    def __init__(
        self, image: str, shape: tuple[int, ...], latent: int, generator: nn.Module, discriminator: nn.Module
    ) -> None:
        super().__init__()
        self.image, self.shape, self.latent = image, shape, latent
        self.generator, self.discriminator = generator, discriminator
        self.pixels = shape[0] * shape[1] * shape[2]
        self.width = 2 * self.pixels + 2
        # The field's values of black and white, set by the task; part of the weights, for a trained GAN
        # needs them.
        self.register_buffer("low_C", torch.full((shape[0],), -1.0))
        self.register_buffer("high_C", torch.full((shape[0],), 1.0))

    def set_range(self, low_C: Tensor, high_C: Tensor) -> None:
        """What the image field makes of black and of white."""
        with torch.no_grad():
            self.low_C.copy_(low_C)
            self.high_C.copy_(high_C)

    def to_unit(self, prepared_BCHW: Tensor) -> Tensor:
        """The field's scale → −1 … 1."""
        low, high = self.low_C[:, None, None], self.high_C[:, None, None]
        return (prepared_BCHW - low) * (2 / (high - low)) - 1

    def to_prepared(self, unit_BCHW: Tensor) -> Tensor:
        """−1 … 1 → the field's scale."""
        low, high = self.low_C[:, None, None], self.high_C[:, None, None]
        return low + (unit_BCHW + 1) * ((high - low) / 2)

    def noise(self, rows: int) -> Tensor:
        """Noise (B, Z) from torch's global generator, which the loop seeds anew at each step."""
        return torch.randn(rows, self.latent, device=self.low_C.device)

    def noise_of(self, rows_B: Tensor) -> Tensor:
        """Noise (B, Z) that depends on the row's number alone, so that an evaluation can be repeated."""
        from modelworks.core.dataset import mix  # here: reading settings must not load numpy and pyarrow

        counters_BZ = rows_B.cpu().numpy().astype(np.uint64)[:, None] * np.uint64(self.latent)
        hashes_BZ = mix(mix(counters_BZ + np.arange(1, self.latent + 1, dtype=np.uint64)))
        uniform_BZ = ((hashes_BZ >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53
        return torch.special.ndtri(torch.from_numpy(uniform_BZ)).float().to(self.low_C.device)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """(B, 2P + 2): the real image, a generated one (both −1 … 1), the logits of both."""
        real = self.to_unit(batch[self.image])
        rows_B = batch.get("row", torch.arange(len(real)))
        noise_BZ = self.noise(len(real)) if self.training else self.noise_of(rows_B)
        fake = self.generator(noise_BZ).to(real.dtype)
        logits = torch.stack([self.discriminator(real), self.discriminator(fake)], 1)
        return torch.cat([real.reshape(len(real), -1), fake.reshape(len(real), -1), logits], 1)


# ------------------------------------------------------------------------------------------- fully connected
def _mlp(settings: Gan, shape: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
    pixels = shape[0] * shape[1] * shape[2]
    up: list[nn.Module] = []
    for before, after in pairwise([settings.latent, *settings.widths]):
        up += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
    generator = nn.Sequential(*up, nn.Linear(settings.widths[-1], pixels), nn.Tanh(), nn.Unflatten(1, shape))
    down: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise([pixels, *reversed(settings.widths)]):
        down += [nn.Linear(before, after), nn.LeakyReLU(settings.slope)]
        down += [nn.Dropout(settings.dropout)] if settings.dropout else []
    return generator, nn.Sequential(*down, nn.Linear(settings.widths[0], 1), nn.Flatten(0))


# ------------------------------------------------------------------------------------------- convolutional
def _dcgan(settings: Gan, shape: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
    colours, height, width = shape
    levels = 0
    while height % 2 == 0 and width % 2 == 0 and min(height, width) > _SMALLEST:
        height, width, levels = height // 2, width // 2, levels + 1
    if not levels or max(height, width) > 2 * _SMALLEST:
        raise UserError(
            f"model gan: dcgan cannot halve {shape[1]}×{shape[2]} down to sides of 4 to 8",
            "resize them to 28, 32, 64 or 128, or use `generator: mlp`",
        )
    maps = [settings.channels * 2**level for level in range(levels)]  # fine to coarse
    up: list[nn.Module] = [
        nn.Unflatten(1, (settings.latent, 1, 1)),
        nn.ConvTranspose2d(settings.latent, maps[-1], (height, width), bias=False),
        nn.BatchNorm2d(maps[-1]),
        nn.ReLU(),
    ]
    for before, after in pairwise(reversed(maps)):
        up += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    up += [nn.ConvTranspose2d(maps[0], colours, 4, 2, 1, bias=False), nn.Tanh()]
    down: list[nn.Module] = [nn.Conv2d(colours, maps[0], 4, 2, 1, bias=False), nn.LeakyReLU(settings.slope)]
    for before, after in pairwise(maps):
        down += [nn.Conv2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after)]
        down += [nn.LeakyReLU(settings.slope)]
    down += [nn.Conv2d(maps[-1], 1, (height, width), bias=False), nn.Flatten(0)]
    return _as_in_paper(nn.Sequential(*up)), _as_in_paper(nn.Sequential(*down))


def _as_in_paper(module: nn.Module) -> nn.Module:
    """N(0, 0.02²) matrices and N(1, 0.02²) norm scales."""
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(part.weight, 0.0, 0.02)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, 0.02)
    return module
