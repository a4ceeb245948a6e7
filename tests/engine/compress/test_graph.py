"""What belongs together is found in every kind of model: without units that are zeroed, the answers stay the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from modelworks.core.field import Layout
from modelworks.core.kinds import find
from modelworks.core.model import Model
from modelworks.engine.compress import graph
from modelworks.engine.compress.prune import narrow, shape, silence
from modelworks.engine.network import Network
from modelworks.layers.head import Head
from modelworks.models.seq2seq import START

torch.set_num_threads(1)

IMAGE = Layout("image", (1, 28, 28))
TOKENS = Layout("tokens", (), size=40, length=12)
FRAMES = Layout("frames", (3,), length=12)
TABLE = {
    "vector": Layout("vector", (3,), bins=[[-1.0, -0.5, 0.0, 0.5, 1.0]] * 3),
    "index": Layout("index", (), size=12),
}
# What must be found: channels of convolutions and layers, units of feed-forward networks, heads.
CASES: dict[str, tuple[str, dict, dict, dict[str, int]]] = {
    "cnn": ("cnn", {"channels": [6, 8], "hidden": [10]}, {"x": IMAGE}, {"channels": 3}),
    "cnn without a norm": (
        "cnn", {"channels": [6, 8], "normalisation": "none", "activation": "sigmoid", "gather": "flatten"},
        {"x": IMAGE}, {"channels": 3},
    ),
    "cnn over time": ("cnn", {"channels": [6], "hidden": [8]}, {"x": FRAMES}, {"channels": 2}),
    "vgg": ("vgg", {"width": 4, "hidden": [16], "dropout": 0.0}, {"x": IMAGE}, {"channels": 9}),
    "resnet": ("resnet", {"width": 4, "zero_residual": False}, {"x": IMAGE}, {"channels": 8}),
    "resnet with bottlenecks": (
        "resnet", {"depth": 50, "width": 2, "zero_residual": False}, {"x": IMAGE}, {"channels": 32},
    ),
    "densenet": ("densenet", {"growth": 4}, {"x": IMAGE}, {"channels": 58}),
    "vit": ("vit", {"width": 32, "depth": 2, "heads": 2}, {"x": IMAGE}, {"heads": 2, "units": 2}),
    "transformer": ("transformer", {"width": 32, "depth": 2}, {"x": TOKENS}, {"heads": 2, "units": 2}),
    "transformer, gated, shared keys": (
        "transformer",
        {"width": 32, "depth": 2, "heads": 8, "kv_heads": 4, "gated": True, "qk_norm": True, "positions": "rope"},
        {"x": TOKENS}, {"heads": 2, "units": 2},
    ),
    "transformer of experts": (
        "transformer", {"width": 32, "depth": 1, "experts": 3}, {"x": TOKENS}, {"heads": 1, "units": 3},
    ),
    "transformer with alibi": ("transformer", {"depth": 1, "positions": "alibi"}, {"x": TOKENS}, {"units": 1}),
    "ft_transformer": ("ft_transformer", {"width": 16, "depth": 2}, TABLE, {"heads": 2, "units": 2}),
    "mlp": ("mlp", {"hidden": [8, 6], "normalisation": "batch"}, TABLE, {"channels": 2}),
    "tabular": ("tabular", {"members": 3, "width": 8}, TABLE, {"channels": 2}),
    "tabular of one": ("tabular", {"members": 1, "width": 8}, TABLE, {"channels": 2}),
    "bag": ("bag", {"buckets": 97, "width": 8, "hidden": [6]}, {"x": TOKENS}, {"channels": 2}),
    "fusion": (
        "fusion",
        {"width": 16, "encoders": {"x": {"kind": "cnn", "channels": [4], "hidden": [6]},
                                   "table": {"kind": "mlp", "width": 8, "depth": 1}}},
        {"x": IMAGE, **TABLE}, {"channels": 3},
    ),
}  # fmt: skip


def build(case: str) -> Network:
    kind, settings, inputs, _ = CASES[case]
    torch.manual_seed(0)
    body = find(Model, kind).model_validate(settings).build(inputs)
    network = Network(body, Head(body.width, 3, max(getattr(body, "members", 0), 1))).eval()
    for (
        module
    ) in network.modules():  # norms that would hide a mix-up of channels are given numbers of their own
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                tensor.uniform_(0.5, 1.5)
    return network


def batch(inputs: dict[str, Layout], rows: int = 3) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    found = {}
    for name, layout in inputs.items():
        if layout.form in ("tokens", "index"):
            size = (rows, layout.length) if layout.length else (rows,)
            found[name] = torch.randint(1, layout.size, size)
        else:
            found[name] = torch.randn(rows, *([layout.length] if layout.length else []), *layout.shape)
        if layout.ragged:
            found[f"{name}.length"] = torch.arange(layout.length, layout.length - rows, -1)
    return found


def some(network: nn.Module, seed: int = 2) -> list[tuple[graph.Group, torch.Tensor]]:
    """About half of each group's units; as many of each that is tied."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (g, torch.randperm(g.count, generator=generator)[: -(-g.count // 2)].sort().values)
        for g in graph.groups(network)
    ]


@pytest.mark.parametrize("case", CASES)
def test_without_silent_units_the_answers_are_the_same(case: str) -> None:
    network, given = build(case), batch(CASES[case][2])
    before = network(given)
    kinds = [group.kind for group in graph.groups(network)]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == CASES[case][3]
    kept = some(network)
    with torch.no_grad():
        silence(network, kept)
        expected = network(given)
        assert not torch.allclose(expected, before, atol=1e-4)
        narrow(network, kept)
        torch.testing.assert_close(network(given), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_shapes_alone_make_room_for_the_tensors(case: str) -> None:
    network, fresh = build(case), build(case)
    narrow(network, some(network))
    state = network.state_dict()
    changed = {n: list(t.shape) for n, t in fresh.state_dict().items() if t.shape != state[n].shape}
    shape(fresh, {"kind": "prune", "tensors": {n: list(state[n].shape) for n in changed}})
    fresh.load_state_dict(state)
    given = batch(CASES[case][2])
    with torch.no_grad():
        torch.testing.assert_close(fresh(given), network(given), rtol=0, atol=0)


def test_numbers_of_layers_follow_their_tensors() -> None:
    network = build("cnn")
    narrow(network, some(network))
    first, second = network.model.layers
    assert (first.conv.out_channels, second.conv.in_channels, first.norm.num_features) == (3, 3, 3)
    dense = network.model.dense.layers[0]
    assert (dense.out_features, dense.in_features) == tuple(dense.weight.shape)


def test_seq2seq_loses_heads_of_all_three_kinds() -> None:
    torch.manual_seed(0)
    settings = {"width": 32, "heads": 4, "depth": 2}
    body = find(Model, "seq2seq").model_validate(settings).build({"read": TOKENS, "write": TOKENS})
    network = Network(body, nn.Identity()).eval()
    found = graph.groups(network)
    assert sorted(g.kind for g in found) == ["heads"] * 6 + ["units"] * 4
    assert {g.tied for g in found} == {"heads", "units"}
    kept = some(network)
    given = batch({"read": TOKENS, "write": TOKENS})
    with torch.no_grad():
        silence(network, kept)
        expected = network(given)
        narrow(network, kept)
        torch.testing.assert_close(network(given), expected, rtol=1e-4, atol=1e-5)
        # Written step by step from a cache, whose heads are as many in every layer.
        writing = body.begin({name: given[name] for name in ("read", "read.length")}, 12)
        tokens_BT = torch.cat((torch.full((3, 1), START), given["write"][:, :-1]), 1)
        steps = [writing.step(tokens_BT[:, at]) for at in range(12)]
        torch.testing.assert_close(torch.stack(steps, 1), body(given), rtol=1e-4, atol=1e-5)


def test_what_is_not_understood_keeps_its_width() -> None:
    class Odd(nn.Module):
        """Two layers whose units meet in an addition: none of its own says so."""

        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.width = nn.Linear(3, 5), nn.Linear(3, 5), 5

        def forward(self, given: dict[str, torch.Tensor]) -> torch.Tensor:
            return self.one(given["x"]) + self.two(given["x"])

    assert graph.groups(Network(Odd(), Head(5, 2))) == []
    normed = nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    assert graph.groups(normed) == []
    plain = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    (group,) = graph.groups(plain)
    assert (group.count, [axis.tensor for axis in group.made]) == (8, ["0.weight", "0.bias"])
