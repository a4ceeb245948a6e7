"""Capture: one forward and backward pass recorded as a flat graph of tensor operations, replayed without autograd.

Small networks on a CPU spend most of a step in Python and autograd bookkeeping; the recorded graph skips both and
runs the same kernels in the same order, so its numbers are the same bits. A pass that cannot be recorded exactly
(data-dependent control flow) is run line by line as before: every recording is checked against one real pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten
_NOOPS = {aten.detach.default, aten.detach_.default, aten.alias.default}
SHAPES = 4
"""Batch shapes recorded at the most; ragged data has too many to be worth it."""

Loss = Callable[[Mapping[str, Tensor]], tuple[Tensor, Any]]


class Captured:
    """Computes (loss sum, count) of a batch and leaves the gradient of the mean loss in `.grad`."""

    def __init__(self, network: nn.Module, parameters: Sequence[Tensor], loss: Loss) -> None:
        self.network, self.parameters, self.loss = network, list(parameters), loss
        own = {id(p) for p in self.parameters}
        named = dict(network.named_parameters())
        self._names = [name for name, p in named.items() if id(p) in own]
        self._leaves = [named[name] for name in self._names]
        self._rest = {
            name: t for name, t in network.state_dict(keep_vars=True).items() if name not in set(self._names)
        }
        self._graphs: dict[Any, Callable[..., Any] | None] = {}

    def __call__(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Any] | None:
        """None where this batch cannot be run so."""
        key = tuple((name, tuple(t.shape), t.dtype) for name, t in batch.items())
        if key not in self._graphs:
            self._graphs[key] = self._record(batch) if len(self._graphs) < SHAPES else None
        graph = self._graphs[key]
        if graph is None:
            return None
        for leaf in self._leaves:  # the last step's gradients make room for this one's
            leaf.grad = None
        with torch._C._AutoDispatchBelowAutograd():  # no autograd bookkeeping at all
            total, count, *gradients = graph(*self._leaves, *self._rest.values(), *batch.values())
        for leaf, gradient in zip(self._leaves, gradients, strict=True):
            # autograd would lay it out like the parameter; torch's fused Adam reads it as if it did, in silence.
            same = gradient.stride() == leaf.stride()
            leaf.grad = gradient if same else torch.empty_like(leaf).copy_(gradient)
        return total, count

    def _record(self, batch: Mapping[str, Tensor]) -> Callable[..., Any] | None:
        names, keys = self._names, list(batch)
        rest = list(self._rest)

        def once(*tensors: Tensor) -> tuple[Any, ...]:
            leaves = [t.detach().requires_grad_() for t in tensors[: len(names)]]
            others = tensors[len(names) : len(names) + len(rest)]
            values = dict(zip(keys, tensors[len(names) + len(rest) :], strict=True))
            swapped = dict(zip(names, leaves, strict=True)) | dict(zip(rest, others, strict=True))
            total, count = _with(self.network, swapped, self.loss, values)
            gradients = torch.autograd.grad(total / count, leaves)
            return total.detach(), count, *gradients

        copies = [t.detach().clone() for t in (*self._leaves, *self._rest.values())]
        state = torch.get_rng_state()
        try:
            recorded = _cleaned(make_fx(once)(*copies, *batch.values()))
            first = [t.detach().clone() for t in (*self._leaves, *self._rest.values())]
            second = [t.clone() for t in first]
            torch.set_rng_state(state)
            expected = [*once(*first, *batch.values()), *first]
            torch.set_rng_state(state)
            with torch._C._AutoDispatchBelowAutograd():
                found = [*recorded(*second, *batch.values()), *second]
            same = all(
                torch.equal(a, b) if isinstance(a, Tensor) else a == b
                for a, b in zip(expected, found, strict=True)
            )
            return recorded if same else None
        except Exception:
            return None  # whatever cannot be recorded, for whatever reason, is run as it is written
        finally:
            torch.set_rng_state(state)


def _with(
    network: nn.Module, tensors: Mapping[str, Tensor], loss: Loss, batch: Mapping[str, Tensor]
) -> tuple[Tensor, Any]:
    """The loss with the network's tensors replaced; the loss calls the network itself."""

    class _Call(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self) -> tuple[Tensor, Any]:
            return loss(batch)

    return functional_call(_Call(), {f"network.{name}": t for name, t in tensors.items()}, ())


def _cleaned(module: torch.fx.GraphModule) -> Callable[..., Any]:
    """Without what only autograd needs, and without dead operations; a plain function of tensors."""
    graph = module.graph
    for node in list(graph.nodes):
        if node.op == "call_function" and node.target in _NOOPS:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    for node in list(graph.nodes):  # t(t(x)) is x
        if _is(node, aten.t.default) and _is(node.args[0], aten.t.default):
            node.replace_all_uses_with(node.args[0].args[0])
    _fold(module)
    for node in reversed(list(graph.nodes)):  # users come after what they use: one pass backwards finds all
        if node.op == "call_function" and not node.users and _pure(node.target):
            graph.erase_node(node)
    graph.set_codegen(torch.fx.graph.CodeGen())
    graph.lint()
    module.recompile()
    return module.forward


def _fold(module: torch.fx.GraphModule) -> None:
    """Compute once what depends on shapes alone, such as the gradient of a mean."""
    known: dict[torch.fx.Node, Tensor] = {}
    for node in module.graph.nodes:
        if node.op != "call_function":
            continue
        if not _pure(node.target) or not isinstance(node.meta.get("val"), Tensor):
            if known.keys() & set(node.all_input_nodes):
                return  # perhaps written to in place: then every step needs its own
        elif node.target in (aten.ones_like.default, aten.zeros_like.default):
            like = node.meta["val"]
            known[node] = torch.full(
                like.shape, float(node.target is aten.ones_like.default), dtype=like.dtype, device=like.device
            )
        elif node.all_input_nodes and all(argument in known for argument in node.all_input_nodes):
            args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), lambda argument: known[argument])
            known[node] = node.target(*args, **kwargs)
    for number, (node, value) in enumerate(known.items()):
        if any(user not in known for user in node.users):
            name = f"folded_{number}"
            module.register_buffer(name, value, persistent=False)
            with module.graph.inserting_before(node):
                node.replace_all_uses_with(module.graph.get_attr(name))


def _is(node: Any, target: Any) -> bool:
    return getattr(node, "op", "") == "call_function" and node.target is target


def _pure(target: Any) -> bool:
    return (
        isinstance(target, torch._ops.OpOverload)
        and not target._schema.is_mutable
        and torch.Tag.nondeterministic_seeded not in target.tags
        and "batch_norm" not in str(target)  # writes its running statistics though its schema does not say so
    )
