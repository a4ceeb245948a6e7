"""classify: one of several classes, two or more.

    task: {kind: classify, target: species, class_weights: balanced, label_smoothing: 0.1}

An ensemble's loss is the mean of its members' own losses; its answer is the mean of their probabilities.
B rows, K members, C classes, U units (C, or 1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field as Setting
from pydantic import NonNegativeFloat, PositiveInt, PrivateAttr
from torch import Tensor, nn
from torch.nn import functional as F

from modelworks.core.errors import UserError, did_you_mean
from modelworks.core.field import Field, Layout
from modelworks.core.task import Batch, Meter, Task
from modelworks.layers.head import Head
from modelworks.metrics.classification import ClassificationMeter
from modelworks.tasks._target import UNKNOWN, each_member, mixed, named_weights, target_field

NEVER = -30.0
"""log p of a class that a teacher does not know of."""


class Classify(Task):
    """Binary and multi-class classification."""

    target_kind: ClassVar[str] = "category"
    primary: ClassVar[str] = "accuracy"

    objective: Literal["cross_entropy", "focal", "mse"] = "cross_entropy"
    """Loss: cross-entropy; focal, which counts easy rows less (Lin et al. 2017); or the mean over classes of
    the squared error of the probabilities."""
    units: Literal["auto", "one"] = "auto"
    """auto: one unit a class, softmax; one: a single sigmoid unit for two classes."""
    gamma: NonNegativeFloat = 2.0
    """Focal loss only: how fast easy rows lose weight; 0 is cross-entropy."""
    class_weights: Literal["none", "balanced"] | dict[str, NonNegativeFloat] = "none"
    """Weight of a row by its class: balanced is rows / (classes · rows of the class), whose mean is 1 over
    the training rows; or weights by class name, 1 where none is given. The loss is divided by the number of
    rows."""
    label_smoothing: float = Setting(default=0.0, ge=0, lt=1)
    """Share of the target spread evenly over all classes (Szegedy et al. 2016)."""
    threshold: float | None = Setting(default=None, gt=0, lt=1)
    """Two classes only: probability from which the second is predicted; None: the likelier class."""
    top_k: PositiveInt = 5
    """k of the top-k accuracy, where there are more classes than k."""

    _weight_C: Tensor | None = PrivateAttr(default=None)

    @classmethod
    def recognise(cls, target: Layout | None) -> float:
        return 0.9 if target is not None and target.form == "index" else 0.0

    # ------------------------------------------------------------------ learning
    def head(self, width: int, members: int, fields: Mapping[str, Field]) -> nn.Module:
        field = target_field(self.target, fields, "index", self.kind)
        classes = field.layout.size
        if classes < 2:
            raise UserError(
                f"{self.target!r} has {classes} class in the training split", "there must be two at least"
            )
        if classes != 2 and (self.units == "one" or self.threshold is not None):
            setting = "units: one" if self.units == "one" else "threshold"
            raise UserError(
                f"task.{setting} is for two classes, {self.target!r} has {classes}", "leave it out"
            )
        weights = _class_weights(self.class_weights, field)
        self._weight_C = None if weights is None else torch.tensor(weights)
        return Head(width, 1 if self.units == "one" else classes, max(members, 1))

    def loss(self, output: Tensor, batch: Batch) -> tuple[Tensor, int]:
        assert self._weight_C is not None or self.class_weights == "none", "head() learns the class weights"
        target_B = batch[self.target]
        return mixed(lambda target_B: self._rows(output, target_B), target_B, batch).sum(), len(target_B)

    def _rows(self, output: Tensor, target_B: Tensor) -> Tensor:
        """Loss of each row, (B,)."""
        output, target = each_member(output.float(), target_B, ensemble=output.dim() == 3)
        weight_C = None if self._weight_C is None else self._weight_C.to(output)
        if self.objective == "cross_entropy" and self.units == "auto":
            smoothing, flat = self.label_smoothing, target.reshape(-1)
            logits = output.reshape(-1, output.shape[-1])
            rows = F.cross_entropy(logits, flat, weight_C, reduction="none", label_smoothing=smoothing)
            rows = rows.view_as(target)
        else:
            rows = self._unfused(self._log_probability(output), target, weight_C)
        return rows.mean(1) if rows.dim() == 2 else rows

    def _unfused(self, log_p: Tensor, target: Tensor, weight_C: Tensor | None) -> Tensor:
        classes = log_p.shape[-1]
        wanted = F.one_hot(target, classes).to(log_p.dtype)
        wanted = wanted * (1 - self.label_smoothing) + self.label_smoothing / classes
        if self.objective == "mse":
            rows = (log_p.exp() - wanted).square().mean(-1)
            return rows if weight_C is None else rows * weight_C[target]
        # The smoothed part of each class has that class's weight, as in torch's cross_entropy.
        cost = -log_p * wanted * (1.0 if weight_C is None else weight_C)
        if self.objective == "focal":
            # The floor keeps the gradient of 0 ** gamma finite where a row is learned to the last bit.
            cost = cost * (-torch.expm1(log_p)).clamp_min(1e-12) ** self.gamma
        return cost.sum(-1)

    def _log_probability(self, output: Tensor) -> Tensor:
        """(…, U) → (…, C)."""
        output = output.float()  # a softmax in half precision loses small probabilities
        if self.units == "one":
            return torch.cat([F.logsigmoid(-output), F.logsigmoid(output)], -1)
        return F.log_softmax(output, -1)

    # ------------------------------------------------------------------ learning from a teacher
    def lesson(self, output: Tensor, fields: Mapping[str, Field], ours: Mapping[str, Field]) -> Tensor:
        """log p of each class (B, C), of an ensemble its mean's, in the order of the student's classes."""
        log_p = self._log_probability(output)
        log_p_BC = log_p.logsumexp(1) - math.log(log_p.shape[1]) if log_p.dim() == 3 else log_p
        known, wanted = class_labels(fields[self.target]), class_labels(ours[self.target])
        if known == wanted:
            return log_p_BC
        missing = [label for label in wanted if label not in known and label != UNKNOWN]
        if missing:
            raise UserError(
                f"train.distil: the teacher does not know the class {missing[0]!r}",
                did_you_mean(missing[0], known),
            )
        none = log_p_BC.new_full(log_p_BC.shape[:1], NEVER)
        columns = [log_p_BC[:, known.index(label)] if label in known else none for label in wanted]
        return torch.stack(columns, 1).log_softmax(1)

    def imitate(self, output: Tensor, lesson: Tensor, batch: Batch, temperature: float) -> Tensor:
        """T² · KL(softmax(teacher / T) ‖ softmax(student / T)), of each member (Hinton et al. 2015, section 2.1)."""
        log_q = (self._log_probability(output) / temperature).log_softmax(-1)

        def rows_B(lesson_BC: Tensor) -> Tensor:
            log_p_BC = (lesson_BC / temperature).log_softmax(-1)
            _, log_p = each_member(log_q, log_p_BC, ensemble=log_q.dim() == 3)
            rows = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
            return rows.mean(1) if rows.dim() == 2 else rows

        return temperature**2 * mixed(rows_B, lesson, batch).sum()

    # ------------------------------------------------------------------ answering
    def predict(self, output: Tensor) -> dict[str, Tensor]:
        probability = self._log_probability(output).exp()
        probability_BC = probability.mean(1) if probability.dim() == 3 else probability
        if self.threshold is None:
            return {"prediction": probability_BC.argmax(-1), "probability": probability_BC}
        return {"prediction": (probability_BC[:, 1] >= self.threshold).long(), "probability": probability_BC}

    def answer(
        self, predicted: Mapping[str, np.ndarray], fields: Mapping[str, Field]
    ) -> dict[str, list[Any]]:
        field = fields[self.target]
        columns = {"prediction": field.decode(predicted["prediction"])}
        for code, label in enumerate(class_labels(field)):
            columns[f"probability_{label}"] = predicted["probability"][:, code].tolist()
        return columns

    def meter(self, fields: Mapping[str, Field], bootstrap: int = 200, seed: int = 0) -> Meter:
        return ClassificationMeter(
            self.target, class_labels(fields[self.target]), self.top_k, bootstrap, seed
        )

    def baseline(self, fields: Mapping[str, Field], target: np.ndarray) -> dict[str, np.ndarray]:
        """The commonest class, with the training frequencies as probabilities."""
        counts_C = np.bincount(
            np.asarray(target).reshape(-1).astype(np.int64), minlength=fields[self.target].layout.size
        )
        share_C = (counts_C / max(counts_C.sum(), 1)).astype(np.float32)
        return {"prediction": share_C.argmax(keepdims=True), "probability": share_C[None]}


def class_labels(field: Field) -> list[str]:
    """The name of each code."""
    return [UNKNOWN if label is None else str(label) for label in field.decode(np.arange(field.layout.size))]


def _class_weights(wanted: str | Mapping[str, float], field: Field) -> list[float] | None:
    labels = class_labels(field)
    if isinstance(wanted, Mapping):
        return named_weights(wanted, labels, "task.class_weights")
    if wanted == "none":
        return None
    known = field.state.get("counts")
    if known is None:
        raise UserError(
            f"task.class_weights: the field {field.kind} does not count its classes",
            "give weights by class name",
        )
    # Counts are of the categories; a class that stands for unknown values has none, and no rows to weigh.
    remaining = iter(np.asarray(known, np.float64).tolist())
    counts = [
        0.0 if label == UNKNOWN and len(known) < len(labels) else next(remaining, 0.0) for label in labels
    ]
    present = sum(count > 0 for count in counts)
    return [sum(counts) / (present * count) if count else 1.0 for count in counts]
