"""gan: DCGAN has the parameter counts of PyTorch's own tutorial; shapes, ranges and repeatable noise."""

import numpy as np
import pytest
import torch
from scipy import stats

from modelworks.core.errors import UserError
from modelworks.core.field import Layout
from modelworks.models.gan import Gan

torch.set_num_threads(1)


def made(shape=(1, 28, 28), **values):
    torch.manual_seed(0)
    return Gan(**values).build({"image": Layout("image", shape)})


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_dcgan_has_the_tutorials_parameters():
    # github.com/pytorch/examples/tree/main/dcgan with nz=100, ngf=ndf=64, nc=3, 64×64
    gan = made((3, 64, 64), generator="dcgan")
    assert count(gan.generator) == 3_576_704
    assert count(gan.discriminator) == 2_765_568


@pytest.mark.parametrize(
    "shape, values",
    [
        ((1, 28, 28), {}),
        ((1, 28, 28), {"generator": "dcgan", "channels": 4}),
        ((3, 32, 32), {"generator": "dcgan", "channels": 4}),
        ((3, 32, 48), {"generator": "dcgan", "channels": 4, "latent": 7}),
        ((3, 5, 9), {"widths": [8], "dropout": 0.3}),
    ],
)
def test_shapes_and_range(shape, values):
    gan = made(shape, **values)
    images = gan.generator(gan.noise(3))
    assert images.shape == (3, *shape)
    assert images.abs().max() <= 1
    assert gan.discriminator(images).shape == (3,)
    assert gan({"image": torch.zeros(3, *shape)}).shape == (3, gan.width)


def test_forward_sets_real_generated_and_logits_side_by_side():
    gan = made((1, 8, 8), widths=[8]).eval()
    gan.set_range(torch.tensor([-3.0]), torch.tensor([5.0]))
    image = torch.linspace(-3, 5, 128).view(2, 1, 8, 8)
    found = gan({"image": image, "row": torch.tensor([4, 9])})
    real, fake, logits = found.split([64, 64, 2], 1)
    assert torch.allclose(real.flatten(), torch.linspace(-1, 1, 128), atol=1e-6)
    assert torch.allclose(fake.view(2, 1, 8, 8), gan.generator(gan.noise_of(torch.tensor([4, 9]))))
    assert torch.allclose(logits[:, 0], gan.discriminator(real.view(2, 1, 8, 8)))
    assert torch.allclose(logits[:, 1], gan.discriminator(fake.view(2, 1, 8, 8)))


def test_noise_of_rows_is_normal_and_the_rows_own():
    gan = made((1, 8, 8), widths=[8])
    noise = gan.noise_of(torch.arange(500))
    assert stats.kstest(noise.flatten(), "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(noise.numpy()[:, :20].T) - np.eye(20)).max() < 0.25
    assert torch.equal(gan.noise_of(torch.tensor([77, 3]))[0], noise[77])


def test_sides_that_cannot_be_halved_are_refused():
    with pytest.raises(UserError, match=r"cannot halve 30×30 .*resize them to 28"):
        made((1, 30, 30), generator="dcgan")
