"""adversarial: a generator learns to make images that a discriminator takes for real (a GAN).

    task: {kind: adversarial, objective: hinge}
    model: {kind: gan, latent: 100}

Two players of the one loop: in each step the discriminator is updated, then the generator. There is no
target. B rows, C channels, D projected features, P pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field as Setting
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from modelworks.core.errors import UserError
from modelworks.core.field import Field
from modelworks.core.task import Batch, Meter, Player, Task
from modelworks.metrics.generation import GenerationMeter

_FEATURES = 32  # random projections that stand for an image when distributions are compared


class Adversarial(Task):
    """Generate images like those of the training split."""

    primary: ClassVar[str] = "frechet"
    minimise: ClassVar[bool] = True

    objective: Literal["nonsaturating", "hinge", "least_squares"] = "nonsaturating"
    """Binary cross-entropy, the generator maximising log D(G(z)) (Goodfellow et al. 2014); hinge (Lim & Ye
    2017); or squared error (Mao et al. 2017, LSGAN)."""
    label_smoothing: float = Setting(default=0.0, ge=0, lt=0.5)
    """nonsaturating and least_squares: real images count as 1 − this for the discriminator, generated ones
    stay 0 (one-sided, Salimans et al. 2016)."""

    # ------------------------------------------------------------------ learning
    def head(self, width: int, members: int, fields: Mapping[str, Field]) -> nn.Module:
        if self.target:
            raise UserError(f"task.target: adversarial learns no target, got {self.target!r}", "leave it out")
        _, field = _image(fields)
        return Judge(field)

    def players(self, network: nn.Module) -> tuple[Player, ...]:
        gan: Any = network.model
        if not hasattr(gan, "generator") or not hasattr(gan, "discriminator"):
            raise UserError("task adversarial wants a model of two players", "model: {kind: gan}")
        gan.set_range(network.head.low_C, network.head.high_C)

        def discriminate(batch: Batch) -> tuple[Tensor, int]:
            real = gan.to_unit(batch[gan.image])
            with torch.no_grad():  # the generator is not this player's
                fake = gan.generator(gan.noise(len(real)))
            return self.discriminator_loss(gan.discriminator(real), gan.discriminator(fake)), len(real)

        def generate(batch: Batch) -> tuple[Tensor, int]:
            rows = len(batch[gan.image])
            # Detached weights: the discriminator passes gradients on and collects none.
            frozen = {name: p.detach() for name, p in gan.discriminator.named_parameters()}
            logit_B = functional_call(gan.discriminator, frozen, gan.generator(gan.noise(rows)))
            return self.generator_loss(logit_B), rows

        return (
            Player("discriminator", _named(network, "model.discriminator."), discriminate),
            Player("generator", _named(network, "model.generator."), generate),
        )

    def discriminator_loss(self, real_B: Tensor, fake_B: Tensor) -> Tensor:
        """Sum over rows of the loss on a real and on a generated image, from their logits."""
        real_B, fake_B = real_B.float(), fake_B.float()
        if self.objective == "hinge":
            return (F.relu(1 - real_B) + F.relu(1 + fake_B)).sum()
        wanted_B, zero_B = torch.full_like(real_B, 1 - self.label_smoothing), torch.zeros_like(fake_B)
        cost = F.mse_loss if self.objective == "least_squares" else F.binary_cross_entropy_with_logits
        return cost(real_B, wanted_B, reduction="sum") + cost(fake_B, zero_B, reduction="sum")

    def generator_loss(self, fake_B: Tensor) -> Tensor:
        """Sum over rows of what the generator pays for its images' logits."""
        fake_B = fake_B.float()
        if self.objective == "hinge":
            return -fake_B.sum()
        cost = F.mse_loss if self.objective == "least_squares" else F.binary_cross_entropy_with_logits
        return cost(fake_B, torch.ones_like(fake_B), reduction="sum")

    def loss(self, output: Mapping[str, Tensor], batch: Batch) -> tuple[Tensor, int]:
        """The discriminator's loss; training goes through `players`."""
        return self.discriminator_loss(output["real_logit"], output["fake_logit"]), len(output["real_logit"])

    # ------------------------------------------------------------------ answering
    def predict(self, output: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`prediction`: how probably each image is real; beside it what the meter compares."""
        real_B, fake_B = (self._probability(output[name]) for name in ("real_logit", "fake_logit"))
        return {
            "prediction": real_B,
            "prediction_fake": fake_B,
            "real": output["real"],
            "fake": output["fake"],
        }

    def exported(self, network: Any, batch: Batch) -> dict[str, Tensor]:
        """The generator alone: noise (B, Z) of N(0, 1) → pictures, 0 black to 1 white."""
        return {"image": (network.model.generator(batch["noise"]) + 1) / 2}

    def _probability(self, logit_B: Tensor) -> Tensor:
        logit_B = logit_B.float()
        # Squared error teaches logits of 0 and 1, the others of both signs.
        return logit_B.clamp(0, 1) if self.objective == "least_squares" else torch.sigmoid(logit_B)

    def answer(
        self, predicted: Mapping[str, np.ndarray], fields: Mapping[str, Field]
    ) -> dict[str, list[Any]]:
        return {"prediction": predicted["prediction"].tolist()}

    def meter(self, fields: Mapping[str, Field], bootstrap: int = 200, seed: int = 0) -> Meter:
        return GenerationMeter(bootstrap, seed)

    def baseline(self, fields: Mapping[str, Field], target: np.ndarray) -> dict[str, np.ndarray]:
        """None: there is no target, and no row to compare a constant with."""
        return {}

    def samples(self, network: nn.Module, count: int, fields: Mapping[str, Field]) -> dict[str, np.ndarray]:
        """Images (count, *stored shape) uint8, always of the same noise, so that steps can be compared."""
        gan: Any = network.model
        noise_BZ = torch.randn(count, gan.latent, generator=torch.Generator().manual_seed(0))
        training = network.training
        network.eval()
        with torch.no_grad():
            unit_BCHW = gan.generator(noise_BZ.to(gan.low_C.device)).float()
        network.train(training)
        return {gan.image: ((unit_BCHW + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu().numpy()}


class Judge(nn.Module):
    """What is compared of images: random projections of their pixels. Learns nothing.

    Also knows `low_C` and `high_C`, the values that the image field prepares of black and of white."""

    low_C: Tensor
    high_C: Tensor
    projection_PD: Tensor

    def __init__(self, field: Field) -> None:
        super().__init__()
        shape = field.layout.shape
        low, high = (field.prepare(torch.full((1, *shape), value, dtype=torch.uint8)) for value in (0, 255))
        self.pixels = shape[0] * shape[1] * shape[2]
        fixed = torch.Generator().manual_seed(0)
        projection_PD = torch.randn(self.pixels, _FEATURES, generator=fixed) / self.pixels**0.5
        for name, value in (
            ("low_C", low.float().mean((0, 2, 3))),
            ("high_C", high.float().mean((0, 2, 3))),
            ("projection_PD", projection_PD),
        ):
            self.register_buffer(name, value, persistent=False)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        real_BP, fake_BP, logit_B2 = features.split([self.pixels, self.pixels, 2], 1)
        real_BD, fake_BD = (images.float() @ self.projection_PD for images in (real_BP, fake_BP))
        return {"real": real_BD, "fake": fake_BD, "real_logit": logit_B2[:, 0], "fake_logit": logit_B2[:, 1]}


def _image(fields: Mapping[str, Field]) -> tuple[str, Field]:
    images = [(name, field) for name, field in fields.items() if field.layout.form == "image"]
    if len(images) != 1:
        listed = ", ".join(f"{name} ({field.layout.form})" for name, field in fields.items()) or "none"
        raise UserError(
            f"task adversarial wants one image field, the fields are: {listed}", "set the others to ignore"
        )
    return images[0]


def _named(network: nn.Module, prefix: str) -> list[tuple[str, Tensor]]:
    return [
        (name, p) for name, p in network.named_parameters() if name.startswith(prefix) and p.requires_grad
    ]
