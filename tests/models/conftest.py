"""Shared by the tests of transformers: our weights in torch's layer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn


def _copy_block(block: nn.Module, layer: nn.TransformerEncoderLayer) -> None:
    """Our block's weights into torch's layer."""
    pairs = {
        layer.self_attn.in_proj_weight: block.attention.qkv.weight,
        layer.self_attn.in_proj_bias: block.attention.qkv.bias,
        layer.self_attn.out_proj.weight: block.attention.out.weight,
        layer.self_attn.out_proj.bias: block.attention.out.bias,
        layer.linear1.weight: block.feedforward.up.weight,
        layer.linear1.bias: block.feedforward.up.bias,
        layer.linear2.weight: block.feedforward.down.weight,
        layer.linear2.bias: block.feedforward.down.bias,
        layer.norm1.weight: block.norm1.weight,
        layer.norm1.bias: block.norm1.bias,
        layer.norm2.weight: block.norm2.weight,
        layer.norm2.bias: block.norm2.bias,
    }
    with torch.no_grad():
        for theirs, ours in pairs.items():
            theirs.copy_(ours)


@pytest.fixture
def copy_block() -> Callable[..., None]:
    """copy_block(ours, torch's): our block's weights into torch's layer."""
    return _copy_block
