"""Graph: which tensors of a network hold the same units, so that they lose them together.

    for group in groups(network): group.name, group.kind, group.count, group.made, group.read
    for place in lists(network): place.name, place.blocks

Derived from the modules: what layers say of themselves (layers/units.py), nn.Sequential, and torch's own layers. What
is not understood ends a chain, and keeps its width: residual streams, concatenations, norms over channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from modelworks.layers.activation import SquaredReLU
from modelworks.layers.dropout import Dropout
from modelworks.layers.position import Position
from modelworks.layers.units import Axis, Flat, Kind, Units

_PASS = (
    nn.Identity, nn.ReLU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.GELU, nn.SiLU, nn.ELU, nn.Softplus, SquaredReLU,
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, Dropout, nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d,
)  # fmt: skip
"""What treats each channel alike and apart from the others."""
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_TABLES = (nn.Embedding, nn.EmbeddingBag)


@dataclass(frozen=True)
class Group:
    """Units of the network; tensors go by their full names."""

    name: str
    """Of the module that makes them."""
    kind: Kind
    count: int
    made: tuple[Axis, ...]
    read: tuple[Axis, ...]
    tied: str = ""
    """Groups tied by the same word keep equally many units: caches and foreign formats have one number for all."""

    @property
    def modules(self) -> set[str]:
        """Modules whose work shrinks with the units."""
        own = {axis.tensor.rpartition(".")[0] for axis in (*self.made, *self.read)}
        return own | ({self.name} if self.kind == "heads" else set())


@dataclass(frozen=True)
class Blocks:
    """Blocks that add to one stream, any of which can be left out."""

    name: str
    blocks: tuple[str, ...]
    first: int = 0
    """The first one that can: blocks before it are what others lean on."""


def groups(network: nn.Module) -> list[Group]:
    """Every group that can be narrowed, each tensor's axis in one of them at the most."""
    names = {id(module): name for name, module in network.named_modules()}
    found: list[Group] = []
    body: Any = getattr(network, "model", None)
    if body is not None and hasattr(body, "chain"):
        found += _along([body, getattr(network, "head", None)], names)
    # One slope a head: which heads are left would have to be told to what makes them.
    sloped = any(isinstance(module, Position) and module.name == "alibi" for module in network.modules())
    for module in network.modules():
        name = names[id(module)]
        if hasattr(module, "units"):
            for units in module.units():
                if not (sloped and units.kind == "heads"):
                    found.append(_named(units, name))
        for chain in module.chains() if hasattr(module, "chains") else ():
            found += _along(chain, names)
        if isinstance(module, nn.Sequential) or hasattr(module, "chain"):
            found += _along([module], names)
    writes = getattr(body, "features", "") == "next" or hasattr(body, "begin")
    return [
        replace(group, tied=group.kind if writes and hasattr(body, "shortens") else "")
        for group in _first(found, network)
        if group.count > 1
    ]


def lists(network: nn.Module) -> list[Blocks]:
    """Every list of blocks that can be shortened."""
    found = []
    for name, module in network.named_modules():
        for part in getattr(module, "shortens", ()):
            path = f"{name}.{part}" if name else part
            blocks = tuple(f"{path}.{index}" for index in range(len(getattr(module, part))))
            # The others blend their values with the first block's.
            found.append(Blocks(path, blocks, first=int(getattr(module, "value_residual", False))))
    return found


def _along(parts: Sequence[Any], names: dict[int, str]) -> list[Group]:
    """Groups between one layer that makes channels and the next that reads them."""
    found: list[Group] = []
    made: list[Axis] | None = None
    maker, positions = "", 1
    for part in _flattened(parts):
        if isinstance(part, Flat):
            positions *= part.positions
        elif isinstance(part, _PASS):
            continue
        elif isinstance(part, _NORMS) and positions == 1:
            if made is not None:
                made += [Axis(name) for name, _ in _tensors(part, names)]
        else:
            makes, reads = _ends(part)
            name = names.get(id(part), "")
            if made is not None and reads:
                read = tuple(_at(axis, name, positions) for axis in reads)
                found.append(Group(maker, "channels", 0, tuple(made), read))  # counted by _first
            made = [_at(axis, name) for axis in makes] if makes else None
            maker, positions = name, 1
    return found


def _flattened(parts: Sequence[Any]) -> Iterator[Any]:
    for part in parts:
        if isinstance(part, nn.Sequential):
            yield from _flattened(list(part))
        elif hasattr(part, "chain"):
            yield from _flattened(part.chain())
        else:
            yield part


def _ends(module: Any) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
    """Where a layer makes channels, and where it reads them; nothing of what is not understood."""
    if hasattr(module, "ends"):
        return module.ends()
    if isinstance(module, _TABLES):
        return (Axis("weight", 1),), ()
    plain = isinstance(module, nn.Linear) or (
        isinstance(module, (nn.Conv1d, nn.Conv2d)) and module.groups == 1
    )
    if not plain:
        return (), ()
    made = (Axis("weight"),) if module.bias is None else (Axis("weight"), Axis("bias"))
    return made, (Axis("weight", 1),)


def _at(axis: Axis, name: str, positions: int = 1) -> Axis:
    full = f"{name}.{axis.tensor}" if name else axis.tensor
    return Axis(full, axis.axis, tuple(width * positions for width in axis.widths))


def _named(units: Units, name: str) -> Group:
    made, read = (tuple(_at(axis, name) for axis in axes) for axes in (units.made, units.read))
    return Group(name, units.kind, units.count, made, read)


def _tensors(module: nn.Module, names: dict[int, str]) -> list[tuple[str, Tensor]]:
    """A norm's vectors of one value a channel."""
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    return [(f"{names[id(module)]}.{name}", tensor) for name, tensor in own if tensor.dim() == 1]


def _first(found: Sequence[Group], network: nn.Module) -> list[Group]:
    """Counted and checked against the tensors; the first where several name the same axis."""
    state = network.state_dict(keep_vars=True)
    taken: set[tuple[str, int]] = set()
    kept = []
    for group in found:
        axes = [*group.made, *group.read]
        sizes = {size(state[axis.tensor], axis) for axis in axes}
        places = {(axis.tensor, axis.axis) for axis in axes}
        if len(sizes) == 1 and not places & taken:
            kept.append(replace(group, count=sizes.pop()))
            taken |= places
    return kept


def size(tensor: Tensor, axis: Axis) -> int:
    """Units that a tensor holds; 0 where it does not divide into them."""
    count, rest = divmod(tensor.shape[axis.axis], sum(axis.widths))
    return 0 if rest else count


def index(axis: Axis, count: int, units: Tensor) -> Tensor:
    """Where some of `count` units lie along the axis, in order."""
    found, start = [], 0
    for width in axis.widths:
        found.append((start + units[:, None] * width + torch.arange(width)).flatten())
        start += count * width
    return torch.cat(found)


def by_unit(values: Tensor, axis: Axis, count: int) -> Tensor:
    """The sum of a tensor's values over each unit, (count,)."""
    along = values.movedim(axis.axis, 0).flatten(1).sum(1) if values.dim() > 1 else values
    runs = along.split([count * width for width in axis.widths])
    return torch.stack([run.view(count, -1).sum(1) for run in runs]).sum(0)
