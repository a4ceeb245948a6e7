"""adversarial: the losses against torch's own, two players that keep to themselves, and a tiny GAN that learns."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from modelworks.core.errors import UserError
from modelworks.engine.network import Network, build
from modelworks.models.gan import Gan
from modelworks.tasks.adversarial import Adversarial

REAL, FAKE = torch.randn(2, 7, generator=torch.Generator().manual_seed(0))


def small(picture, task=None, **values):
    model = Gan(**{"latent": 4, "widths": [16], **values})
    return build(model, task or Adversarial(), picture, seed=0)


def stored(picture, rows=8, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (rows, 1, 8, 8), dtype=np.uint8)
    return {"image": picture["image"].prepare(torch.from_numpy(pixels)), "row": torch.arange(rows)}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_nonsaturating_loss(smoothing):
    task = Adversarial(label_smoothing=smoothing)
    real = F.binary_cross_entropy_with_logits(REAL, torch.full((7,), 1 - smoothing), reduction="sum")
    fake = F.softplus(FAKE).sum()
    assert task.discriminator_loss(REAL, FAKE) == pytest.approx(real + fake)
    assert task.generator_loss(FAKE) == pytest.approx(F.softplus(-FAKE).sum())


def test_hinge_loss():
    task = Adversarial(objective="hinge")
    expected = F.margin_ranking_loss(REAL, torch.zeros(7), torch.ones(7), margin=1, reduction="sum")
    expected += F.margin_ranking_loss(FAKE, torch.zeros(7), -torch.ones(7), margin=1, reduction="sum")
    assert task.discriminator_loss(REAL, FAKE) == pytest.approx(expected)
    assert task.generator_loss(FAKE) == pytest.approx(-FAKE.sum())


def test_least_squares_loss():
    task = Adversarial(objective="least_squares")
    assert task.discriminator_loss(REAL, FAKE) == pytest.approx(((REAL - 1) ** 2).sum() + (FAKE**2).sum())
    assert task.generator_loss(FAKE) == pytest.approx(((FAKE - 1) ** 2).sum())


@pytest.mark.parametrize("generator", ["mlp", "dcgan"])
def test_players_own_disjoint_parameters_and_leak_nothing(picture, generator):
    network = small(picture, generator=generator, channels=4)
    players = Adversarial().players(network)
    owned = [{name for name, _ in player.parameters} for player in players]
    assert not owned[0] & owned[1]
    assert owned[0] | owned[1] == {name for name, _ in network.named_parameters()}
    for index, player in enumerate(players):
        network.zero_grad(set_to_none=True)
        total, count = player.loss(stored(picture))
        assert count == 8
        (total / count).backward()
        touched = {name for name, p in network.named_parameters() if p.grad is not None}
        assert touched == owned[index]
        assert all(p.grad.abs().sum() > 0 for _, p in player.parameters if p.dim() > 1)


def test_the_generators_gradient_is_the_plain_one(picture):
    network = small(picture)
    player = Adversarial().players(network)[1]
    network.eval()
    torch.manual_seed(3)
    player.loss(stored(picture))[0].backward()
    found = [p.grad.clone() for _, p in player.parameters]
    network.zero_grad(set_to_none=True)
    torch.manual_seed(3)
    gan = network.model
    F.softplus(-gan.discriminator(gan.generator(torch.randn(8, 4)))).sum().backward()
    for gradient, (_, parameter) in zip(found, player.parameters, strict=True):
        assert torch.allclose(gradient, parameter.grad, atol=1e-7)


def test_noise_comes_from_the_global_generator(picture):
    players = Adversarial().players(small(picture))
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append([player.loss(stored(picture))[0].item() for player in players])
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_the_range_is_the_fields(picture):
    network = small(picture)
    Adversarial().players(network)
    pixels = torch.tensor([0, 255, 51], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 1, 8, 8)
    unit = network.model.to_unit(picture["image"].prepare(pixels))
    assert torch.allclose(unit[:, 0, 0, 0], torch.tensor([-1.0, 1.0, -0.6]), atol=1e-5)
    assert torch.allclose(network.model.to_prepared(unit), picture["image"].prepare(pixels), atol=1e-4)
    assert network.model.low_C.item() == pytest.approx(picture["image"].prepare(pixels)[0, 0, 0, 0].item())
    assert "model.low_C" in network.state_dict()


def test_samples_are_stored_pixels_and_disturb_nothing(picture):
    task = Adversarial()
    network = small(picture, task)
    before, modes = torch.get_rng_state(), [m.training for m in network.modules()]
    first = task.samples(network, 5, picture)["image"]
    assert first.shape == (5, 1, 8, 8)
    assert first.dtype == np.uint8
    assert torch.equal(before, torch.get_rng_state())
    assert modes == [m.training for m in network.modules()]
    assert np.array_equal(first, task.samples(network, 5, picture)["image"])


def test_evaluation_does_not_depend_on_batches(picture):
    task = Adversarial()
    network = small(picture, task).eval()
    task.players(network)
    batch = stored(picture)
    with torch.no_grad():
        whole = task.predict(network(batch))
        half = task.predict(network({name: values[4:] for name, values in batch.items()}))
    assert set(whole) == {"prediction", "prediction_fake", "real", "fake"}
    for name in whole:
        assert torch.allclose(whole[name][4:], half[name], atol=1e-5), name
    assert (
        task.answer({"prediction": whole["prediction"].numpy()}, picture)["prediction"][0]
        == whole["prediction"][0]
    )


def test_a_tiny_gan_learns(picture):
    """Stripes under changing light: the generator must find the mean picture, and not one picture alone."""
    task = Adversarial()
    random = np.random.default_rng(0)
    stripes = np.where(np.arange(8) % 2, 200, 90)
    pixels = (
        stripes[None, None, None, :] + random.normal(0, 20, (512, 1, 1, 1)) + np.zeros((512, 1, 8, 8))
    ).clip(0, 255)
    prepared = picture["image"].prepare(torch.from_numpy(pixels.astype(np.uint8)))
    network = small(picture, task, widths=[64])
    players = task.players(network)
    optimizers = [
        torch.optim.Adam([p for _, p in player.parameters], 1e-3, betas=(0.5, 0.999)) for player in players
    ]

    def judge():
        network.eval()
        meter = task.meter(picture, bootstrap=0)
        with torch.no_grad():
            found = task.predict(network({"image": prepared, "row": torch.arange(512)}))
        meter.update({name: values.numpy() for name, values in found.items()}, {"row": np.arange(512)})
        network.train()
        return {name: entry["value"] for name, entry in meter.result().items()}

    before = judge()
    torch.manual_seed(0)
    for _ in range(400):
        rows = torch.randint(0, 512, (64,))
        for player, optimizer in zip(players, optimizers, strict=True):
            total, count = player.loss({"image": prepared[rows]})
            optimizer.zero_grad()
            (total / count).backward()
            optimizer.step()
    after = judge()
    assert after["frechet"] < 0.3 * before["frechet"]
    drawn = task.samples(network, 256, picture)["image"].astype(float)
    assert np.abs(drawn.mean((0, 1, 2)) - stripes).max() < 20
    assert 0.3 < after["diversity"] < 5  # not collapsed


def test_mistakes_are_explained(picture, coin):
    with pytest.raises(UserError, match="learns no target"):
        Adversarial(target="y").head(4, 0, picture)
    with pytest.raises(UserError, match=r"one image field, the fields are: y \(index\)"):
        Adversarial().head(4, 0, coin)
    with pytest.raises(UserError, match="model of two players"):
        Adversarial().players(Network(torch.nn.Identity(), torch.nn.Identity()))
