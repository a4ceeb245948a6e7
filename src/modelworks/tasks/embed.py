"""embed: a vector for each text, so that like texts lie close; learned from the texts alone.

    modelworks train reviews.jsonl --task embed --target text

Two views of a text should find one another among the batch's other texts (InfoNCE, van den Oord et al. 2018). Views are
the same text under two dropouts (SimCSE, Gao et al. 2021, arXiv:2104.08821) or two random pieces of it (Contriever,
Izacard et al. 2022). Measured with the halves of each text: the first looks for its second.
B rows, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field as Setting
from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F

from modelworks.core.errors import UserError
from modelworks.core.field import Field
from modelworks.core.model import Features
from modelworks.core.task import Batch, Player, Task
from modelworks.metrics.embedding import EmbeddingMeter


class Embed(Task):
    """Contrastive embedding of texts."""

    features: ClassVar[Features] = "row"
    target_kind: ClassVar[str] = "text"
    self_supervised: ClassVar[bool] = True
    primary: ClassVar[str] = "recall_at_1"

    views: Literal["crop", "dropout"] = "crop"
    """What two views of a text are: random pieces of it, or the whole under two dropouts (the model needs some)."""
    least: float = Setting(default=0.1, gt=0, le=1)
    """views: crop: shortest piece, as a share of the text."""
    most: float = Setting(default=0.5, gt=0, le=1)
    """views: crop: longest piece."""
    temperature: PositiveFloat = 0.05
    """What cosines are divided by."""
    projection: bool = True
    """A layer with tanh behind the vector in training alone, as in SimCSE."""

    # ------------------------------------------------------------------ learning
    def head(self, width: int, members: int, fields: Mapping[str, Field]) -> nn.Module:
        if members > 1:
            raise UserError("task embed wants one network, not an ensemble", "choose `kind: transformer`")
        if fields[self.target].layout.form != "tokens":
            raise UserError(f"task embed learns texts, {self.target!r} is a {fields[self.target].kind}")
        if self.least > self.most:
            raise UserError(f"task.least {self.least} is more than task.most {self.most}", "least ≤ most")
        return Projection(width, self.projection)

    def forward(self, network: nn.Module, batch: Batch) -> Vectors:
        """Both views of each row; of rows without a number, which are asked about, one vector of the whole."""
        if not network.training and "row" not in batch:
            return Vectors(F.normalize(network(batch), dim=-1), None)
        return self._pairs(network, batch)

    def _pairs(self, network: nn.Module, batch: Batch) -> Vectors:
        tokens_BT, length_B = batch[self.target], batch[f"{self.target}.length"]
        if not network.training:
            half_B = (length_B + 1) // 2
            starts = (torch.zeros_like(half_B), torch.minimum(half_B, (length_B - 1).clamp(min=0)))
            lengths = (half_B, (length_B - half_B).clamp(min=1))
        elif self.views == "dropout":
            starts, lengths = (torch.zeros_like(length_B),) * 2, (length_B,) * 2
        else:
            crops = [self._crop(length_B) for _ in range(2)]
            starts, lengths = tuple(crop[0] for crop in crops), tuple(crop[1] for crop in crops)
        pieces = [piece(tokens_BT, *where) for where in zip(starts, lengths, strict=True)]
        both = {self.target: torch.cat(pieces), f"{self.target}.length": torch.cat(lengths)}
        first, second = F.normalize(network(both), dim=-1).chunk(2)
        return Vectors(first, second)

    def _crop(self, length_B: Tensor) -> tuple[Tensor, Tensor]:
        """(start, length) of a random piece of each row."""
        share_B, place_B = torch.rand(2, len(length_B), device=length_B.device)
        share_B = self.least + (self.most - self.least) * share_B
        kept_B = (share_B * length_B).round().to(torch.int64).clamp(min=1)
        return (place_B * (length_B - kept_B + 1)).to(torch.int64).clamp(min=0), kept_B

    def players(self, network: nn.Module) -> tuple[Player, ...]:
        named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        return (Player("model", named, lambda batch: self.loss(self._pairs(network, batch), batch)),)

    def loss(self, output: Vectors, batch: Batch) -> tuple[Tensor, int]:
        assert output.second_BD is not None
        score_BB = output.first_BD.float() @ output.second_BD.float().T / self.temperature
        own_B = torch.arange(len(score_BB), device=score_BB.device)
        return F.cross_entropy(score_BB, own_B, reduction="sum"), len(score_BB)

    # ------------------------------------------------------------------ answering
    def measure(self, output: Vectors, batch: Batch) -> dict[str, Tensor]:
        assert output.second_BD is not None
        return {"first": output.first_BD, "second": output.second_BD}

    def predict(self, output: Vectors) -> dict[str, Tensor]:
        return {"prediction": output.first_BD}

    def answer(
        self, predicted: Mapping[str, np.ndarray], fields: Mapping[str, Field]
    ) -> dict[str, list[Any]]:
        """A unit vector for each row; the cosine of two texts is the sum of products."""
        return {"prediction": predicted["prediction"].tolist()}

    def meter(self, fields: Mapping[str, Field], bootstrap: int = 200, seed: int = 0) -> EmbeddingMeter:
        return EmbeddingMeter(bootstrap, seed)

    def baseline(self, fields: Mapping[str, Field], target: np.ndarray) -> dict[str, np.ndarray]:
        """One vector for all: chance."""
        return {"first": np.ones((1, 1), np.float32), "second": np.ones((1, 1), np.float32)}


def piece(tokens_BT: Tensor, start_B: Tensor, length_B: Tensor) -> Tensor:
    """The tokens from `start` on, `length` of them, padded with 0. As wide as the rows."""
    step_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
    place_BT = (start_B[:, None] + step_T).clamp(max=tokens_BT.shape[1] - 1)
    return tokens_BT.gather(1, place_BT) * (step_T < length_B[:, None])


class Projection(nn.Module):
    """A layer that is there in training alone."""

    def __init__(self, width: int, wanted: bool) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width) if wanted else None

    def forward(self, features_BD: Tensor) -> Tensor:
        if self.dense is None or not self.training:
            return features_BD
        return torch.tanh(self.dense(features_BD))


@dataclass(frozen=True)
class Vectors:
    """Unit vectors."""

    first_BD: Tensor
    second_BD: Tensor | None
