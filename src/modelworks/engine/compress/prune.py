"""Prune: channels, hidden units, attention heads and whole blocks taken out, and the tensors made smaller for it.

    edit = prune(network, parent, flops=0.5)        # narrowed and tuned in place, to half of the FLOPs

Least important first (importance.py), by what a unit costs; a quarter of the way is tuned before more goes, after the
cubic schedule of Zhu & Gupta 2017 (arXiv:1710.01878). What belongs together is found by graph.py. The edit says shapes
alone: {"kind": "prune", "blocks": {list: kept indices}, "tensors": {name: shape}, "layers": …, "flops": …}.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from modelworks.core.errors import UserError
from modelworks.engine.compress.edits import STRUCTURE, Parent, Step, Target
from modelworks.engine.compress.flops import by_module
from modelworks.engine.compress.flops import flops as counted
from modelworks.engine.compress.graph import Group, groups, index, lists
from modelworks.engine.compress.importance import least, magnitude, taylor

ROUNDS = 4
"""Times that units are taken out, with tuning after each."""
FLOOR = 0.1
"""Share of a group's units that always stays."""
CHUNKS = 64
"""A group is taken apart in so many steps at the most."""
SHARES = (0.75, 0.5, 0.35, 0.25)
"""Shares of the FLOPs that the search may try."""
CALIBRATION = 4
"""Batches that importance is measured on."""


# ------------------------------------------------------------------------------------------- the edit
def shape(network: nn.Module, edit: Mapping[str, Any]) -> None:
    """Drop the blocks and give the tensors the shapes that the edit says."""
    known = {blocks.name: blocks for blocks in lists(network)}
    for name, kept in edit.get("blocks", {}).items():
        count = len(known[name].blocks)
        if not kept or kept != sorted(set(kept)) or kept[0] < 0 or kept[-1] >= count:
            raise ValueError(f"blocks of {name!r}: {kept} of {count}")
        _shorten(network, name, kept)
    state = network.state_dict(keep_vars=True)
    touched = set()
    for name, wanted in edit.get("tensors", {}).items():
        now = state[name].shape
        fits = len(wanted) == len(now) and all(1 <= new <= old for new, old in zip(wanted, now, strict=True))
        if not fits:
            raise ValueError(f"{name!r}: {list(now)} does not shrink to {wanted}")
        touched.add(_put(network, name, state[name].new_empty(wanted)))
    for path in touched:
        _settle(network, path)


def _put(network: nn.Module, name: str, values: Tensor) -> str:
    """Put a tensor in the place of another; returns its module's path."""
    path, _, own = name.rpartition(".")
    module = network.get_submodule(path)
    old = module._parameters.get(own)
    if old is not None:
        module._parameters[own] = nn.Parameter(values.detach(), requires_grad=old.requires_grad)
    else:
        module._buffers[own] = values
    return path


def _settle(network: nn.Module, path: str) -> None:
    """What a module, and the one that holds it, say of their sizes."""
    module: Any = network.get_submodule(path)
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, (nn.Conv1d, nn.Conv2d)):
        module.out_channels, module.in_channels = module.weight.shape[:2]
    elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
        module.num_features = len(module.running_mean)  # type: ignore[arg-type]
    elif isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        module.embedding_dim = module.weight.shape[1]
    holder: Any = network.get_submodule(path.rpartition(".")[0])
    for one in (module, holder):
        if hasattr(one, "resized"):
            one.resized()


def _shorten(network: Any, name: str, kept: Sequence[int]) -> None:
    holder, _, part = name.rpartition(".")
    blocks = list(network.get_submodule(name))
    setattr(network.get_submodule(holder), part, nn.ModuleList(blocks[at] for at in kept))


@torch.no_grad()
def narrow(network: nn.Module, kept: Sequence[tuple[Group, Tensor]]) -> None:
    """Keep only these units (ascending) of each group."""
    touched: dict[str, None] = {}
    for group, units in kept:
        for axis in (*group.made, *group.read):
            tensor = _current(network, axis.tensor)
            at = index(axis, group.count, units).to(tensor.device)
            touched[_put(network, axis.tensor, tensor.detach().index_select(axis.axis, at).contiguous())] = (
                None
            )
    for path in touched:
        _settle(network, path)


def _current(network: nn.Module, name: str) -> Tensor:
    path, _, own = name.rpartition(".")
    return getattr(network.get_submodule(path), own)


@torch.no_grad()
def silence(network: nn.Module, kept: Sequence[tuple[Group, Tensor]]) -> None:
    """Set to zero what reads the units that are not kept: the same answers as without them, at the same size."""
    for group, units in kept:
        gone = torch.ones(group.count, dtype=torch.bool)
        gone[units] = False
        axis = group.read[0]
        tensor = _current(network, axis.tensor)
        tensor.index_fill_(
            axis.axis, index(axis, group.count, gone.nonzero().flatten()).to(tensor.device), 0.0
        )


# ------------------------------------------------------------------------------------------- the choice
class Costs:
    """FLOPs of a network as its groups shrink."""

    def __init__(self, network: nn.Module, batch: Mapping[str, Tensor], found: Sequence[Group]) -> None:
        self.own = by_module(network, batch)
        self.whole = sum(self.own.values())
        self.touching = {name: [g for g in found if name in g.modules] for name in self.own}
        self.of = {g.name: [name for name in g.modules if name in self.own] for g in found}

    def module(self, name: str, left: Mapping[str, int]) -> float:
        """FLOPs of a module's own when so many units are left of each group."""
        return self.own[name] * math.prod(left[g.name] / g.count for g in self.touching[name])

    def total(self, left: Mapping[str, int]) -> float:
        """FLOPs of all modules."""
        return sum(self.module(name, left) for name in self.own)

    def saved(self, taken: Mapping[str, int], left: Mapping[str, int]) -> float:
        """FLOPs that go when so many more units are taken."""
        then = {**left, **{name: left[name] - count for name, count in taken.items()}}
        names = {module for name in taken for module in self.of[name]}
        return sum(self.module(name, left) - self.module(name, then) for name in names)


def choose(
    found: Sequence[Group], scores: Mapping[str, Tensor], costs: Costs, wanted: float
) -> list[tuple[Group, Tensor]]:
    """Which units stay, so that `wanted` FLOPs are left: what costs most for its importance goes first."""
    order = {group.name: scores[group.name].argsort(stable=True) for group in found}
    left = {group.name: group.count for group in found}
    bundles: dict[str, list[Group]] = {}
    for group in found:
        bundles.setdefault(group.tied or group.name, []).append(group)
    total = costs.total(left)
    while total > wanted:
        best: tuple[float, dict[str, int], float] | None = None
        for bundle in bundles.values():
            taken = {g.name: min(max(1, g.count // CHUNKS), left[g.name] - _floor(g)) for g in bundle}
            if min(taken.values()) < 1:
                continue
            saved = costs.saved(taken, left)
            if saved <= 0:
                continue
            lost = sum(float(_next(scores, order, left, g, taken[g.name])) for g in bundle)
            if best is None or lost / saved < best[0]:
                best = (lost / saved, taken, saved)
        if best is None:
            break  # no group has anything left to give
        for name, count in best[1].items():
            left[name] -= count
        total -= best[2]
    kept = []
    for group in found:
        if left[group.name] < group.count:
            gone = group.count - left[group.name]
            kept.append((group, order[group.name][gone:].sort().values))
    return kept


def _floor(group: Group) -> int:
    return max(1, math.ceil(FLOOR * group.count))


def _next(
    scores: Mapping[str, Tensor],
    order: Mapping[str, Tensor],
    left: Mapping[str, int],
    group: Group,
    count: int,
) -> Tensor:
    start = group.count - left[group.name]
    return scores[group.name][order[group.name][start : start + count]].sum()


# ------------------------------------------------------------------------------------------- the work
def prune(
    network: Any,
    parent: Parent,
    flops: float = 0.5,
    *,
    drop: int = 0,
    rounds: int = ROUNDS,
    steps: int | None = None,
    criterion: Literal["taylor", "magnitude"] = "taylor",
    echo: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Shrink a network in place to a share of its FLOPs, and tune it; returns the edit.

    `drop`: blocks to leave out of each list first. `steps`: of tuning, over all rounds; None: as the search grants."""
    players = parent.task.players(network)
    batches = parent.batches(CALIBRATION)
    if len(players) != 1 or not batches:
        raise UserError(
            "pruning wants a network with one loss, and rows that it was trained on",
            "is the data still there?",
        )
    names, before = (
        {name: tuple(t.shape) for name, t in network.state_dict().items()},
        counted(network, batches[0]),
    )
    steps = parent.steps if steps is None else steps
    blocks = _drop(network, parent, batches, drop)
    if blocks:
        names = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    start = counted(network, batches[0]) / before
    for number in range(1, rounds + 1):
        left = flops + (start - flops) * (1 - number / rounds) ** 3  # Zhu & Gupta's schedule
        found = groups(network)
        if not found and not blocks:
            raise UserError("this model has nothing that pruning understands", "--only quantise")
        costs = Costs(network, batches[0], found)
        if found and costs.whole > left * before:
            scores = (
                taylor(network, parent.task.players(network)[0].loss, batches, found)
                if criterion == "taylor"
                else magnitude(network, found)
            )
            kept = choose(found, scores, costs, left * before)
            _checked(network, kept, batches[0])
        if steps:
            parent.tune(network, steps // rounds)
        if echo is not None:
            echo(f"round {number}: {counted(network, batches[0]) / before:.1%} of the FLOPs")
    state = network.eval().state_dict()
    tensors = {name: list(t.shape) for name, t in state.items() if tuple(t.shape) != names[name]}
    rows = len(next(iter(batches[0].values())))
    return {
        "kind": "prune",
        "blocks": blocks,
        "tensors": tensors,
        "layers": _layers(tensors),
        "flops": {"before": before // rows, "after": counted(network, batches[0]) // rows},
    }


def _drop(network: Any, parent: Parent, batches: Any, drop: int) -> dict[str, list[int]]:
    """Leave out the blocks that are missed least; list's name → which stay."""
    kept: dict[str, list[int]] = {}
    loss = parent.task.players(network)[0].loss
    for blocks in lists(network) if drop else ():
        stay = list(range(len(blocks.blocks)))
        while len(blocks.blocks) - len(stay) < drop and len(stay) > max(1, blocks.first):
            at = least(network, loss, batches, blocks)
            del stay[at]
            _shorten(network, blocks.name, [i for i in range(len(stay) + 1) if i != at])
        if len(stay) < len(blocks.blocks):
            kept[blocks.name] = stay
    return kept


@torch.no_grad()
def _checked(network: Any, kept: Sequence[tuple[Group, Tensor]], batch: Mapping[str, Tensor]) -> None:
    """Narrow, and see that the answers are those of the whole network with the same units silenced: a model of the
    user's own may read its layers in a way that its modules do not tell."""
    silence(network, kept)
    expected = _answer(network.eval()(batch))
    try:
        narrow(network, kept)
        found = _answer(network(batch))
    except RuntimeError as error:
        raise UserError(f"this model reads its layers in a way that pruning does not see: {error}") from None
    size = float(expected.abs().max().clamp(min=1e-6))
    if expected.shape != found.shape or float((expected - found).abs().max()) > 1e-3 * size:
        raise UserError("this model reads its layers in a way that pruning does not see", "--only quantise")


def _answer(output: Any) -> Tensor:
    return (output if isinstance(output, Tensor) else output.features).detach().float()


def _layers(tensors: Mapping[str, Sequence[int]]) -> dict[str, dict[str, int]]:
    """Of each narrowed matrix, what goes in and comes out: for people."""
    return {
        name.rpartition(".")[0]: {"in": size[1], "out": size[0]}
        for name, size in tensors.items()
        if name.endswith(".weight") and len(size) in (2, 3, 4)
    }


# ------------------------------------------------------------------------------------------- the search
def candidates(parent: Parent, target: Target) -> Iterator[Step]:
    """Narrower networks, and where there are blocks, shorter ones."""
    network = parent.network()
    if not parent.batches(1) or len(parent.task.players(network)) != 1:
        return
    if groups(network):
        for share in SHARES:
            yield _step(f"prune to {share:.0%} of the FLOPs", share, 0)
    longest = max((len(blocks.blocks) for blocks in lists(network)), default=0)
    for drop in sorted({longest // 4, longest // 2} - {0}):
        if longest - drop >= 1:
            share = 1 - drop / longest
            yield _step(f"prune {drop} of {longest} blocks", share, drop)


def _step(name: str, share: float, drop: int) -> Step:
    done: list[tuple[dict[str, Any], dict[str, Tensor]]] = []

    def make(network: Any, parent: Parent) -> dict[str, Any]:
        if not done:  # plans that differ in what comes after begin with the same pruning
            edit = prune(network, parent, share, drop=drop, rounds=1 if drop else ROUNDS)
            done.append((edit, {name: tensor.clone() for name, tensor in network.state_dict().items()}))
            return edit
        edit, tensors = done[0]
        shape(network, edit)
        network.load_state_dict(tensors)
        return edit

    return Step(name, STRUCTURE, make, share, tunes=True)
