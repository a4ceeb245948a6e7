"""regress: one number a row, or its quantiles.

    task: {kind: regress, target: price, objective: huber}
    task: {kind: regress, target: demand, objective: quantile, quantiles: [0.05, 0.5, 0.95]}

The loss is of scaled values, as the target's field stores them; metrics and answers are in raw units.
B rows, K members, U units (1, or the quantiles).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field as Setting
from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F

from modelworks.core.errors import UserError
from modelworks.core.field import Field, Layout
from modelworks.core.task import Batch, Meter, Task
from modelworks.layers.head import Head
from modelworks.metrics.regression import RegressionMeter
from modelworks.tasks._target import each_member, mixed, target_field

Share = Annotated[float, Setting(gt=0, lt=1)]


class Regress(Task):
    """A number."""

    target_kind: ClassVar[str] = "number"
    primary: ClassVar[str] = "rmse"
    minimise: ClassVar[bool] = True

    objective: Literal["mse", "mae", "huber", "quantile"] = "mse"
    """Loss: squared error; absolute error; Huber's, squared near zero and absolute beyond `delta`; or the
    pinball loss of `quantiles` (Koenker & Bassett 1978)."""
    delta: PositiveFloat = 1.0
    """Huber only: where it turns from squared to absolute, in units of the scaled target."""
    quantiles: list[Share] = Setting(default=[0.05, 0.5, 0.95], min_length=1)
    """Quantile only: which ones. The one nearest the middle is the prediction."""

    @classmethod
    def recognise(cls, target: Layout | None) -> float:
        return 0.9 if target is not None and target.form == "vector" and target.shape == (1,) else 0.0

    # ------------------------------------------------------------------ learning
    def head(self, width: int, members: int, fields: Mapping[str, Field]) -> nn.Module:
        field = target_field(self.target, fields, "vector", self.kind)
        if field.layout.shape != (1,):
            raise UserError(
                f"task {self.kind} learns one number a row, {self.target!r} gives {field.layout.shape[0]}",
                "for a number field set `missing: drop` and `indicator: false`",
            )
        return Head(width, len(self._shares) or 1, max(members, 1))

    @property
    def _shares(self) -> list[float]:
        return sorted(self.quantiles) if self.objective == "quantile" else []

    def loss(self, output: Tensor, batch: Batch) -> tuple[Tensor, int]:
        target_B = batch[self.target].reshape(len(batch[self.target]))
        return mixed(lambda target: self._rows(output, target), target_B, batch).sum(), len(target_B)

    def _rows(self, output: Tensor, target_B: Tensor) -> Tensor:
        """Loss of each row, (B,)."""
        output, target = each_member(
            output.float(), target_B.float().unsqueeze(-1), ensemble=output.dim() == 3
        )
        target = target.expand_as(output)
        if self.objective == "quantile":
            below = target - output
            share_U = output.new_tensor(self._shares)
            cost = torch.maximum(share_U * below, (share_U - 1) * below)
        elif self.objective == "huber":
            cost = F.huber_loss(output, target, reduction="none", delta=self.delta)
        else:
            cost = (F.mse_loss if self.objective == "mse" else F.l1_loss)(output, target, reduction="none")
        return cost.flatten(1).mean(1)

    # ------------------------------------------------------------------ learning from a teacher
    def lesson(self, output: Tensor, fields: Mapping[str, Field], ours: Mapping[str, Field]) -> Tensor:
        """Its number, or its quantiles, (B, U), as the student's field scales them."""
        output = output.float()
        output_BU = output.mean(1) if output.dim() == 3 else output
        theirs, own = fields[self.target], ours[self.target]
        if theirs.kind == own.kind and dict(theirs.state) == dict(own.state):
            return output_BU
        raw = _decoder(theirs)(output_BU.flatten().cpu().numpy())
        stored = own.encode(pa.array(np.asarray(raw, np.float64))).values
        return torch.from_numpy(stored.astype(np.float32)).view_as(output_BU).to(output_BU.device)

    def imitate(self, output: Tensor, lesson: Tensor, batch: Batch, temperature: float) -> Tensor:
        """Squared distance from the teacher's numbers, of each member (Ba & Caruana 2014, arXiv:1312.6184)."""
        if output.shape[-1] != lesson.shape[-1]:
            raise UserError(
                "train.distil: the teacher has other quantiles", "task.quantiles: as the teacher's"
            )

        def rows_B(lesson_BU: Tensor) -> Tensor:
            found, told = each_member(output.float(), lesson_BU, ensemble=output.dim() == 3)
            return (found - told).square().flatten(1).mean(1)

        return mixed(rows_B, lesson, batch).sum()

    # ------------------------------------------------------------------ answering
    def predict(self, output: Tensor) -> dict[str, Tensor]:
        output = output.float()
        output_BU = output.mean(1) if output.dim() == 3 else output
        if not self._shares:
            return {"prediction": output_BU[:, 0]}
        # Quantiles learned apart may cross; in order they are never worse (Chernozhukov et al. 2010).
        quantile_BU = output_BU.sort(-1).values
        return {"prediction": quantile_BU[:, self._middle], "quantile": quantile_BU}

    @property
    def _middle(self) -> int:
        return min(range(len(self._shares)), key=lambda index: abs(self._shares[index] - 0.5))

    def answer(
        self, predicted: Mapping[str, np.ndarray], fields: Mapping[str, Field]
    ) -> dict[str, list[Any]]:
        field = fields[self.target]
        columns = {"prediction": field.decode(predicted["prediction"])}
        for unit, share in enumerate(self._shares):
            columns[f"quantile_{share:g}"] = field.decode(predicted["quantile"][:, unit])
        return columns

    def meter(self, fields: Mapping[str, Field], bootstrap: int = 200, seed: int = 0) -> Meter:
        return RegressionMeter(self.target, self._shares, _decoder(fields[self.target]), bootstrap, seed)

    def baseline(self, fields: Mapping[str, Field], target: np.ndarray) -> dict[str, np.ndarray]:
        """The training mean, for squared errors; else the median or the quantiles asked for."""
        stored = np.sort(np.asarray(target, np.float64).reshape(-1))
        if self._shares:
            quantile_1U = np.quantile(stored, self._shares)[None].astype(np.float32)
            return {"prediction": quantile_1U[:, self._middle], "quantile": quantile_1U}
        if self.objective == "mse":
            # The mean of raw values, sought on the rising curve from stored to raw: a log scale bends it.
            raw = _decoder(fields[self.target])(stored)
            return {"prediction": np.interp([raw.mean()], raw, stored).astype(np.float32)}
        return {"prediction": np.array([np.median(stored)], np.float32)}


def _decoder(field: Field) -> Callable[[np.ndarray], np.ndarray]:
    return lambda stored: np.asarray(field.decode(stored), np.float64)
