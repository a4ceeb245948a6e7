"""Pack: a trained network made ready to write fast. Its linear layers keep packed weights alone and cannot be trained.

pack(network, "int8"); Generator(network, field)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from modelworks.core.errors import UserError
from modelworks.layers.linear import Linear
from modelworks.layers.packed import PackedHead, PackedLinear, PackedNorm, Weights


@torch.no_grad()
def pack(network: Any, weights: Weights) -> Any:
    """Replace every linear layer and RMS norm of the body, and the head; returns the same network.

    The table of tokens stays as it is where it is looked up: a row of it is read at a time."""
    device = next(network.parameters()).device
    if weights == "int8" and device.type != "cpu":
        raise UserError(f"int8 weights are for the CPU, and this network is on {device}", "bfloat16")
    if not hasattr(network.head, "table_VD"):
        raise UserError("only a language model can be packed")
    head = PackedHead(network.head.table_VD, network.head.softcap, weights)
    for module in list(network.model.modules()):
        for name, child in list(module.named_children()):
            # Any other class derived from nn.Linear does more than multiply: it is left as it is.
            if type(child) in (nn.Linear, Linear):
                setattr(module, name, PackedLinear(child.weight, child.bias, weights))
            elif isinstance(child, nn.RMSNorm) and len(child.normalized_shape) == 1:
                setattr(module, name, PackedNorm(child))
    network.head = head
    return network.eval()
