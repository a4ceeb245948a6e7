"""What the supervised tasks ask of the field that they learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from modelworks.core.errors import UserError, did_you_mean
from modelworks.core.field import Field

UNKNOWN = "unknown"
"""Name of a class that stands for unknown or missing values."""


def target_field(target: str, fields: Mapping[str, Field], form: str, kind: str) -> Field:
    """The field to learn; refuses one of another form."""
    if target not in fields:
        raise UserError(f"task.target: there is no field {target!r}", did_you_mean(target, fields))
    field = fields[target]
    if field.layout.form != form:
        raise UserError(
            f"task {kind} learns {form} fields, {target!r} is a {field.kind} ({field.layout.form})",
            "choose another task, or another kind for the field",
        )
    return field


def named_weights(
    weights: Mapping[str, float], labels: Sequence[str], setting: str, default: float = 1.0
) -> list[float]:
    """Weights by label in the labels' order; refuses a name that is no label."""
    for name in weights:
        if name not in labels:
            raise UserError(f"{setting}: there is no label {name!r}", did_you_mean(name, labels))
    return [float(weights.get(label, default)) for label in labels]


def mixed(rows_B: Callable[[Tensor], Tensor], target: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Loss of each row, or the mean of the losses against both targets where rows were mixed
    (Zhang et al. 2018, "mixup")."""
    partner_B = batch.get("mix.partner")
    if partner_B is None:
        return rows_B(target)
    weight_B = batch["mix.weight"]
    return weight_B * rows_B(target) + (1 - weight_B) * rows_B(target[partner_B])


def each_member(output: Tensor, target: Tensor, ensemble: bool) -> tuple[Tensor, Tensor]:
    """(output, target) with the same leading axes: the target stands once for each member of an ensemble."""
    if not ensemble:
        return output, target
    return output, target.unsqueeze(1).expand(target.shape[0], output.shape[1], *target.shape[1:])
