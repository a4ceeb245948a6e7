"""Pruning: sizes are those of models built small, scores are gates' gradients, a pruned Run is a Run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import modelworks
from modelworks.core.errors import UserError
from modelworks.core.field import Layout
from modelworks.core.kinds import find
from modelworks.core.model import Model
from modelworks.engine.compress import edits, graph
from modelworks.engine.compress.flops import by_module, flops
from modelworks.engine.compress.importance import least, taylor
from modelworks.engine.compress.parent import ParentRun
from modelworks.engine.compress.prune import Costs, choose, narrow, prune, shape
from modelworks.engine.network import Network
from modelworks.layers.head import Head
from modelworks.stages.compress import compress

torch.set_num_threads(1)
IMAGE, TOKENS = Layout("image", (1, 28, 28)), Layout("tokens", (), size=40, length=12)


def network(kind: str, layout: Layout, **settings: Any) -> Network:
    torch.manual_seed(0)
    body = find(Model, kind).model_validate(settings).build({"x": layout})
    return Network(body, Head(body.width, 3)).eval()


def sizes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def first(groups: list[graph.Group], share: float) -> list[tuple[graph.Group, torch.Tensor]]:
    return [(group, torch.arange(round(group.count * share))) for group in groups]


# ------------------------------------------------------------------------------------------- sizes
def test_a_narrowed_cnn_is_a_small_cnn() -> None:
    large = network("cnn", IMAGE, channels=[8, 16], hidden=[32])
    narrow(large, first(graph.groups(large), 0.5))
    assert sizes(large) == sizes(network("cnn", IMAGE, channels=[4, 8], hidden=[16]))


def test_a_narrowed_and_shortened_transformer_is_a_small_one() -> None:
    common = {"width": 32, "head_width": 8, "positions": "rope", "gated": True}
    large = network("transformer", TOKENS, heads=4, kv_heads=2, hidden=24, depth=3, **common)
    shape(large, {"blocks": {"model.blocks": [0, 2]}})
    narrow(large, first(graph.groups(large), 0.5))
    small = network("transformer", TOKENS, heads=2, kv_heads=1, hidden=12, depth=2, **common)
    assert sizes(large) == sizes(small)
    given = {"x": torch.randint(1, 40, (2, 12))}
    small.load_state_dict(large.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(large(given), small(given))


def test_a_narrowed_language_model_still_writes_from_its_cache() -> None:
    torch.manual_seed(0)
    settings = {"width": 32, "heads": 4, "kv_heads": 2, "depth": 2, "positions": "rope", "dropout": 0.0}
    body = find(Model, "transformer").model_validate(settings).build({"x": TOKENS}, "next")
    whole = Network(body, nn.Identity()).eval()
    found = graph.groups(whole)
    assert {group.tied for group in found} == {"heads", "units"}
    costs = Costs(whole, {"x": torch.randint(0, 40, (2, 12))}, found)
    scores = {group.name: torch.rand(group.count) for group in found}
    narrow(whole, choose(found, scores, costs, 0.4 * costs.whole))
    assert len({block.attention.kv_heads for block in body.blocks}) == 1
    assert len({block.feedforward.down.in_features for block in body.blocks}) == 1
    tokens = torch.randint(0, 40, (2, 8))
    cache = body.new_cache(2, 8)
    with torch.no_grad():
        steps = [body({"x": tokens[:, at : at + 1]}, cache) for at in range(8)]
        torch.testing.assert_close(torch.cat(steps, 1), body({"x": tokens}), rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------- scores, FLOPs
def test_the_score_is_the_squared_gradient_of_a_gate() -> None:
    whole = network("transformer", TOKENS, width=16, heads=2, hidden=6, depth=1, dropout=0.0)
    given = {"x": torch.randint(1, 40, (5, 12)), "y": torch.tensor([0, 1, 2, 1, 0])}

    def loss(batch: Any) -> tuple[torch.Tensor, int]:
        return F.cross_entropy(whole(batch), batch["y"], reduction="sum"), len(batch["y"])

    found = graph.groups(whole)
    scores = taylor(whole, loss, [given], found)
    gates = {name: torch.ones(size, requires_grad=True) for name, size in (("units", 6), ("heads", 2))}
    block = whole.model.blocks[0]

    def gated(gate: torch.Tensor, width: int) -> Callable[..., Any]:
        return lambda module, inputs: (inputs[0] * gate.repeat_interleave(width),)

    block.feedforward.down.register_forward_pre_hook(gated(gates["units"], 1))
    block.attention.out.register_forward_pre_hook(gated(gates["heads"], 8))
    total, count = loss(given)
    (total / count).backward()
    for group in found:
        gradient = gates[group.kind].grad
        assert gradient is not None
        torch.testing.assert_close(scores[group.name], gradient.square(), rtol=1e-4, atol=1e-9)


def test_the_block_that_does_nothing_is_missed_least() -> None:
    whole = network("transformer", TOKENS, width=16, heads=2, hidden=8, depth=3, dropout=0.0)
    with torch.no_grad():
        for part in (whole.model.blocks[1].attention.out, whole.model.blocks[1].feedforward.down):
            part.weight.zero_()
            part.bias.zero_()
    given = {"x": torch.randint(1, 40, (8, 12))}
    before = whole(given).detach()

    def loss(batch: Any) -> tuple[torch.Tensor, int]:
        return F.mse_loss(whole(batch), before, reduction="sum"), len(before)

    (blocks,) = graph.lists(whole)
    assert least(whole, loss, [given], blocks) == 1
    assert len(whole.model.blocks) == 3  # put back
    shape(whole, {"blocks": {"model.blocks": [0, 2]}})
    torch.testing.assert_close(whole(given), before)


def test_flops_are_those_of_the_formulas() -> None:
    whole = network("cnn", IMAGE, channels=[4, 8], hidden=[16], gather="flatten", normalisation="none")
    given = {"x": torch.zeros(3, 1, 28, 28)}
    expected = 28 * 28 * 4 * 9 + 14 * 14 * 8 * 4 * 9 + 49 * 8 * 16 + 16 * 3
    assert flops(whole, given) == 2 * 3 * expected
    encoder = network("transformer", TOKENS, width=128, heads=4, depth=1, pooling="mean")
    steps, rows = 12, 64  # as many as go to the other kernel
    own = by_module(encoder, {"x": torch.ones(rows, steps, dtype=torch.int64)})
    assert own["model.blocks.0.feedforward.up"] == 2 * rows * steps * 128 * 512
    assert own["model.blocks.0.attention.qkv"] == 2 * rows * steps * 128 * 384
    assert own["model.blocks.0.attention"] == 2 * 2 * rows * steps * steps * 128


@pytest.mark.parametrize("kind, layout", [("cnn", IMAGE), ("vit", IMAGE), ("transformer", TOKENS)])
def test_what_is_chosen_costs_what_was_foretold(kind: str, layout: Layout) -> None:
    small = {"cnn": {"channels": [8, 16]}, "vit": {"width": 32, "heads": 4, "depth": 2}}
    whole = network(kind, layout, **small.get(kind, {"width": 32, "heads": 4, "depth": 2}))
    given = {"x": torch.randn(2, 1, 28, 28) if layout is IMAGE else torch.randint(1, 40, (2, 12))}
    found = graph.groups(whole)
    costs = Costs(whole, given, found)
    scores = {group.name: torch.rand(group.count) + 0.1 for group in found}
    kept = choose(found, scores, costs, 0.5 * costs.whole)
    left = {group.name: group.count for group in found} | {group.name: len(units) for group, units in kept}
    narrow(whole, kept)
    assert flops(whole, given) == pytest.approx(costs.total(left), rel=1e-6)
    assert 0.4 < flops(whole, given) / costs.whole <= 0.5
    for group, units in kept:  # the least important are gone
        gone = np.setdiff1d(np.arange(group.count), units.numpy())
        assert scores[group.name][torch.from_numpy(gone)].max() <= scores[group.name][units].min()


# ------------------------------------------------------------------------------------------- edits
@pytest.mark.parametrize(
    "edit",
    [
        {"tensors": {"model.layers.0.conv.weight": [9, 1, 3, 3]}},  # grows
        {"tensors": {"model.layers.0.conv.weight": [4, 1, 3]}},
        {"tensors": {"model.layers.0.conv.weight": [0, 1, 3, 3]}},
        {"tensors": {"model.layers.7.conv.weight": [1]}},
        {"tensors": {"model.__class__": [1]}},
        {"tensors": [1]},
        {"blocks": {"model.layers": [0]}},
        {"blocks": {"model": [0]}},
        {"blocks": {"model.blocks": [1, 0]}},
        {"blocks": {"model.blocks": [0, 5]}},
        {"blocks": {"model.blocks": []}},
        {"tensors": {"model.blocks.0.attention.out.weight": [32, 7]}},  # no whole head
    ],
)
def test_edits_of_strangers_are_refused(edit: dict[str, Any]) -> None:
    cnn, encoder = (
        network("cnn", IMAGE, channels=[8]),
        network("transformer", TOKENS, width=32, heads=4, depth=2),
    )
    one = encoder if "blocks" in str(edit) else cnn
    before = sum(p.numel() for p in one.parameters())
    with pytest.raises(UserError, match=r"edits\[0\]"):
        edits.apply(one, [{"kind": "prune", **edit}])
    assert sum(p.numel() for p in one.parameters()) <= before


# ------------------------------------------------------------------------------------------- Runs
@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> modelworks.Run:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("pruned")
        patch.chdir(folder)
        patch.setenv("MODELWORKS_STORE", str(folder / "store"))
        drawn = np.random.default_rng(0).normal(size=(900, 4))
        label = np.where(drawn[:, 0] * drawn[:, 1] > 0, "same", "other")
        rows = [",".join([*(f"{x:.5f}" for x in row), name]) for row, name in zip(drawn, label, strict=True)]
        (folder / "rows.csv").write_text("\n".join(["x0,x1,x2,x3,y", *rows]) + "\n")
        train = {"epochs": 20.0, "batch_size": 64, "optimizer": {"kind": "adam", "lr": 0.01}, "threads": 1}
        given = {"model": {"kind": "mlp", "width": 64}, "train": train}
        path = modelworks.train("rows.csv", "y", name="whole", settings=given, quiet=True).path
        return modelworks.Run(path.resolve())


def test_half_the_flops_and_nearly_all_of_what_was_learned(
    run: modelworks.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.path.parent.parent)
    parent = ParentRun.open(run, {}, steps=120)
    pruned = parent.network()
    edit = prune(pruned, parent, 0.5)
    assert edit["flops"]["after"] <= 0.5 * edit["flops"]["before"]
    assert edit["flops"]["before"] == 2 * (4 * 64 + 64 * 64 + 64 * 2)
    given = parent.batches(1)[0]
    with torch.no_grad():
        same = parent.network()(given).argmax(1) == pruned(given).argmax(1)
    assert same.float().mean() > 0.85
    fresh = parent.network()
    edits.apply(fresh, [edit])
    assert sizes(fresh) == sizes(pruned)


def test_compress_prunes_when_asked_to_and_the_run_answers(
    run: modelworks.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.path.parent.parent)
    small = compress(run, "drop=5", "small", only=("prune",), steps=60, tries=1, quiet=True)
    told = small.json("compression.json")
    assert [edit["kind"] for edit in told["edits"]] == ["prune"]
    chosen = next(row for row in told["table"] if row["what"] == told["chosen"])
    flops = told["edits"][0]["flops"]
    assert chosen["flops_share"] == pytest.approx(flops["after"] / flops["before"])
    assert chosen["size_share"] < 0.9
    columns = {f"x{n}": [0.5, -0.5] for n in range(4)}
    assert len(modelworks.load("small").predict(columns)["prediction"]) == 2
    with pytest.raises(UserError, match="no such edit"):
        compress(run, "drop=5", "other", only=("prun",), quiet=True)
