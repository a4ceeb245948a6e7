"""Magnitude: the smallest weights of all matrices together become zero, little by little, while the others train.

    {"kind": "magnitude", "zeros": 0.75}

One threshold for the whole network (Han et al. 2015, arXiv:1506.02626). The share of zeros rises as 1 − (1 − t)³ over
the first HALF of the training (Zhu & Gupta 2017, arXiv:1710.01878); then the rest recovers. Zeros save bytes, one bit
for each in the place of its number (layers/codes.py), and no time: the products are the dense ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from modelworks.engine.compress.edits import SPARSE, Parent, Step, Target
from modelworks.engine.network import Network
from modelworks.layers import codes

TRAINED = (0.5, 0.7, 0.85)
AT_ONCE = (0.3,)
HALF = 0.5
"""Share of the training steps over which the zeros grow."""
SAMPLE = 1 << 22
"""Weights that a threshold is taken from, at the most."""


def candidates(parent: Parent, target: Target) -> Iterator[Step]:
    """A few zeros at once, and many with training."""
    for zeros in AT_ONCE:
        yield Step(f"zeros {zeros:.0%}", SPARSE, _maker(zeros, 0), 1 - zeros + 1 / 8)
    for zeros in TRAINED if parent.steps else ():
        yield Step(f"zeros {zeros:.0%} trained", SPARSE, _maker(zeros, parent.steps), 1 - zeros + 1 / 8, True)


def _maker(zeros: float, steps: int) -> Callable[[Network, Parent], dict[str, Any]]:
    def make(network: Network, parent: Parent) -> dict[str, Any]:
        return prune(network, parent, zeros, steps)

    return make


def prune(network: Network, parent: Parent, zeros: float, steps: int) -> dict[str, Any]:
    """Do it, in place; returns the edit."""
    places = list(_matrices(network))
    for module, name in places:
        mask = torch.ones_like(getattr(module, name))
        parametrize.register_parametrization(module, name, Masked(mask), unsafe=True)

    def watch(step: int) -> None:
        done = min(1.0, (step + 1) / max(1, HALF * steps))
        set_masks(places, zeros * (1 - (1 - done) ** 3))

    try:
        if steps:
            parent.tune(network, steps, watch)
        set_masks(places, zeros)
    finally:
        for module, name in places:
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)
            getattr(module, name).requires_grad_(True)
    edit: dict[str, Any] = {"kind": "magnitude", "zeros": zeros}
    return edit | ({"trained": steps} if steps else {})


def shape(network: Network, edit: Mapping[str, Any]) -> None:
    """Zeros are numbers like others; only how they are stored differs, which codes.readable knows."""
    codes.readable(network)


class Masked(nn.Module):
    """Weights with some of them zero."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


@torch.no_grad()
def set_masks(places: list[tuple[nn.Module, str]], zeros: float) -> None:
    """Zero for the share `zeros` of all weights: those nearest to zero."""
    originals = [_parts(module, name).original for module, name in places]
    total = sum(weight.numel() for weight in originals)
    every = max(1, total // SAMPLE)
    sizes = torch.cat([weight.detach().flatten()[::every].abs() for weight in originals])
    count = round(zeros * len(sizes))
    threshold = float(sizes.kthvalue(count).values) if count else -1.0
    for (module, name), weight in zip(places, originals, strict=True):
        _parts(module, name)[0].mask.copy_(weight.abs() > threshold)


def _parts(module: nn.Module, name: str) -> Any:
    return module.parametrizations[name]  # type: ignore[index]


def _matrices(network: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Matrices and kernels; not tables that are looked up, whose rows are each alone."""
    for module in list(network.modules()):
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            continue
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.dim() >= 2 and parameter.numel() >= codes.LEAST:
                yield module, name
