"""The keys and values of steps already read, so that a new step costs one pass over itself alone.

    cache = body.new_cache(rows=2, length=512)
    features_BTD = body(batch, cache)       # appends; cache.length_B has grown
    cache.cut([7, 12])                      # forget what lies beyond
    cache.keep([0, 0, 1])                   # row 0 twice, then row 1

Every row fills its slots from 0 on, whatever the others hold, so a slot is a position. L layers, B rows, G key and
value heads, C = 2·G (keys, then values), S slots, T new steps, N slots looked at, E width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from modelworks.core.errors import UserError
from modelworks.layers.look import Band, blocks, look, lowest
from modelworks.layers.position import Position, Rotary


class Cache:
    """Preallocated keys and values of every layer."""

    def __init__(
        self,
        layers: int,
        rows: int,
        heads: int,
        length: int,
        width: int,
        dtype: torch.dtype,
        device: Any = None,
    ) -> None:
        self.heads, self.slots = heads, length
        # One slot more than asked for: what a ragged batch is padded with is written there. Zeros, since even a
        # slot of weight 0 would spoil a sum if it held NaN.
        self.kv_LBCSE = torch.zeros(layers, rows, 2 * heads, length + 1, width, dtype=dtype, device=device)
        self.lengths = [0] * rows
        self.token_BS: Tensor | None = None
        """The tokens themselves, for models that look at the runs they form."""
        self.band: Band | None = None
        """Masks, made when they are first wanted."""

    @property
    def rows(self) -> int:
        return len(self.lengths)

    @property
    def length_B(self) -> Tensor:
        """Steps that each row holds; int64. Change it by `cut` and `keep` alone."""
        return torch.tensor(self.lengths, device=self.kv_LBCSE.device)

    def cut(self, length_B: Tensor | Sequence[int] | int) -> None:
        """Forget the steps beyond these lengths."""
        wanted = length_B.tolist() if isinstance(length_B, Tensor) else length_B
        wanted = [wanted] * self.rows if isinstance(wanted, int) else list(wanted)
        if len(wanted) != self.rows or not all(
            0 <= w <= n for w, n in zip(wanted, self.lengths, strict=False)
        ):
            raise ValueError(f"a cache of lengths {self.lengths} cannot be cut to {wanted}")
        self.lengths = wanted

    def keep(self, index_R: Tensor | Sequence[int]) -> None:
        """Only these rows, in this order; a row may come several times."""
        index = index_R.tolist() if isinstance(index_R, Tensor) else list(index_R)
        lengths = [self.lengths[row] for row in index]
        if index != list(range(self.rows)):
            used = max(lengths, default=0)
            at = torch.tensor(index, device=self.kv_LBCSE.device, dtype=torch.int64)
            old = self.kv_LBCSE
            taken = old[:, :, :, :used].index_select(1, at)
            if len(index) != self.rows:
                self.kv_LBCSE = old.new_zeros(old.shape[0], len(index), *old.shape[2:])
            self.kv_LBCSE[:, :, :, :used] = taken
            if self.token_BS is not None:
                self.token_BS = self.token_BS[at]
        self.lengths = lengths

    def remember_tokens(self, none: int) -> None:
        """Keep the tokens too; `none` stands for what is before the first."""
        shape = (self.rows, self.slots + 1)
        self.token_BS = torch.full(shape, none, dtype=torch.int64, device=self.kv_LBCSE.device)
        self.none = none

    def follow(self, token_BT: Tensor, back: int) -> Tensor:
        """The `back` tokens before these new ones, (B, back), which are kept; `lengths` stay, for `span` moves them."""
        if self.token_BS is None:
            raise ValueError("this cache does not keep tokens")
        length_B1 = self.length_B[:, None]
        at_BP = length_B1 + torch.arange(-back, 0, device=token_BT.device)
        before_BP = self.token_BS.gather(1, at_BP.clamp(min=0)).masked_fill(at_BP < 0, self.none)
        at_BT = length_B1 + torch.arange(token_BT.shape[1], device=token_BT.device)
        self.token_BS.scatter_(1, at_BT.clamp(max=self.slots), token_BT)
        return before_BP

    def span(self, steps: int, length: Tensor | None, position: Position, blend: bool = False) -> Span:
        """Room for new steps of every row, and what attention needs to know of them; `lengths` grow."""
        new = [steps] * self.rows if length is None else length.tolist()
        before, self.lengths = self.lengths, [b + n for b, n in zip(self.lengths, new, strict=True)]
        if max(self.lengths, default=0) > self.slots:
            self.lengths, wanted = before, max(self.lengths)
            raise UserError(f"{wanted} steps are more than the cache's {self.slots}", "ask for a longer one")
        if all(n == steps for n in new) and before.count(before[0]) == len(before):
            return _even(self, before[0], steps, position, blend)
        return _ragged(self, before, new, steps, position, blend)


class Part(NamedTuple):
    """Some of a pass's steps, and what they look at."""

    steps: int
    keys: Sequence[Tensor]
    """Of each layer, (B, G, N, E)."""
    values: Sequence[Tensor]
    mask: Tensor | None


class Span:
    """Where the new steps of one forward pass go, and what they see."""

    def __init__(
        self, dtype: torch.dtype, mask: Tensor | None, causal: bool, rotary: Rotary | None, blend: bool
    ) -> None:
        self.dtype, self.mask, self.causal, self.rotary = dtype, mask, causal, rotary
        self.first: list[Tensor] | None = [] if blend else None
        """The first layer's values (value residual)."""
        self.added: Tensor | None = None
        """Position vectors to add to the new steps."""
        self.write: Sequence[Tensor] = ()
        """Of each layer, the slots to fill (B, T, C, E); a ragged batch goes to `places` instead."""
        self.places: tuple[Tensor, Tensor] | None = None
        self.keys: Sequence[Tensor] = ()
        self.values: Sequence[Tensor] = ()
        self.parts: Sequence[Part] = ()
        """Steps that are read one part after another; none: all together."""
        self.flat = False
        """The batch's rows are the steps, of any rows of the cache."""

    def attend(self, layer: int, q_BTHE: Tensor, kv_BTCE: Tensor) -> Tensor:
        """Store the new keys and values; what each new step sees, (B, T, H, E)."""
        if self.flat:
            q_BTHE, kv_BTCE = q_BTHE.transpose(0, 1), kv_BTCE.transpose(0, 1)
        if self.places is None:
            self.write[layer].copy_(kv_BTCE)
        else:
            self.write[layer].index_put_(self.places, kv_BTCE)
        if not self.parts:
            return look(q_BTHE, self.keys[layer], self.values[layer], self.mask, self.causal)
        queries = q_BTHE.split([part.steps for part in self.parts], 1)
        seen = [
            look(q_BPHE, part.keys[layer], part.values[layer], part.mask)
            for q_BPHE, part in zip(queries, self.parts, strict=True)
        ]
        y_BTHE = seen[0] if len(seen) == 1 else torch.cat(seen, 1)
        return y_BTHE.transpose(0, 1) if self.flat else y_BTHE


def _even(cache: Cache, start: int, steps: int, position: Position, blend: bool) -> Span:
    """All rows are equally long: plain slices, and mostly no mask."""
    stop, window = start + steps, position.window
    low = 0 if window is None else max(0, start + 1 - window)
    kv, G = cache.kv_LBCSE, cache.heads
    mask, causal = None, False
    hidden = steps > 1  # a single step sees all there is within its window
    parts: list[Part] = []
    if hidden and kv.device.type == "cpu":
        band = cache.band = cache.band or Band(position, kv.dtype, kv.device)
        for first, last in blocks(start, stop):
            seen = slice(lowest(first, position), last)
            keys, values = kv[:, :, :G, seen].unbind(0), kv[:, :, G:, seen].unbind(0)
            parts.append(Part(last - first, keys, values, band.mask(first, last)))
    elif hidden and start == 0 and position.name != "alibi" and (window is None or window >= steps):
        causal = True
    elif hidden or position.name == "alibi":
        at_T = torch.arange(start, stop, device=kv.device)
        seen_N = torch.arange(low, stop, device=kv.device)
        mask = position.visible(at_T, seen_N) if hidden else None
        if position.name == "alibi":
            mask = position.biased(at_T, seen_N, mask, kv.dtype)
    turns = position.made(stop, kv.device)[start:] if position.name == "rope" else None
    span = Span(kv.dtype, mask, causal, turns, blend)
    table_TD = position.table(stop, kv)
    span.added = None if table_TD is None else table_TD[start:]
    span.write = kv[:, :, :, start:stop].transpose(2, 3).unbind(0)
    span.parts = parts
    span.keys = kv[:, :, :G, low:stop].unbind(0)
    span.values = kv[:, :, G:, low:stop].unbind(0)
    return span


def _ragged(
    cache: Cache, before: list[int], new: list[int], steps: int, position: Position, blend: bool
) -> Span:
    """Rows of unequal lengths: slots and masks by row."""
    kv, G = cache.kv_LBCSE, cache.heads
    step_T = torch.arange(steps, device=kv.device)
    start_B1 = torch.tensor(before, device=kv.device)[:, None]
    real_BT = step_T < torch.tensor(new, device=kv.device)[:, None]
    at_BT = start_B1 + step_T
    stop = max(cache.lengths)
    seen_N = torch.arange(stop, device=kv.device)
    mask_B1TN = position.visible(at_BT, seen_N)[:, None]
    mask = position.biased(at_BT, seen_N, mask_B1TN, kv.dtype) if position.name == "alibi" else mask_B1TN
    at_BT = at_BT.clamp(max=stop - 1)  # padding: any position will do
    turns = position.made(stop, kv.device)[at_BT] if position.name == "rope" else None
    span = Span(kv.dtype, mask, False, turns, blend)
    table_TD = position.table(stop, kv)
    span.added = None if table_TD is None else table_TD[at_BT]
    row_B1 = torch.arange(cache.rows, device=kv.device)[:, None]
    span.places = (row_B1, torch.where(real_BT, at_BT, cache.slots))
    span.write = kv.transpose(2, 3).unbind(0)
    span.keys = kv[:, :, :G, :stop].unbind(0)
    span.values = kv[:, :, G:, :stop].unbind(0)
    return span
