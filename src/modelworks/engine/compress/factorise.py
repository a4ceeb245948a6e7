"""Factorise: matrices as products of two thin ones, by the singular values that hold most of their energy.

    {"kind": "factorise", "ranks": {"model.blocks.0.feedforward.up": 48, …}, "energy": 0.9}

The best product of a rank is the truncated singular value decomposition (Eckart & Young 1936). A layer keeps the least
rank whose squared singular values add up to `energy` of all, and stays as it is where two matrices would not be
smaller by a tenth. Only layers that are called as layers are taken: some matrices are read by their owners.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from modelworks.engine.compress.edits import RANK, Parent, Step, Target
from modelworks.engine.network import Network
from modelworks.layers.low_rank import LowRank

ENERGIES = (0.98, 0.95, 0.9, 0.8)
LEAST = 0.9
"""Of the numbers of a matrix, that its factors may have at the most."""


def candidates(parent: Parent, target: Target) -> Iterator[Step]:
    """Ever less energy; less than the most with training, which brings back much of what was cut."""
    for energy in ENERGIES:
        yield Step(f"rank {energy:.0%}", RANK, _maker(energy, 0), 0.5 + energy / 2 - 0.1)
        if parent.steps and energy < ENERGIES[0]:
            yield Step(
                f"rank {energy:.0%} trained", RANK, _maker(energy, parent.steps), energy / 1.2 - 0.1, True
            )


def _maker(energy: float, steps: int) -> Callable[[Network, Parent], dict[str, Any]]:
    def make(network: Network, parent: Parent) -> dict[str, Any]:
        edit = factorise(network, parent, energy)
        if steps:
            parent.tune(network, steps)
            edit["trained"] = steps
        return edit

    return make


@torch.no_grad()
def factorise(network: Network, parent: Parent, energy: float) -> dict[str, Any]:
    """Do it, in place; returns the edit."""
    ranks: dict[str, int] = {}
    for name in called(network, parent):
        layer: Any = network.get_submodule(name)
        left_OR, size_R, right_RI = torch.linalg.svd(layer.weight.double(), full_matrices=False)
        kept = (size_R.square().cumsum(0) / size_R.square().sum().clamp(min=1e-30) < energy).sum()
        rank = int(kept) + 1
        if rank * sum(layer.weight.shape) > LEAST * layer.weight.numel():
            continue
        low = LowRank(layer, rank)
        root_R = size_R[:rank].sqrt()
        low.up.weight.copy_(left_OR[:, :rank] * root_R)
        low.down.weight.copy_(root_R[:, None] * right_RI[:rank])
        _put(network, name, low)
        ranks[name] = rank
    if not ranks:
        raise ValueError(f"no matrix keeps {energy:.0%} of its energy in fewer numbers")
    return {"kind": "factorise", "energy": energy, "ranks": ranks}


def shape(network: Network, edit: Mapping[str, Any]) -> None:
    """Put pairs of thin matrices in the places of the layers."""
    for name, rank in edit["ranks"].items():
        layer: Any = network.get_submodule(name)
        if not isinstance(layer, nn.Linear) or not isinstance(rank, int):
            raise TypeError(f"{name} is no matrix, or {rank!r} no rank")
        if not 0 < rank * (layer.in_features + layer.out_features) <= layer.weight.numel():
            raise ValueError(f"{name}: rank {rank} of a matrix of {tuple(layer.weight.shape)}")
        _put(network, name, LowRank(layer, rank))


def called(network: Network, parent: Parent) -> list[str]:
    """Linear layers that are called, in order; the shared ones of ensembles, whose owners read them, are not."""
    seen: list[str] = []
    handles = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):

            def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, name: str = name) -> None:
                if name not in seen:
                    seen.append(name)

            handles.append(module.register_forward_hook(hook))
    try:
        for batch in parent.batches(1)[:1]:
            parent.task.forward(network, batch)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _put(network: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, last = name.rpartition(".")
    setattr(network.get_submodule(owner), last, module)
