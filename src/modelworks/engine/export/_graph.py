"""A Run's network as one function of arrays: what its fields store goes in, what its task says comes out.

    graph = Graph(predictor)
    outputs = graph(*graph.feeds(batch).values())      # uint8 pictures, int64 ids and lengths, float32 numbers
    program = graph.trace(example)                     # a torch.export program with dynamic batch and length

`Field.prepare` (normalisation, spectrograms) is part of it. B rows, T steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modelworks.core.errors import UserError
from modelworks.core.field import Field
from modelworks.engine.network import prepare_batch
from modelworks.engine.predictor import Predictor
from modelworks.layers.integer import IntegerConv, IntegerLinear

BATCH = "batch"
NOISE = "noise"
_KEPT = ("uint8", "int16", "float32")
"""Stored types that stay what they are; other whole numbers are int64, which every runtime has."""


@dataclass(frozen=True)
class Port:
    """What goes in or comes out."""

    name: str
    dtype: str
    """numpy's name."""
    shape: tuple[int | str, ...]
    """Sizes; a text names one that may differ from call to call."""


class Graph(nn.Module):
    """`graph(*arrays)` → arrays, in the orders of `inputs` and `names`."""

    def __init__(self, predictor: Predictor, example: Mapping[str, np.ndarray]) -> None:
        """`example`: a few rows as `stored_rows` gives them."""
        super().__init__()
        self.network, self.task = predictor.network.eval().requires_grad_(False), predictor.task
        self.fields: dict[str, Field] = graph_fields(predictor)
        self.inputs = tuple(
            Port(name, str(array.dtype), self._shape(name, array))
            for name, array in self.feeds(example).items()
        )
        self.integer = any(isinstance(m, (IntegerLinear, IntegerConv)) for m in self.network.modules())
        # Once as usual: what is made at first use must not be recorded as made anew.
        self.names = tuple(self.said(example))

    def _shape(self, name: str, array: np.ndarray) -> tuple[int | str, ...]:
        ragged = name in self.fields and self.fields[name].layout.ragged
        return (BATCH, steps_of(name), *array.shape[2:]) if ragged else (BATCH, *array.shape[1:])

    def feeds(self, stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A batch of stored arrays as the graph takes it: the inputs alone, in their types."""
        wanted = {}
        for name in self.fields:
            wanted[name] = _plain(stored[name], self.fields[name].layout.form)
            if self.fields[name].layout.ragged and not self._past_alone(name):
                wanted[f"{name}.length"] = stored[f"{name}.length"].astype(np.int64)
        return wanted if self.fields else {NOISE: stored[NOISE]}

    def _past_alone(self, name: str) -> bool:
        """Whether a step of this input sees nothing of those behind it, padding neither."""
        return self.task.features == "next" and name == next(reversed(self.fields))

    def forward(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        stored = {port.name: array for port, array in zip(self.inputs, arrays, strict=True)}
        return tuple(self._said(stored).values())

    def _said(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.task.exported(self.network, self._prepared(stored))

    def _prepared(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return prepare_batch(stored, self.fields, next(self.network.parameters()).device)

    def prepared(self, feeds: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        """What the network reads of `feeds`, for programs that know no fields."""
        return self._prepared(_tensors(feeds))

    def said(self, stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the Run itself says of a batch; of layers of whole numbers, what they compute of floats: a graph holds
        their weights, not their kernels (layers/integer.py)."""
        with torch.set_grad_enabled(self.integer):
            said = self._said(_tensors(self.feeds(stored)))
        return {name: value.detach().numpy() for name, value in said.items()}

    def trace(self, example: Mapping[str, np.ndarray], alone: bool = False) -> torch.export.ExportedProgram:
        """The network as torch.export records it: any number of rows and steps.

        `alone`: one row a call and steps up to the field's longest, for runtimes that plan their memory ahead."""
        found = self.feeds(example)
        if alone:
            found = {name: array[:1] for name, array in found.items()}
            for name in example:
                if f"{name}.length" in example and name in found:
                    found[name] = found[name][:, : max(2, int(example[f"{name}.length"][0]))]
        arrays = tuple(_tensors(found).values())
        free = torch.export.Dim.DYNAMIC
        dims: dict[str, Any] = {BATCH: torch.export.Dim.STATIC if alone else free}
        for name, field in self.fields.items():
            dims[steps_of(name)] = free(max=max(field.layout.length, 2)) if alone else free
        shapes = tuple(
            {axis: dims[size] for axis, size in enumerate(port.shape) if isinstance(size, str)}
            for port in self.inputs
        )
        # NNPACK is for fewer than 16 rows: a graph that may choose it has no more.
        with torch.no_grad(), torch.backends.nnpack.flags(enabled=False):
            try:
                return torch.export.export(self, arrays, dynamic_shapes=(shapes,), strict=False)
            except (RuntimeError, ValueError, TypeError, torch._dynamo.exc.UserError) as error:
                reason = str(error).strip().splitlines()[0][:300]
                raise UserError(f"this network cannot be recorded as a graph: {reason}") from error

    def outputs(self, program: torch.export.ExportedProgram) -> tuple[Port, ...]:
        """What comes out of a recorded program, its sizes named as the inputs' are."""
        known: dict[str, str] = {}
        nodes = {node.name: node for node in program.graph.nodes}
        for port, name in zip(self.inputs, program.graph_signature.user_inputs, strict=True):
            for size, dim in zip(port.shape, nodes[str(name)].meta["val"].shape, strict=True):
                if isinstance(size, str):
                    known.setdefault(str(dim), size)
        ports = []
        for name, output in zip(self.names, program.graph_signature.user_outputs, strict=True):
            value = nodes[str(output)].meta["val"]
            sizes = tuple(int(d) if isinstance(d, int) else known.get(str(d), str(d)) for d in value.shape)
            ports.append(Port(name, str(value.dtype).removeprefix("torch."), sizes))
        return tuple(ports)


def graph_fields(predictor: Predictor) -> dict[str, Field]:
    """What the graph reads, by the names of its inputs; nothing for a generator, which reads noise."""
    return (
        {} if hasattr(predictor.network.model, "generator") else dict(predictor.task.inputs(predictor.fields))
    )


def steps_of(name: str) -> str:
    """The name of the axis along a ragged input's steps."""
    return f"{name}.steps"


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def _plain(array: np.ndarray, form: str) -> np.ndarray:
    return array if str(array.dtype) in _KEPT and form not in ("index", "tokens") else array.astype(np.int64)
