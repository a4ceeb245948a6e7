"""instruct: a language model learns to answer: the next token of conversations, counted on the answers alone
(supervised fine-tuning, Ouyang et al. 2022, arXiv:2203.02155, section 3.4).

    modelworks train alpaca.json --task instruct --init runs/gpt

B rows, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field as Setting
from torch import Tensor, nn

from modelworks.core.field import Field
from modelworks.core.model import Features
from modelworks.core.task import Batch, Task, View
from modelworks.metrics.language import LanguageMeter
from modelworks.tasks._conversations import found_parts
from modelworks.tasks.language import Language, Scores


class Instruct(Task):
    """Answers to what was said before."""

    features: ClassVar[Features] = "next"
    target_kind: ClassVar[str] = "chat"
    self_supervised: ClassVar[bool] = True
    view: ClassVar[View] = "answers"
    primary: ClassVar[str] = "perplexity"
    minimise: ClassVar[bool] = True

    tied: bool = False
    """Read the next token off with the table that tokens are embedded with."""
    softcap: float | None = Setting(default=None, gt=0)
    """Bound of the logits, as in task language."""
    start: Literal["zeros", "normal"] = "zeros"
    """How a head of its own starts where training starts from nothing."""

    @classmethod
    def propose(cls, columns: Sequence[str]) -> dict[str, Any]:
        target, parts = found_parts(columns)
        field = {"kind": "chat", **({"parts": parts} if parts else {})}
        return {"target": target, "fields": {target: field}} if target else {}

    @property
    def _language(self) -> Language:
        return Language(target=self.target, tied=self.tied, softcap=self.softcap, start=self.start)

    def head(self, width: int, members: int, fields: Mapping[str, Field]) -> nn.Module:
        return self._language.head(width, members, fields)

    def connect(self, model: nn.Module, head: nn.Module) -> None:
        self._language.connect(model, head)

    def regime(self, rows: int) -> dict[str, Any]:
        return FINE

    def loss(self, output: Scores, batch: Batch) -> tuple[Tensor, Tensor]:
        return self._language.loss(output, batch)

    def measure(self, output: Scores, batch: Batch) -> dict[str, Tensor]:
        return self._language.measure(output, batch)

    def exported(self, network: Any, batch: Batch) -> dict[str, Tensor]:
        return {"logits": network.head.logits(network.model(batch))}

    def predict(self, output: Any) -> dict[str, Tensor]:
        return self._language.predict(output)

    def answer(
        self, predicted: Mapping[str, np.ndarray], fields: Mapping[str, Field]
    ) -> dict[str, list[Any]]:
        return self._language.answer(predicted, fields)

    def meter(self, fields: Mapping[str, Field], bootstrap: int = 200, seed: int = 0) -> LanguageMeter:
        return self._language.meter(fields, bootstrap, seed)

    def baseline(self, fields: Mapping[str, Field], target: np.ndarray) -> dict[str, np.ndarray]:
        tokens = np.asarray(target).reshape(-1)
        return self._language.baseline(fields, tokens[tokens > 0])  # rows are padded with 0

    def trivial(
        self, baseline: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        return self._language.trivial(baseline, batch)


FINE = {
    "epochs": 3.0,
    "batch_size": 16,
    "clip": 1.0,
    "optimizer": {"kind": "adamw", "lr": 1e-4, "weight_decay": 0.0},
    "schedule": {"kind": "cosine", "warmup": 0.03},
}
"""`train:` for a model that knows the language already."""
