"""Low rank against numpy's singular values, zeros against numpy's sorting, and what strangers may not ask for."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from modelworks.core.errors import UserError
from modelworks.engine.compress import edits, factorise, magnitude, quantise
from modelworks.engine.network import Network
from modelworks.layers import codes
from modelworks.layers.linear import Linear


class Body(nn.Module):
    """Two layers that are called, and a matrix whose owner reads it."""

    def __init__(self):
        super().__init__()
        self.one, self.two = Linear(60, 40), nn.Linear(40, 30)
        self.read = nn.Linear(40, 30, bias=False)
        self.table = nn.Embedding(50, 16)

    def forward(self, batch):
        hidden = self.one(batch["x"]).relu()
        return self.two(hidden) + hidden @ self.read.weight.t()


def made(seed=0):
    torch.manual_seed(seed)
    return Network(Body(), nn.Linear(30, 4)).eval()


def parent(network, steps=0, tune=None):
    x = torch.randn(64, 60)
    task = SimpleNamespace(
        features="one", forward=lambda network, batch: network(batch), players=lambda network: (1,)
    )
    return SimpleNamespace(
        task=task, steps=steps, results={}, batches=lambda count: [{"x": x}], tune=tune, network=made
    )


def loaded(network, edit):
    """A freshly built network, shaped by the edits, with the tensors that were written."""
    other = made(1)
    edits.apply(other, [edit])
    other.load_state_dict(quantise.tensors(network))
    return other.eval()


@pytest.mark.parametrize("energy", [0.99, 0.9, 0.6])
def test_factors_are_the_best_of_their_rank(energy):
    network = made()
    with torch.no_grad():  # a spectrum that falls, as trained ones do
        network.model.one.weight.copy_(network.model.one.weight * torch.linspace(1, 0.01, 60) ** 8)
    before = network.model.one.weight.detach().double().numpy()
    edit = factorise.factorise(network, parent(network), energy)
    u, s, vt = np.linalg.svd(before)
    rank = edit["ranks"]["model.one"]
    share = np.cumsum(s**2) / np.sum(s**2)
    assert share[rank - 1] >= energy > (share[rank - 2] if rank > 1 else 0)
    best = (u[:, :rank] * s[:rank]) @ vt[:rank]
    np.testing.assert_allclose(network.model.one.weight.detach().numpy(), best, atol=1e-6)
    assert "model.read" not in edit["ranks"]
    x = torch.randn(5, 60)
    torch.testing.assert_close(loaded(network, edit)({"x": x}), network({"x": x}))


def test_layers_without_a_better_rank_are_left():
    network = made()
    with torch.no_grad():
        for layer in (network.model.one, network.model.two, network.head):
            layer.weight.copy_(
                torch.linalg.qr(torch.randn(60, 60))[0][: layer.out_features, : layer.in_features]
            )
    with pytest.raises(ValueError, match="no matrix"):
        factorise.factorise(network, parent(network), 0.999)


@pytest.mark.parametrize("zeros", [0.3, 0.75])
def test_the_smallest_of_all_weights_together_become_zero(zeros):
    network = made()
    with torch.no_grad():
        network.model.two.weight.mul_(0.5)
    before = {
        n: p.detach().clone() for n, p in network.named_parameters() if p.dim() == 2 and "table" not in n
    }
    magnitude.prune(network, parent(network), zeros, 0)
    everything = np.concatenate([weight.abs().flatten().numpy() for weight in before.values()])
    threshold = np.sort(everything)[round(zeros * len(everything)) - 1]
    for name, weight in before.items():
        expected = torch.where(weight.abs() > float(threshold), weight, torch.zeros(()))
        assert torch.equal(network.get_parameter(name), expected)
    assert not (network.model.table.weight == 0).any()
    quantise.quantise(network, parent(network), 8)
    edit = {"kind": "quantise", "bits": 8}
    x = torch.randn(5, 60)
    assert torch.equal(loaded(network, edit)({"x": x}), network({"x": x}))
    written = quantise.tensors(network)
    assert "model.one.weight.mask" in written
    assert codes.size(written) < codes.size(made().state_dict()) / 4


def test_zeros_grow_while_the_rest_trains_and_stay_zero():
    network, shares = made(), []

    def tune(network, steps, watch):
        optimizer = torch.optim.SGD(network.parameters(), 1e-5)
        for step in range(steps):
            watch(step)
            shares.append(float((network.model.one.weight == 0).float().mean()))
            optimizer.zero_grad()
            network({"x": torch.randn(8, 60)}).square().sum().backward()
            optimizer.step()

    edit = magnitude.prune(network, parent(network, tune=tune), 0.8, 20)
    assert edit == {"kind": "magnitude", "zeros": 0.8, "trained": 20}
    assert all(a <= b + 0.02 for a, b in zip(shares, shares[1:], strict=False))
    assert shares[0] < 0.4 < 0.7 < shares[-1]
    total = torch.cat(
        [p.flatten() for n, p in network.named_parameters() if p.dim() == 2 and "table" not in n]
    )
    assert abs(float((total == 0).float().mean()) - 0.8) < 0.01
    assert set(network.state_dict()) == set(made().state_dict())


@pytest.mark.parametrize("bits", [16, 8, 6, 4, 3])
@pytest.mark.parametrize("kernels", ["float32", "static", "dynamic"])
def test_a_quantised_network_is_written_and_read_to_the_bit(bits, kernels):
    network = made()
    with torch.no_grad():
        edit = quantise.quantise(network, parent(network), bits, kernels)
        x = torch.randn(7, 60)
        assert torch.equal(loaded(network, edit)({"x": x}), network({"x": x}))
    exact = made()
    assert float((network({"x": x}) - exact({"x": x})).detach().norm() / exact({"x": x}).detach().norm()) < {
        16: 1e-3, 8: 0.03, 6: 0.05, 4: 0.2, 3: 0.4}[bits]  # fmt: skip


def test_bits_are_taken_where_they_hurt_least_until_the_size_is_met():
    network = made()
    whole = codes.size(network.state_dict()) + 2000
    per = quantise.mixed(network, 0.22 * whole)
    assert per
    assert set(per.values()) <= {6, 5, 4}
    quantise.quantise(network, parent(network), 8, size=0.22 * whole)
    from safetensors.torch import save

    assert (
        len(save({n: t.detach().contiguous() for n, t in quantise.tensors(network).items()})) <= 0.22 * whole
    )


def test_training_for_few_bits_trains_what_is_stored():
    torch.manual_seed(0)
    x = torch.randn(256, 60)
    wanted = made()({"x": x}).detach()

    def tune(network, steps):
        optimizer = torch.optim.Adam(network.parameters(), 2e-3)
        for _ in range(steps):
            optimizer.zero_grad()
            (network({"x": x}) - wanted).square().mean().backward()
            optimizer.step()

    errors = []
    for trained in (False, True):
        network = made()
        quantise.quantise(network, parent(network, 150, tune), 3, trained=trained)
        errors.append(float((network({"x": x}) - wanted).detach().square().mean()))
        assert set(network.state_dict()) == set(made().state_dict())
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize(
    "edit",
    [
        {"kind": "nothing"},
        {"kind": "../../x"},
        {"kind": "search"},
        {"kind": 3},
        {},
        {"kind": "factorise", "ranks": {"model.one": 10**9}},
        {"kind": "factorise", "ranks": {"model.one": 0}},
        {"kind": "factorise", "ranks": {"model.one": "12"}},
        {"kind": "factorise", "ranks": {"model.table": 2}},
        {"kind": "factorise", "ranks": {"model.nothing": 2}},
        {"kind": "factorise"},
        {"kind": "quantise", "layers": {"model.table": {}}},
        {"kind": "quantise", "layers": {"model.one": {"inputs": [1]}}},
        {"kind": "quantise", "layers": {"model.one": {"inputs": ["a", "b"]}}},
        {"kind": "quantise", "layers": {"model.one": {"inputs": [float("nan"), 1]}}},
        {"kind": "quantise", "layers": {"model.one": {"inputs": [2, 1]}}},
        {"kind": "quantise", "layers": [1]},
        {"kind": "quantise", "layers": {"": {}}},
    ],
)
def test_edits_of_strangers_are_refused_in_one_line(edit):
    with pytest.raises(UserError, match=r"^compression.json: edits\[0\]") as caught:
        edits.apply(made(), [edit])
    assert "\n" not in str(caught.value)


def test_every_file_of_the_folder_that_offers_steps_offers_sound_ones():
    steps = list(edits.offered(parent(made(), steps=5), edits.Target(size=1000)))
    assert len({step.name for step in steps}) == len(steps) > 8
    assert all(0 < step.share < 1.2 and step.order in range(4) for step in steps)
