"""Tokens, frames and categories → vectors."""

from __future__ import annotations

from torch import nn

from modelworks.core.field import Layout
from modelworks.layers.linear import Linear


def embedding_width(categories: int) -> int:
    """A width for so many categories: min(600, 1.6 · n^0.56), the rule that fastai fitted."""
    return min(600, round(1.6 * categories**0.56))


def embed_steps(layout: Layout, width: int, padded: bool = True) -> nn.Module:
    """tokens_BT → x_BTD by look-up, frames_BTF → x_BTD by one linear layer. `padded`: code 0 is padding."""
    if layout.form == "tokens":  # padding's vector is zero and stays so
        return nn.Embedding(layout.size, width, padding_idx=0 if padded else None)
    return Linear(layout.shape[0], width)
