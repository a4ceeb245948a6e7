"""Kept: a second set of a network's weights: the best so far, or their moving average."""

from __future__ import annotations

import torch
from torch import Tensor

from modelworks.engine.network import Network


def moving(network: Network) -> dict[str, Tensor]:
    """What training may change: all but frozen parameters."""
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    return {name: tensor for name, tensor in network.state_dict().items() if name not in frozen}


def frozen(network: Network) -> dict[str, Tensor]:
    """Parameters that training leaves as they are."""
    return {name: p.detach() for name, p in network.named_parameters() if not p.requires_grad}


class Kept:
    """A copy of the weights under a name: the best so far, or their moving average."""

    def __init__(self, network: Network) -> None:
        self.tensors = {name: tensor.detach().clone() for name, tensor in moving(network).items()}

    def swap(self, network: Network) -> None:
        """Exchange this copy with the network's weights."""
        with torch.no_grad():
            for name, tensor in moving(network).items():
                mine = self.tensors[name].clone()
                self.tensors[name].copy_(tensor)
                tensor.copy_(mine)

    def follow(self, network: Network, decay: float) -> None:
        """Move towards the network: kept = decay · kept + (1 − decay) · weights; integer buffers are copied."""
        current = moving(network)
        with torch.no_grad():
            floating = [n for n, t in self.tensors.items() if t.is_floating_point()]
            torch._foreach_lerp_(
                [self.tensors[n] for n in floating], [current[n] for n in floating], 1 - decay
            )
            for name, tensor in self.tensors.items():
                if not tensor.is_floating_point():
                    tensor.copy_(current[name])


def copy_of(average: Kept, network: Network) -> Kept:
    """The average's weights as they are now, in a set of their own."""
    copy = Kept(network)
    for name, tensor in average.tensors.items():
        copy.tensors[name].copy_(tensor)
    return copy
