"""language: the next token of a text (Radford et al. 2018), learned from the text alone.

    modelworks train poems.txt --task language

B rows, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field as Setting
from torch import Tensor, nn

from modelworks.core.errors import UserError
from modelworks.core.field import Field
from modelworks.core.model import Features
from modelworks.core.task import Batch, Task
from modelworks.layers.linear_cross_entropy import (
    linear_cross_entropy,
    linear_divergence,
    linear_nll,
    logits,
)
from modelworks.metrics.language import LanguageMeter


class Language(Task):
    """Next-token prediction."""

    features: ClassVar[Features] = "next"
    target_kind: ClassVar[str] = "corpus"
    self_supervised: ClassVar[bool] = True
    packed: ClassVar[bool] = True
    primary: ClassVar[str] = "perplexity"
    minimise: ClassVar[bool] = True

    tied: bool = False
    """Read the next token off with the table that tokens are embedded with (Press & Wolf 2017)."""
    softcap: float | None = Setting(default=None, gt=0)
    """Bound of the logits, c·tanh(z/c) (Gemma 2)."""
    balance: float = Setting(default=0.01, ge=0)
    """Weight of the experts' load-balancing loss, of models that have experts (Fedus et al. 2021)."""
    documents: bool = False
    """Keep the documents within a window apart: attention does not cross an end token, and positions begin anew. For
    texts much shorter than the context, such as poems; it costs the fastest attention kernel."""
    start: Literal["zeros", "normal"] = "zeros"
    """How the head's own table starts: zeros say that every token is equally likely; normal is N(0, 0.02²)."""

    @classmethod
    def architecture(cls) -> dict[str, Any]:
        # What transformers' Qwen3 class and llama.cpp can express, so that a Run has a home in both
        # (docs/decisions/0010). Three matrices of 2.5 widths weigh a little less than two of 4, and
        # keep multiples of 32, which kernels and quantised formats want.
        return {
            "kind": "transformer",
            "positions": "rope",
            "normalisation": "rms",
            "bias": False,
            "qk_norm": True,
            "gated": True,
            "activation": "silu",
            "ratio": 2.5,
            "dropout": 0.0,
            "zero_residual": True,
        }

    def regime(self, rows: int) -> dict[str, Any]:
        return {
            "batch_size": 16,
            "optimizer": {
                "kind": "muon",
                "lr": 0.02,
                "scale": "original",
                "momentum": 0.9,
                "adamw_lr": 0.01,
                "weight_decay": 0.0,
            },
            "schedule": {"kind": "wsd", "decay": 0.5, "shape": "linear"},
            "clip": 1.0,
        }

    def head(self, width: int, members: int, fields: Mapping[str, Field]) -> nn.Module:
        if members > 1:
            raise UserError("task language wants one network, not an ensemble", "choose `kind: transformer`")
        return Head(width, fields[self.target].layout.size, self.tied, self.softcap, self.start)

    def connect(self, model: nn.Module, head: nn.Module) -> None:
        if self.documents and not getattr(model, "documents", False):
            raise UserError(
                "task.documents: this model cannot keep documents apart", "model.kind: transformer"
            )
        if not self.tied or not isinstance(head, Head):
            return
        table: Any = getattr(model, "embedding", None)
        if not isinstance(table, nn.Embedding) or table.weight.shape[1] != model.width:
            raise UserError("this model has no table of tokens to tie the head to", "set task.tied: false")
        head.tie(table)

    def forward(self, network: nn.Module, batch: Batch) -> Scores:
        scores = network(batch)
        balance = getattr(network.model, "balance", None) if network.training else None
        return scores if balance is None else replace(scores, balance=balance)

    def loss(self, output: Scores, batch: Batch) -> tuple[Tensor, Tensor]:
        next_N = batch[f"{self.target}.next"].flatten()
        x_ND = output.features.flatten(0, -2)
        total = linear_cross_entropy(x_ND, output.weight_VD, next_N, output.softcap)
        count = (next_N >= 0).sum()
        if output.balance is not None:
            total = total + self.balance * count * output.balance
        return total, count

    def lesson(self, output: Scores, fields: Mapping[str, Field], ours: Mapping[str, Field]) -> Scores:
        """What its logits are made of: whole, they would fill memory."""
        return output

    def imitate(self, output: Scores, lesson: Scores, batch: Batch, temperature: float) -> Tensor:
        """T² · KL(softmax(teacher / T) ‖ softmax(student / T)), over the tokens that count."""
        return temperature**2 * linear_divergence(
            (output.features.flatten(0, -2), output.weight_VD, output.softcap),
            (lesson.features.flatten(0, -2), lesson.weight_VD, lesson.softcap),
            batch[f"{self.target}.next"].flatten() >= 0,
            temperature,
        )

    def measure(self, output: Scores, batch: Batch) -> dict[str, Tensor]:
        next_BT = batch[f"{self.target}.next"]
        x_ND = output.features.flatten(0, -2)
        nll_N = linear_nll(x_ND, output.weight_VD, next_BT.flatten(), output.softcap)
        return {"nll": nll_N.view_as(next_BT), "next": next_BT}

    def exported(self, network: Any, batch: Batch) -> dict[str, Tensor]:
        return {"logits": network.head.logits(network.model(batch))}

    def predict(self, output: Any) -> dict[str, Tensor]:
        raise UserError("a language model goes on with a text", "modelworks generate RUN --prompt TEXT")

    def answer(
        self, predicted: Mapping[str, np.ndarray], fields: Mapping[str, Field]
    ) -> dict[str, list[Any]]:
        raise UserError("a language model goes on with a text", "modelworks generate RUN --prompt TEXT")

    def meter(self, fields: Mapping[str, Field], bootstrap: int = 200, seed: int = 0) -> LanguageMeter:
        return LanguageMeter(fields[self.target].state["bytes"], bootstrap, seed)

    def baseline(self, fields: Mapping[str, Field], target: np.ndarray) -> dict[str, np.ndarray]:
        """How often each token comes in training; one not seen counts as seen half a time."""
        counts_V = np.bincount(np.asarray(target).reshape(-1), minlength=fields[self.target].layout.size)
        share_V = np.maximum(counts_V, 0.5)
        return {"nll": -np.log(share_V / share_V.sum())}

    def trivial(
        self, baseline: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        next_BT = batch[f"{self.target}.next"]
        return {"nll": baseline["nll"][np.maximum(next_BT, 0)], "next": next_BT}


@dataclass(frozen=True)
class Scores:
    """What the head gives: logits not yet computed, for a large vocabulary's would fill memory."""

    features: Tensor
    """(B, T, D)"""
    weight_VD: Tensor
    softcap: float | None
    balance: Tensor | None = None
    """Of the model's experts, in training."""


class Head(nn.Module):
    """Features → scores of the next token; `logits` where they are wanted whole."""

    def __init__(self, width: int, size: int, tied: bool, softcap: float | None, start: str) -> None:
        super().__init__()
        self.softcap = softcap
        self._tied: list[nn.Embedding] = []
        self.weight = None if tied else nn.Parameter(torch.zeros(size, width))
        if self.weight is not None and start == "normal":
            nn.init.normal_(self.weight, std=0.02)

    def tie(self, table: nn.Embedding) -> None:
        """Share the model's token table; it stays the model's, so that it is stored once."""
        self._tied = [table]  # within a list, for a module would count as a part of this one

    @property
    def table_VD(self) -> Tensor:
        return self._tied[0].weight if self.weight is None else self.weight

    def forward(self, features: Tensor) -> Scores:
        return Scores(features, self.table_VD, self.softcap)

    def logits(self, features: Tensor) -> Tensor:
        """(…, D) → float32 (…, V)."""
        return logits(features, self.table_VD, self.softcap)
