"""cnn, vgg and densenet against the same networks written in torch's own functions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelworks.core.errors import RecipeError, UserError
from modelworks.core.field import Layout
from modelworks.models.cnn import Cnn
from modelworks.models.densenet import Densenet
from modelworks.models.vgg import Vgg

torch.set_num_threads(1)


def warm(network: nn.Module, batch: dict[str, Tensor]) -> nn.Module:
    """Evaluation mode, with running statistics away from where they start."""
    network.train()(batch)
    return network.eval()


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_the_classic_listing(pooling: str) -> None:
    """Convolution, relu, pooling twice, then dense 128: the usual order gives the same numbers as ours."""
    torch.manual_seed(0)
    settings = Cnn(
        channels=[8, 16], pooling=pooling, activation="identity", normalisation="none", gather="flatten"
    )
    network = settings.build({"x": Layout("image", (1, 28, 28))})
    weights = list(network.parameters())
    pool = F.max_pool2d if pooling == "max" else F.avg_pool2d
    x = torch.randn(3, 1, 28, 28)
    y = pool(F.conv2d(x, weights[0], weights[1], padding=1), 2)
    y = pool(F.conv2d(y, weights[2], weights[3], padding=1), 2)
    torch.testing.assert_close(network({"x": x}), F.linear(y.flatten(1), weights[4], weights[5]))
    assert weights[4].shape == (128, 16 * 7 * 7)


def test_relu_before_or_after_max_pooling_is_the_same() -> None:
    torch.manual_seed(0)
    network = Cnn(channels=[8], normalisation="none", hidden=[]).build({"x": Layout("image", (1, 8, 8))})
    weight, bias = network.parameters()
    x = torch.randn(3, 1, 8, 8)
    wanted = F.max_pool2d(F.relu(F.conv2d(x, weight, bias, padding=1)), 2)
    torch.testing.assert_close(network({"x": x}), wanted.flatten(1))


def test_batch_norm_and_convolutions_in_a_stage() -> None:
    torch.manual_seed(0)
    network = Cnn(channels=[4], convolutions=2, kernel=5, hidden=[], gather="max").build(
        {"x": Layout("image", (2, 12, 12))}
    )
    batch = {"x": torch.randn(6, 2, 12, 12)}
    warm(network, batch)
    state = {k: v for k, v in network.state_dict().items() if "tracked" not in k}
    (w1, s1, b1, m1, v1, w2, s2, b2, m2, v2) = state.values()
    y = F.relu(F.batch_norm(F.conv2d(batch["x"], w1, padding=2), m1, v1, s1, b1))
    y = F.relu(F.batch_norm(F.max_pool2d(F.conv2d(y, w2, padding=2), 2), m2, v2, s2, b2))
    torch.testing.assert_close(network(batch), y.amax((2, 3)))


@pytest.mark.parametrize("side, stages", [(8, 1), (28, 3), (32, 3), (64, 4), (224, 6)])
def test_stages_follow_the_size(side: int, stages: int) -> None:
    with torch.device("meta"):
        network = Cnn().build({"x": Layout("image", (1, side, side))})
    assert len(network.layers) == stages


@pytest.mark.parametrize("pooling", ["max", "average", "stride"])
@pytest.mark.parametrize("length", [20, 600])
def test_frames_do_not_read_padding(pooling: str, length: int) -> None:
    torch.manual_seed(0)
    network = Cnn(pooling=pooling, hidden=[], normalisation="layer", convolutions=2).build(
        {"x": Layout("frames", (2,), length=length)}
    )
    lengths = [length, length // 2 + 1, 5, 1]
    x = torch.randn(4, length, 2)  # noise in the padding, too
    together = network({"x": x, "x.length": torch.tensor(lengths)})
    for index, size in enumerate(lengths):
        alone = network({"x": x[index : index + 1, :size]})
        torch.testing.assert_close(alone[0], together[index], atol=1e-5, rtol=1e-4)


def test_mistakes_are_explained() -> None:
    with pytest.raises(RecipeError, match="wants an odd number, got 4"):
        Cnn(kernel=4)
    with pytest.raises(UserError, match="8 pixels cannot be shrunk 2-fold 4 times"):
        Cnn(channels=[4] * 4).build({"x": Layout("image", (1, 8, 8))})
    with pytest.raises(UserError, match="gather: mean"):
        Cnn(gather="flatten").build({"x": Layout("frames", (1,), length=9)})


def test_vgg_equals_its_table() -> None:
    """VGG-13 in the order of the paper: convolution, relu, and pooling after each pair."""
    torch.manual_seed(0)
    settings = Vgg(depth=13, width=4, hidden=[12, 10], normalisation="none")
    network = settings.build({"x": Layout("image", (3, 64, 64))}).eval()
    weights = iter(network.parameters())
    x = y = torch.randn(2, 3, 64, 64)
    for _ in range(5):
        for _ in range(2):
            y = F.relu(F.conv2d(y, next(weights), next(weights), padding=1))
        y = F.max_pool2d(y, 2)
    y = y.flatten(1)
    for _ in range(2):
        y = F.relu(F.linear(y, next(weights), next(weights)))
    assert next(weights, None) is None
    torch.testing.assert_close(network({"x": x}), y)


def test_densenet_equals_the_paper() -> None:
    torch.manual_seed(0)
    network = Densenet(growth=4, stem="imagenet").build({"x": Layout("image", (3, 64, 64))})
    batch = {"x": torch.randn(3, 3, 64, 64)}
    warm(network, batch)
    weights = iter([v for k, v in network.state_dict().items() if "tracked" not in k])

    def norm(x: Tensor) -> Tensor:
        scale, shift, average, variance = (next(weights) for _ in range(4))
        return F.relu(F.batch_norm(x, average, variance, scale, shift))

    def conv(x: Tensor, stride: int = 1) -> Tensor:
        kernel = next(weights)
        return F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)

    x = F.max_pool2d(norm(conv(batch["x"], 2)), 3, 2, 1)
    for block, count in enumerate((6, 12, 24, 16)):
        if block:
            x = F.avg_pool2d(conv(norm(x)), 2)
        for _ in range(count):
            x = torch.cat((x, conv(norm(conv(norm(x))))), 1)
    x = norm(x).mean((2, 3))
    assert next(weights, None) is None
    torch.testing.assert_close(network(batch), x, atol=1e-4, rtol=1e-4)
