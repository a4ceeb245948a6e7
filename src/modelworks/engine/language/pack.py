"""Pack: a trained network made ready to write fast. Its linear layers keep packed weights alone and cannot be trained.

pack(network, "int8"); Generator(network, field)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from modelworks.core.errors import UserError
from modelworks.layers.block import Block
from modelworks.layers.feedforward import Feedforward
from modelworks.layers.linear import Linear
from modelworks.layers.moe import Experts
from modelworks.layers.packed import PackedHead, PackedLinear, PackedNorm, Weights

LINEAR = (nn.Linear, Linear)
"""What is packed. Any other class derived from nn.Linear does more than multiply: it is left as it is."""


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
        if isinstance(module, Block) and module.order == "pre":
            _join(module, "norm1", module.attention, "qkv", weights)
            if isinstance(module.feedforward, Feedforward):
                _join(module, "norm2", module.feedforward, "up", weights)
        for name, child in list(module.named_children()):
            if type(child) in LINEAR:
                # What chooses experts stays exact: a choice that turns over is no rounding error.
                short = "float32" if isinstance(module, Experts) else weights
                setattr(module, name, PackedLinear(child.weight, child.bias, short))
            elif _is_rms(child):
                setattr(module, name, PackedNorm(child, device=device))
    network.head = head
    return network.eval()


def _join(block: Block, name: str, place: Any, follower: str, weights: Weights) -> None:
    """A norm and the one linear layer that reads it: the norm's weights go into the layer's, and between them stands
    what the layer reads, short floats where its weights are short."""
    norm, linear = getattr(block, name), getattr(place, follower)
    if not _is_rms(norm) or type(linear) not in LINEAR:
        return
    weight_OI, device = linear.weight.float(), linear.weight.device
    # One int8 scale a row does not suit columns of unequal size: joined, SmolLM2's perplexity is 0.6 % higher.
    joined = weights != "int8"
    if joined:
        weight_OI = weight_OI * PackedNorm.scale(norm).to(device)
    setattr(place, follower, PackedLinear(weight_OI, linear.bias, weights))
    between = torch.float32 if weights == "float32" else torch.bfloat16
    setattr(block, name, PackedNorm(norm, joined, between, device))


def _is_rms(module: Any) -> bool:
    return isinstance(module, nn.RMSNorm) and len(module.normalized_shape) == 1
