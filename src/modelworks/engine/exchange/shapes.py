"""Shapes: the settings of a transformer as its network is now. Pruning leaves the recipe as it was.

model = as_built(recipe.model, network)
"""

from __future__ import annotations

from typing import Any

from modelworks.core.errors import UserError


def as_built(model: Any, network: Any) -> Any:
    """The model's settings with the depth, heads and hidden units that its blocks have. Raises UserError where the
    blocks differ, which no one number of a foreign format can say."""
    blocks = getattr(getattr(network, "model", None), "blocks", None)
    names = set(type(model).model_fields)
    if blocks is None or not {"depth", "heads"} <= names or not hasattr(blocks[0], "attention"):
        return model
    sizes = {
        "heads": {block.attention.heads for block in blocks},
        "kv_heads": {block.attention.kv_heads for block in blocks},
        "head_width": {block.attention.head_width for block in blocks},
        "hidden": {
            getattr(getattr(block.feedforward, "down", None), "in_features", None) for block in blocks
        },
    }
    odd = [name for name, found in sizes.items() if len(found) > 1]
    if odd:
        raise UserError(
            f"the network was pruned to blocks of different sizes ({', '.join(odd)})",
            "use its parent, or another compression",
        )
    found: dict[str, Any] = {name: values.pop() for name, values in sizes.items()}
    width, heads = network.model.width, found["heads"]
    hidden = getattr(model, "hidden", None) or round(width * model.ratio)
    if "head_width" in names:
        before = (model.depth, model.heads, model.kv_heads or model.heads, hidden)
        now = (len(blocks), heads, found["kv_heads"], found["hidden"] or hidden)
        return model if now == before else model.but(depth=len(blocks), **found)
    if heads * found["head_width"] != width or found["hidden"] not in (hidden, None):
        raise UserError(
            f"model {model.kind} has no settings for the heads and hidden units that pruning left",
            "use its parent",
        )
    return model if model.depth is None else model.but(depth=len(blocks))
