"""vit against a network assembled from torch's own transformer layers with the same weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from modelworks.core.field import Layout
from modelworks.models.vit import Vit, patch_side

torch.set_num_threads(1)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_equals_torch_layers(pooling: str, copy_block: Callable[..., None]) -> None:
    torch.manual_seed(0)
    settings = Vit(width=32, depth=2, heads=4, patch=8, pooling=pooling)
    network = settings.build({"x": Layout("image", (3, 32, 24))}).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    x = torch.randn(3, 3, 32, 24)
    # patches cut with unfold and projected by a matrix, rather than by a convolution
    patch_BTP = nn.functional.unfold(x, 8, stride=8).transpose(1, 2)
    y = patch_BTP @ network.project.weight.flatten(1).T + network.project.bias
    if pooling == "cls":
        y = torch.cat((network.cls.expand(3, 1, 32), y), 1)
    y = y + network.position.table_TD
    for block in network.blocks:
        layer = nn.TransformerEncoderLayer(
            32, 4, 128, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
        ).eval()
        copy_block(block, layer)
        y = layer(y)
    y = nn.functional.layer_norm(y, (32,), network.norm.weight, network.norm.bias, 1e-6)
    wanted = y[:, 0] if pooling == "cls" else y.mean(1)
    torch.testing.assert_close(network({"x": x}), wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("side, patch", [(224, 16), (96, 8), (32, 4), (28, 4), (14, 2), (8, 1)])
def test_patch_by_size(side: int, patch: int) -> None:
    assert patch_side(side) == patch


def test_a_last_patch_may_be_partly_empty() -> None:
    network = Vit(width=16, depth=1, heads=2, patch=8).build({"x": Layout("image", (1, 20, 16))}).eval()
    x = torch.randn(2, 1, 20, 16)
    padded = nn.functional.pad(x, (0, 0, 0, 4))
    torch.testing.assert_close(network({"x": x}), network({"x": padded}))
    assert len(network.position.table_TD) == 3 * 2 + 1
