"""prefer: of two answers the better one (direct preference optimisation, Rafailov et al. 2023, arXiv:2305.18290).

    modelworks train pairs.json --task prefer --init runs/assistant

The loss is −log σ(β·(log π(c)/π₀(c) − log π(r)/π₀(r))) for the chosen c and the rejected r; π₀ is the model that
training starts from, whose log-probabilities are taken once, before the first step.
Batches hold the chosen conversations first, then the rejected ones. B pairs, N = 2B rows, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field as Setting
from torch import Tensor, nn
from torch.nn import functional as F

from modelworks.core.errors import UserError
from modelworks.core.field import Field
from modelworks.core.model import Features
from modelworks.core.task import Batch, Task, View
from modelworks.layers.linear_cross_entropy import linear_nll_grad
from modelworks.metrics.preference import PreferenceMeter
from modelworks.tasks._conversations import asked_parts
from modelworks.tasks.language import Language, Scores


class Prefer(Task):
    """Chosen over rejected answers."""

    features: ClassVar[Features] = "next"
    target_kind: ClassVar[str] = "chat"
    self_supervised: ClassVar[bool] = True
    view: ClassVar[View] = "pairs"
    primary: ClassVar[str] = "accuracy"

    rejected: str = "rejected"
    """The field of the worse answer; the target is the better one."""
    beta: float = Setting(default=0.1, gt=0)
    """How strongly the model is held to the one that it starts from."""
    smoothing: float = Setting(default=0.0, ge=0, lt=0.5)
    """Share of the pairs that are taken to be the wrong way round (conservative DPO, Mitchell 2023)."""
    tied: bool = False
    """Read the next token off with the table that tokens are embedded with."""
    softcap: float | None = Setting(default=None, gt=0)
    """Bound of the logits, as in task language."""

    @classmethod
    def propose(cls, columns: Sequence[str]) -> dict[str, Any]:
        if "chosen" not in columns or "rejected" not in columns:
            return {}
        asked = asked_parts(columns)
        fields = {
            name: {
                "kind": "chat",
                "answers": "last",
                **({"parts": {**asked, name: "assistant"}} if asked else {}),
            }
            for name in ("chosen", "rejected")
        }
        return {"target": "chosen", "fields": fields}

    @property
    def _language(self) -> Language:
        return Language(target=self.target, tied=self.tied, softcap=self.softcap)

    def head(self, width: int, members: int, fields: Mapping[str, Field]) -> nn.Module:
        better, worse = fields[self.target], fields.get(self.rejected)
        if worse is None or worse.layout.size != better.layout.size:
            raise UserError(
                f"task prefer: {self.target!r} and {self.rejected!r} want the same tokens",
                "start from a model that has learned the language: init: RUN",
            )
        return self._language.head(width, members, fields)

    def connect(self, model: nn.Module, head: nn.Module) -> None:
        self._language.connect(model, head)

    def regime(self, rows: int) -> dict[str, Any]:
        return {
            "epochs": 1.0,
            "batch_size": 8,
            "clip": 1.0,
            "optimizer": {"kind": "adamw", "lr": 1e-5, "weight_decay": 0.0},
            "schedule": {"kind": "cosine", "warmup": 0.1},
        }

    def refer(self, output: Scores, batch: Batch) -> Tensor:
        """log π of the chosen and the rejected answer of each pair, (B, 2)."""
        next_NT = batch[f"{self.target}.next"]
        nll = linear_nll_grad(
            output.features.flatten(0, -2), output.weight_VD, next_NT.flatten(), output.softcap
        )
        return -nll.view_as(next_NT).sum(1).view(2, -1).T

    def rewards(self, output: Scores, batch: Batch) -> Tensor:
        """β·log π/π₀ of both answers of each pair, (B, 2)."""
        return self.beta * (self.refer(output, batch) - batch[f"{self.target}.reference"])

    def loss(self, output: Scores, batch: Batch) -> tuple[Tensor, int]:
        rewards_B2 = self.rewards(output, batch)
        margin_B = rewards_B2[:, 0] - rewards_B2[:, 1]
        lost_B = -(1 - self.smoothing) * F.logsigmoid(margin_B) - self.smoothing * F.logsigmoid(-margin_B)
        return lost_B.sum(), len(lost_B)

    def measure(self, output: Scores, batch: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            return {"rewards": self.rewards(output, batch)}

    def exported(self, network: Any, batch: Batch) -> dict[str, Tensor]:
        return {"logits": network.head.logits(network.model(batch))}

    def predict(self, output: Any) -> dict[str, Tensor]:
        return self._language.predict(output)

    def answer(
        self, predicted: Mapping[str, np.ndarray], fields: Mapping[str, Field]
    ) -> dict[str, list[Any]]:
        return self._language.answer(predicted, fields)

    def meter(self, fields: Mapping[str, Field], bootstrap: int = 200, seed: int = 0) -> PreferenceMeter:
        return PreferenceMeter(bootstrap, seed)

    def baseline(self, fields: Mapping[str, Field], target: np.ndarray) -> dict[str, np.ndarray]:
        """The model that training starts from: neither answer is preferred."""
        return {"rewards": np.zeros((1, 2))}
