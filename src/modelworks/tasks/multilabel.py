"""multilabel: any number of tags a row, each learned by a sigmoid unit of its own.

    task: {kind: multilabel, target: genres, pos_weight: {documentary: 5}}

B rows, K members, L labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field as Setting
from pydantic import PositiveFloat, PrivateAttr
from torch import Tensor, nn
from torch.nn import functional as F

from modelworks.core.field import Field, Layout
from modelworks.core.task import Batch, Meter, Task
from modelworks.layers.head import Head
from modelworks.metrics.multilabel import MultilabelMeter
from modelworks.tasks._target import each_member, mixed, named_weights, target_field


class Multilabel(Task):
    """Which of the labels a row has."""

    target_kind: ClassVar[str] = "tags"
    primary: ClassVar[str] = "f1_micro"

    pos_weight: PositiveFloat | dict[str, PositiveFloat] = 1.0
    """Weight of a label's presence against its absence; by label name, 1 where none is given. Above 1 finds
    more of rare labels."""
    label_smoothing: float = Setting(default=0.0, ge=0, lt=1)
    """How far targets are drawn from 0 and 1 towards 1/2."""
    threshold: float = Setting(default=0.5, gt=0, lt=1)
    """Probability from which a label is predicted."""

    _weight_L: Tensor | None = PrivateAttr(default=None)

    @classmethod
    def recognise(cls, target: Layout | None) -> float:
        return 0.9 if target is not None and target.form == "multihot" else 0.0

    # ------------------------------------------------------------------ learning
    def head(self, width: int, members: int, fields: Mapping[str, Field]) -> nn.Module:
        field = target_field(self.target, fields, "multihot", self.kind)
        if isinstance(self.pos_weight, Mapping):
            self._weight_L = torch.tensor(named_weights(self.pos_weight, tag_names(field), "task.pos_weight"))
        return Head(width, field.layout.size, max(members, 1))

    def loss(self, output: Tensor, batch: Batch) -> tuple[Tensor, int]:
        """Binary cross-entropy, averaged over labels and members, summed over rows."""
        target_BL = batch[self.target]
        return mixed(lambda target: self._rows(output, target), target_BL, batch).sum(), len(target_BL)

    def _rows(self, output: Tensor, target_BL: Tensor) -> Tensor:
        logits, target = each_member(output.float(), target_BL.float(), ensemble=output.dim() == 3)
        target = target * (1 - self.label_smoothing) + self.label_smoothing / 2
        weight = self.pos_weight
        if isinstance(weight, Mapping):
            assert self._weight_L is not None, "head() learns the weights"
            weight = self._weight_L.to(logits)
        else:
            weight = None if weight == 1.0 else logits.new_tensor(weight)
        cost = F.binary_cross_entropy_with_logits(logits, target, reduction="none", pos_weight=weight)
        return cost.flatten(1).mean(1)

    # ------------------------------------------------------------------ answering
    def predict(self, output: Tensor) -> dict[str, Tensor]:
        probability = torch.sigmoid(output.float())
        probability_BL = probability.mean(1) if probability.dim() == 3 else probability
        return {
            "prediction": (probability_BL >= self.threshold).to(torch.uint8),
            "probability": probability_BL,
        }

    def answer(
        self, predicted: Mapping[str, np.ndarray], fields: Mapping[str, Field]
    ) -> dict[str, list[Any]]:
        field = fields[self.target]
        columns: dict[str, list[Any]] = {"prediction": field.decode(predicted["prediction"])}
        for code, label in enumerate(tag_names(field)):
            columns[f"probability_{label}"] = predicted["probability"][:, code].tolist()
        return columns

    def meter(self, fields: Mapping[str, Field], bootstrap: int = 200, seed: int = 0) -> Meter:
        return MultilabelMeter(self.target, tag_names(fields[self.target]), bootstrap, seed)

    def baseline(self, fields: Mapping[str, Field], target: np.ndarray) -> dict[str, np.ndarray]:
        """Each label with its frequency in training."""
        share_1L = np.asarray(target, np.float32).mean(0, keepdims=True)
        return {"prediction": (share_1L >= self.threshold).astype(np.uint8), "probability": share_1L}


def tag_names(field: Field) -> list[str]:
    """The name of each label: what a row with that label alone decodes to."""
    return [str(names[0]) for names in field.decode(np.eye(field.layout.size, dtype=np.uint8))]
