"""Look: attention of new steps over the keys and values of a cache.

    y_BTHE = look(q_BTHE, k_BGNE, v_BGNE, mask)
    mask = Band(position, dtype, device).mask(start=64, stop=128)

On a CPU what a step gets from a kernel depends, in the last bits, on how many steps it is read with. So there steps are
read in blocks that end at multiples of BLOCK, whatever else is read in the same pass: the same text gives the same
features however it was cut into passes at such places. It costs nothing (docs/experiments.md).
B rows, T steps, H query heads, G key and value heads, R = H / G, N steps looked at, E width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from modelworks.layers.position import Position

BLOCK = 64
"""Steps."""


def look(
    q_BTHE: Tensor, k_BGNE: Tensor, v_BGNE: Tensor, mask: Tensor | None = None, causal: bool = False
) -> Tensor:
    """What each step sees, (B, T, H, E)."""
    B, T, H, E = q_BTHE.shape
    G = k_BGNE.shape[1]
    if T == 1:  # the query heads that share keys are read as steps: nothing is repeated
        q_BGRE = q_BTHE.reshape(B, G, H // G, E)
        if mask is not None and mask.shape[1] == H:
            mask = mask.view(-1, G, H // G, mask.shape[-1])
        return F.scaled_dot_product_attention(q_BGRE, k_BGNE, v_BGNE, attn_mask=mask).reshape(B, 1, H, E)
    y_BHTE = F.scaled_dot_product_attention(
        q_BTHE.transpose(1, 2), k_BGNE, v_BGNE, attn_mask=mask, is_causal=causal, enable_gqa=G != H
    )
    return y_BHTE.transpose(1, 2)


def blocks(start: int, stop: int) -> list[tuple[int, int]]:
    """The steps from start to stop, cut at multiples of BLOCK."""
    edges = [start, *range((start // BLOCK + 1) * BLOCK, stop, BLOCK), stop]
    return list(zip(edges, edges[1:], strict=False))


def lowest(at: int, position: Position) -> int:
    """The first step that the one at `at` looks at."""
    return 0 if position.window is None else max(0, at + 1 - position.window)


class Band:
    """The masks of all blocks, each a part of one table: whether a step may look depends on the distance alone."""

    def __init__(self, position: Position, dtype: torch.dtype, device: Any) -> None:
        self._position, self._dtype, self._device = position, dtype, device
        self._table = torch.empty(0)
        self._before = -1

    def mask(self, start: int, stop: int) -> Tensor | None:
        """For the steps from start to stop, at most BLOCK, over all that the first of them sees and what follows."""
        alibi = self._position.name == "alibi"
        if stop - start == 1 and not alibi:
            return None
        if self._before < start:
            self._make(max(start, 2 * self._before, 4 * BLOCK))
        low, steps = lowest(start, self._position), stop - start
        return self._table[..., :steps, self._before - start + low : self._before + steps]

    def _make(self, before: int) -> None:
        at_T = torch.arange(before, before + BLOCK, device=self._device)
        seen_N = torch.arange(before + BLOCK, device=self._device)
        visible_TN = self._position.visible(at_T, seen_N)
        if self._position.name == "alibi":
            self._table = self._position.biased(at_T, seen_N, visible_TN, self._dtype)
        else:
            zeros_TN = torch.zeros(visible_TN.shape, dtype=self._dtype, device=self._device)
            self._table = zeros_TN.masked_fill(~visible_TN, -torch.inf)
        self._before = before
