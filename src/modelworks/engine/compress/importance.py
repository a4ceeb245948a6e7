"""Importance: how much the loss would change without a unit.

    scores = taylor(network, loss, batches, groups)         # group's name → one number a unit

Taylor: the square of the gradient for a gate of 1 on the unit, mean over small batches (Molchanov et al. 2019,
arXiv:1906.10771, "method 6": the gate's gradient is the sum of weight times gradient over what reads the unit; for
heads Michel et al. 2019, arXiv:1905.10650). Without data: the size of its weights (Li et al. 2017, arXiv:1608.08710).
Whole blocks are few: the loss without each of them is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from modelworks.engine.compress.graph import Blocks, Group, by_unit

PIECE = 16
"""Rows of a gradient: over many rows a trained network's gradients cancel out."""
Loss = Callable[[Any], tuple[Tensor, Tensor | int]]
Batches = Sequence[Mapping[str, Tensor]]


def taylor(network: nn.Module, loss: Loss, batches: Batches, groups: Sequence[Group]) -> dict[str, Tensor]:
    """Group's name → mean squared gate gradient of each unit."""
    scores = {group.name: torch.zeros(group.count) for group in groups}
    pieces = 0
    network.eval()
    parameters = dict(network.named_parameters())
    for piece in _pieces(batches):
        network.zero_grad(set_to_none=True)
        total, count = loss(piece)
        (total / count).backward()
        for group in groups:
            axis = group.read[0]
            weight = parameters[axis.tensor]
            if weight.grad is not None:
                product = (weight.detach() * weight.grad).cpu()
                scores[group.name] += by_unit(product, axis, group.count).square()
        pieces += 1
    network.zero_grad(set_to_none=True)
    return {name: score / max(pieces, 1) for name, score in scores.items()}


def magnitude(network: nn.Module, groups: Sequence[Group]) -> dict[str, Tensor]:
    """Group's name → sum of absolute weights of each unit, scaled so that layers compare."""
    state, scores = network.state_dict(), {}
    for group in groups:
        axis = group.made[0]
        score = by_unit(state[axis.tensor].detach().float().abs().cpu(), axis, group.count)
        scores[group.name] = score / score.norm().clamp(min=1e-30)
    return scores


@torch.no_grad()
def least(network: Any, loss: Loss, batches: Batches, blocks: Blocks) -> int:
    """Which block's absence raises the loss least."""
    holder, _, part = blocks.name.rpartition(".")
    owner, whole = network.get_submodule(holder), network.get_submodule(blocks.name)
    network.eval()
    losses: dict[int, float] = {}
    try:
        for index in range(blocks.first, len(whole)):
            setattr(owner, part, nn.ModuleList([block for at, block in enumerate(whole) if at != index]))
            sums = [loss(batch) for batch in batches]
            losses[index] = sum(float(total) for total, _ in sums) / max(sum(int(n) for _, n in sums), 1)
    finally:
        setattr(owner, part, whole)
    return min(losses, key=lambda index: losses[index])


def _pieces(batches: Batches) -> Iterator[Mapping[str, Tensor]]:
    for batch in batches:
        sizes = {len(value) for value in batch.values()}
        rows = max(sizes, default=0)
        if len(sizes) > 1:  # pairs and the like: rows that belong together
            yield batch
            continue
        for start in range(0, rows, PIECE):
            yield {name: value[start : start + PIECE] for name, value in batch.items()}
