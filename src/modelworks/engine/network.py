"""Network: an architecture and a task's head, as one module from prepared batch to output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from modelworks.core.field import Field
from modelworks.core.model import Model
from modelworks.core.task import Batch, Task


class Network(nn.Module):
    """`network(batch)` → output of the task's head."""

    def __init__(self, model: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.model, self.head = model, head

    def forward(self, batch: Batch) -> Tensor:
        return self.head(self.model(batch))


def build(model: Model, task: Task, fields: Mapping[str, Field], seed: int) -> Network:
    """The network of fitted fields, initialised from `seed` alone."""
    inputs = {name: field.layout for name, field in task.inputs(fields).items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body: Any = model.build(inputs, task.features)
        head = task.head(body.width, getattr(body, "members", 0), fields)
        task.connect(body, head)
    return Network(body, head)


def prepare_batch(
    stored: Mapping[str, Tensor],
    fields: Mapping[str, Field],
    device: torch.device,
    generator: torch.Generator | None = None,
    channels_last: bool = False,
) -> dict[str, Tensor]:
    """Stored values → what the layouts promise. With a generator, training augmentation comes first."""
    batch: dict[str, Tensor] = {}
    for name, values in stored.items():
        if values.device != device:
            values = values.to(device, non_blocking=True)
        field = fields.get(name)
        if field is None:  # row numbers, lengths
            batch[name] = values
            continue
        if generator is not None:
            values = field.augment(values, generator)
        values = field.prepare(values)
        if generator is not None:
            values, partner, weight = field.mix(values, generator)
            if partner is not None and weight is not None:
                batch["mix.partner"], batch["mix.weight"] = partner, weight
            values = field.augment_prepared(values, generator)
        if channels_last and values.dim() == 4:
            values = values.contiguous(memory_format=torch.channels_last)
        batch[name] = values
    return batch
