"""FLOPs: floating-point operations of a forward pass, counted by torch's own counter (two for a multiply-add).

    flops(network, batch)                   # of the whole batch
    by_module(network, batch)               # {"model.layers.0.conv": …}, each module's own, without its children's

Products, convolutions and attention count; norms, activations and look-ups do not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count


def _linear(x: Any, weight: Any, *rest: Any, out_shape: Any = None, **named: Any) -> int:
    # A layer whose weights are packed for oneDNN may hide their shape; what it gives never does.
    return 2 * _product(x) * out_shape[-1]


def _linear_plain(x: Any, weight: Any, *rest: Any, **named: Any) -> int:
    return 2 * _product(x) * weight[0]


def _attention(query: Any, key: Any, value: Any, *rest: Any, **named: Any) -> int:
    if key[1] != query[1]:  # heads that share keys: the kernel works on as many as there are queries
        key, value = [[key[0], query[1], *key[2:]], [value[0], query[1], *value[2:]]]
    return sdpa_flop_count(query, key, value)


def _product(shape: Any) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def _mapping() -> dict[Any, Any]:
    known: dict[Any, Any] = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        torch.ops.aten.linear: _linear_plain,
    }
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        known[torch.ops.mkldnn._linear_pointwise] = _linear
    return known


def by_module(network: nn.Module, batch: Mapping[str, Tensor]) -> Counter[str]:
    """FLOPs of each module itself."""
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=_mapping()) as counter:
        output = network.eval()(batch)
    root = type(network).__name__
    whole: Counter[str] = Counter()
    for name, counts in counter.get_flop_counts().items():
        if name != "Global":
            whole[name.removeprefix(root).removeprefix(".")] += sum(counts.values())
    own = Counter(whole)
    for name, count in whole.items():
        outer = name
        while outer:  # lists of modules are never called themselves, so they count nothing
            outer = outer.rpartition(".")[0]
            if outer in whole:
                own[outer] -= count
                break
    if hasattr(output, "weight_VD"):  # a language model's logits, which its loss computes
        own["head"] += 2 * output.features.numel() * len(output.weight_VD)
    return own


def flops(network: nn.Module, batch: Mapping[str, Tensor]) -> int:
    """FLOPs of a forward pass over a batch."""
    return sum(by_module(network, batch).values())


def flops_share(edits: Sequence[Mapping[str, Any]]) -> float:
    """The FLOPs that edits leave, as a share of the parent's; those that say nothing of them leave them all."""
    share = 1.0
    for edit in edits:
        counts = edit.get("flops") or {"before": 1, "after": 1}
        share *= counts["after"] / counts["before"]
    return share
