"""Quantise: weights in fewer bits, and layers that multiply whole numbers where this machine is the faster for it.

    {"kind": "quantise", "bits": 8, "layers": {"model.dense": {"inputs": [0, 6.1]}, …}, …}

Every matrix, table and kernel is stored in `bits` bits (layers/codes.py), or in the bits that `mixed` says; vectors
stay float32. `layers` are computed in whole numbers (layers/integer.py), static where they have `inputs`, dynamic
where they have none; all others in float32, of weights that are widened once when the Run is loaded. Which layers
gain is measured, one by one, on a real row: what a processor is good at no rule tells.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from modelworks.engine.compress.edits import NUMBERS, Parent, Step, Target
from modelworks.engine.network import Network
from modelworks.layers import codes
from modelworks.layers.integer import IntegerConv, IntegerLinear, available, suits

Kernels = Literal["float32", "static", "dynamic", "best"]
BITS = (16, 8, 6, 5, 4, 3)
CALIBRATION = 8
"""Batches of training rows that the ranges are taken from."""
GAIN = 0.95
"""Share of the time that a whole-number layer may take to be worth it."""
TOLERANCE = 0.2
"""Points, or per cent, that whole-number layers may lose more than float32 ones to be the best."""
WHOLE: tuple[Kernels, ...] = ("static", "dynamic")
EIGHT: tuple[Kernels, ...] = ("float32", *WHOLE)


def candidates(parent: Parent, target: Target) -> Iterator[Step]:
    """16 bits to 3; at 8 with each way of computing, elsewhere with the best of them; and trained for few bits."""
    whole = available() and parent.task.features != "next"
    for bits in BITS:
        kernels: tuple[Kernels, ...] = EIGHT if whole and bits == 8 else ()
        for kernel in kernels or (("best",) if whole and bits < 16 else ("float32",)):
            yield Step(name_of(bits, kernel), NUMBERS, _maker(bits, kernel), (bits + 0.1) / 32)
    if target.size is not None:
        yield Step("int8 and less", NUMBERS, _maker(8, "best" if whole else "float32", target.size), 0.24)
    if parent.steps:
        for bits in (4, 3):
            share = (bits + 0.6) / 32
            yield Step(f"int{bits} trained", NUMBERS, _maker(bits, "best", trained=True), share, True)


def name_of(bits: int, kernels: Kernels) -> str:
    """As the table says it."""
    return f"float{bits}" if bits >= 16 else f"int{bits}" + (f" {kernels}" if kernels in WHOLE else "")


def _maker(
    bits: int, kernels: Kernels, size: float | None = None, trained: bool = False
) -> Callable[[Network, Parent], dict[str, Any]]:
    def make(network: Network, parent: Parent) -> dict[str, Any]:
        kernel = _best(parent) if kernels == "best" else kernels
        return quantise(network, parent, bits, kernel, size=size, trained=trained)

    return make


def _best(parent: Parent) -> Kernels:
    """The way of computing that was fastest at 8 bits, of those that lost no more than float32 did."""
    tried: dict[Kernels, Any] = {}
    for kernel in EIGHT:
        if (row := parent.results.get(name_of(8, kernel))) is not None:
            tried[kernel] = row
    if "float32" not in tried:
        return "float32"
    bound = max(tried["float32"].price, 0.0) + TOLERANCE
    fastest: Kernels = "float32"
    for kernel, row in tried.items():
        if row.price <= bound and row.latency_share < tried[fastest].latency_share:
            fastest = kernel
    return fastest


def quantise(
    network: Network,
    parent: Parent,
    bits: int,
    kernels: Kernels = "float32",
    *,
    size: float | None = None,
    trained: bool = False,
) -> dict[str, Any]:
    """Do it, in place; returns the edit. `size`: bytes to keep below, by fewer bits where they do least harm."""
    if trained:
        _train(network, parent, bits)
    edit: dict[str, Any] = {"kind": "quantise", "bits": bits}
    if trained:
        edit["trained"] = parent.steps
    per: dict[str, int] = {}
    if size is not None and bits == 8:
        per = edit["mixed"] = mixed(network, size)
    stored = store(network, bits, per)
    if kernels != "float32" and bits < 16:
        edit["layers"] = chosen(network, parent, kernels)
        _swap(network, edit["layers"])
    if _faster_channels_last(network, parent):
        edit["channels_last"] = True
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    edit["float32_layers"] = sum(isinstance(module, (nn.Linear, nn.Conv2d)) for module in network.modules())
    network.__dict__["stored"] = stored
    network.__dict__["int8"] = bits <= 8
    return edit


def shape(network: Network, edit: Mapping[str, Any]) -> None:
    """Weights are read from their parts, and the layers that multiply whole numbers are put in place."""
    codes.readable(network)
    layers = edit.get("layers", {})
    if not isinstance(layers, dict):
        raise TypeError("layers wants a mapping")
    _swap(network, layers)
    if edit.get("channels_last"):
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    network.__dict__["int8"] = edit.get("bits", 32) <= 8  # how generation packs it


def tensors(network: Network) -> dict[str, Tensor]:
    """What is written of a network: its tensors, in parts where it was quantised."""
    found: dict[str, Tensor] = {}
    stored: Mapping[str, codes.Parts] = network.__dict__.get("stored", {})
    for name, tensor in network.state_dict().items():
        if name in stored:
            found |= {name + suffix: part for suffix, part in stored[name].items()}
        else:
            found[name] = tensor
    return found


def store(network: Network, bits: int, per: Mapping[str, int] | None = None) -> dict[str, codes.Parts]:
    """The parts of every tensor that is worth it; the network has the numbers that they stand for from here on."""
    found: dict[str, codes.Parts] = {}
    with torch.no_grad():
        for name, tensor in _worth(network):
            parts = codes.encode(tensor, (per or {}).get(name, bits))
            tensor.copy_(codes.decode(parts, tensor.shape))
            found[name] = parts
    return found


def _worth(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    for name, parameter in network.named_parameters():
        if parameter.dim() >= 2 and parameter.numel() >= codes.LEAST and parameter.dtype == torch.float32:
            yield name, parameter


def mixed(network: Network, size: float) -> dict[str, int]:
    """Bits for tensors that have less than 8, so that all together have at most `size` bytes.

    Greedy: the tensor next in turn is the one whose squared error grows least, relative to its own numbers, for each
    byte that it saves."""
    total = codes.size(network.state_dict())
    ladder, state, found = (8, 6, 5, 4), {}, {}
    for name, parameter in _worth(network):
        tensor, steps = parameter.detach(), []
        for bits in ladder:
            parts = codes.encode(tensor, bits)
            error = (codes.decode(parts, tensor.shape) - tensor).square().sum() / tensor.square().mean()
            steps.append((bits, codes.size(parts), float(error)))
        total += steps[0][1] - tensor.numel() * 4
        state[name] = steps
    # Names of tensors and of their scales stand in the file too, with types, shapes and places.
    total += sum(len(name) + 80 for name in network.state_dict()) + sum(len(name) + 86 for name in state)
    while total > size:
        ways = {
            name: (steps[1][2] - steps[0][2]) / max(steps[0][1] - steps[1][1], 1)
            for name, steps in state.items()
            if len(steps) > 1 and steps[1][1] < steps[0][1]
        }
        if not ways:
            break
        name = min(ways, key=ways.__getitem__)
        total += state[name][1][1] - state[name][0][1]
        state[name] = state[name][1:]
        found[name] = state[name][0][0]
    return found


@torch.no_grad()
def chosen(network: Network, parent: Parent, kernels: Kernels) -> dict[str, dict[str, Any]]:
    """The layers that whole numbers make faster, with the ranges that they are given."""
    layers = {name: module for name, module in network.named_modules() if suits(module)}
    seen = _watched(network, parent, layers)
    found: dict[str, dict[str, Any]] = {}
    for name, (row, inputs, outputs) in seen.items():
        base = layers[name]
        if isinstance(base, nn.Linear):
            edit = {"inputs": list(inputs)} if kernels == "static" else {}
        elif kernels == "static":
            edit = {"inputs": list(inputs), "outputs": list(outputs)}
        else:  # a convolution without calibration: torch has none that is fast
            continue
        if _seconds(_integer(base, edit), row) < GAIN * _seconds(base, row):
            found[name] = edit
    return found


@torch.no_grad()
def _faster_channels_last(network: Network, parent: Parent) -> bool:
    """Whether pictures are better laid out with their channels last: pooling is, convolutions of few channels not."""
    if not any(isinstance(module, (nn.Conv2d, IntegerConv)) for module in network.modules()):
        return False
    batch = parent.batches(1)[0]
    row = {name: values[:1] for name, values in batch.items()}
    twin = copy.deepcopy(network).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    one, two = (_seconds(partial(parent.task.forward, which), row) for which in (network, twin))
    return two < GAIN * one


Seen = tuple[Tensor, tuple[float, float], tuple[float, float]]


def _watched(network: Network, parent: Parent, layers: Mapping[str, nn.Module]) -> dict[str, Seen]:
    """Of each layer that is called as a layer: its input of one row, and the ranges of inputs and outputs. Layers
    whose weights alone are read are not among them."""
    seen: dict[str, Seen] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            x, y = inputs[0], output
            if not x.numel():
                return
            row, before, after = seen.get(name, (x, (0.0, 0.0), (0.0, 0.0)))
            seen[name] = row, _wider(before, x), _wider(after, y)

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in layers.items()]
    try:
        batches = parent.batches(CALIBRATION)
        rows = {name: values[:1] for name, values in batches[0].items()} if batches else {}
        for batch in ([rows] if rows else []) + list(batches):  # one row first: its inputs are kept
            parent.task.forward(network, batch)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _wider(range_: tuple[float, float], values: Tensor) -> tuple[float, float]:
    return min(range_[0], float(values.min())), max(range_[1], float(values.max()))


def _seconds(module: Callable[[Any], Any], x: Any) -> float:
    """Processor time of one call on one thread: the fastest of several rounds. Others may have the processor."""
    best = float("inf")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        module(x)
        for _ in range(7):
            started = time.thread_time()
            for _ in range(10):
                module(x)
            best = min(best, (time.thread_time() - started) / 10)
    finally:
        torch.set_num_threads(threads)
    return best


def _swap(network: nn.Module, layers: Mapping[str, Mapping[str, Any]]) -> None:
    for name, edit in layers.items():
        owner, _, last = name.rpartition(".")
        place = network.get_submodule(owner)
        setattr(place, last, _integer(place.get_submodule(last), edit))


def _integer(base: nn.Module, edit: Mapping[str, Any]) -> nn.Module:
    """The layer that multiplies whole numbers in the place of this one."""
    if not suits(base):
        raise TypeError(f"{type(base).__name__} has no whole-number layer")
    if isinstance(base, nn.Linear):
        return IntegerLinear(base, _range(edit["inputs"]) if "inputs" in edit else None).eval()
    assert isinstance(base, nn.Conv2d)
    return IntegerConv(base, _range(edit["inputs"]), _range(edit["outputs"])).eval()


def _range(told: Any) -> tuple[float, float]:
    low, high = (float(end) for end in told)
    if not -1e30 < low <= high < 1e30:
        raise ValueError(f"a range from {low:g} to {high:g}")
    return low, high


# ---------------------------------------------------------------------- training for few bits
class Rounded(nn.Module):
    """Weights as they will be stored, in the forward pass; the backward pass takes them as they are (straight-through
    estimator, Bengio et al. 2013; Jacob et al. 2018, arXiv:1712.05877)."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, weight: Tensor) -> Tensor:
        whole_N, scale_G = codes.rounded(weight, self.bits)
        each = -(-weight.numel() // len(scale_G))
        scale_N = scale_G.float().repeat_interleave(each)[: weight.numel()]
        return weight + ((whole_N.float() * scale_N).view_as(weight) - weight).detach()


def _train(network: Network, parent: Parent, bits: int) -> None:
    """Train the weights to be good once they are rounded."""
    places = []
    for name, _ in list(_worth(network)):
        owner, _, last = name.rpartition(".")
        module = network.get_submodule(owner)
        parametrize.register_parametrization(module, last, Rounded(bits), unsafe=True)
        places.append((module, last))
    try:
        parent.tune(network, parent.steps)
    finally:
        for module, last in places:
            parametrize.remove_parametrizations(module, last, leave_parametrized=False)
