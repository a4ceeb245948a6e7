"""resnet against the same network written in plain function calls over its parameters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from modelworks.core.field import Layout
from modelworks.models.resnet import Resnet

torch.set_num_threads(1)


def reference(x: Tensor, state: dict[str, Tensor], blocks: tuple[int, ...], bottleneck: bool) -> Tensor:
    """He et al. 2016, figure 5, in evaluation mode, with the ImageNet stem."""
    weights = iter([value for name, value in state.items() if "num_batches" not in name])

    def conv_norm(x: Tensor, stride: int) -> Tensor:
        kernel = next(weights)
        x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        scale, shift, average, variance = (next(weights)[:, None, None] for _ in range(4))
        return (x - average) / (variance + 1e-5).sqrt() * scale + shift

    x = F.max_pool2d(F.relu(conv_norm(x, 2)), 3, 2, 1)
    for stage, count in enumerate(blocks):
        for index in range(count):
            stride = 2 if stage and not index else 1
            y = x
            if bottleneck:
                y = F.relu(conv_norm(y, 1))
            y = F.relu(conv_norm(y, stride))
            y = conv_norm(y, 1)
            if not index and (stage or bottleneck):
                x = conv_norm(x, stride)
            x = F.relu(x + y)
    assert next(weights, None) is None
    return x.flatten(2).mean(2)


@pytest.mark.parametrize("depth, blocks", [(18, (2, 2, 2, 2)), (50, (3, 4, 6, 3))])
def test_equals_the_paper(depth: int, blocks: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    settings = Resnet(depth=depth, width=8, stem="imagenet", zero_residual=False)
    network = settings.build({"x": Layout("image", (3, 64, 64))})
    x = torch.randn(4, 3, 64, 64)
    network.train()({"x": x})  # running statistics away from their start
    network.eval()
    with torch.no_grad():
        wanted = reference(x, network.state_dict(), blocks, bottleneck=depth == 50)
        torch.testing.assert_close(network({"x": x}), wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_zero_residual_starts_blocks_as_the_identity(norm: str) -> None:
    network = Resnet(depth=50, width=4, normalisation=norm).build({"x": Layout("image", (3, 32, 32))}).train()
    x = torch.rand(2, 16, 8, 8)  # not negative, so that the last relu lets it through
    torch.testing.assert_close(network.blocks[1](x), x)


def test_small_images_keep_their_size_in_the_stem() -> None:
    small = Resnet(width=4).build({"x": Layout("image", (3, 32, 32))})
    large = Resnet(width=4).build({"x": Layout("image", (3, 128, 128))})
    assert small.stem(torch.zeros(1, 3, 32, 32)).shape[2:] == (32, 32)
    assert large.stem(torch.zeros(1, 3, 128, 128)).shape[2:] == (32, 32)
