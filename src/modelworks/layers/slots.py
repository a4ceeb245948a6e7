"""Slots: a cache whose rows come and go, read in passes over any steps of any of them.

    slots = Slots(body.new_cache(rows=16, length=2048))
    slots.begin([(3, 1), (0, 64)])              # a pass over one new step of row 3 and 64 of row 0
    features_N1D = body({name: token_N1}, slots)
    slots.cut(0, 0)                             # row 0 is free again

A pass has a batch of N rows with one step each, whichever rows of the cache they belong to: nothing is padded. Steps
of one row are read in the blocks of look.py and single steps alone, so on a CPU with packed weights a row's features
are the same to the bit whatever else is read with it. L layers, B rows, G key and value heads, C = 2·G, S slots, N new
steps, E width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from modelworks.core.errors import UserError
from modelworks.layers.cache import Cache, Part, Span
from modelworks.layers.look import Band, blocks, lowest
from modelworks.layers.position import Position


class Slots:
    """What a body takes as its cache."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self._write = cache.kv_LBCSE.transpose(2, 3).unbind(0)
        self._pieces: list[tuple[int, int]] = []
        self._band: Band | None = None
        self._row_N = self._at_N = torch.empty(0, dtype=torch.int64)

    @property
    def lengths(self) -> list[int]:
        """Steps that each row holds."""
        return self.cache.lengths

    @property
    def bytes(self) -> int:
        """What keys and values take at most: fixed from the start."""
        return self.cache.kv_LBCSE.nbytes

    def cut(self, row: int, length: int) -> None:
        """Forget a row's steps beyond a length."""
        if not 0 <= length <= self.lengths[row]:
            raise ValueError(f"row {row} of {self.lengths[row]} steps cannot be cut to {length}")
        self.lengths[row] = length

    def taken(self, row: int, start: int, stop: int) -> Tensor:
        """A copy of some steps' keys and values, (L, C, T, E)."""
        return self.cache.kv_LBCSE[:, row, :, start:stop].clone()

    def give(self, row: int, kv_LCTE: Tensor, tokens: Sequence[int]) -> None:
        """Steps that were `taken` before follow those that a row holds."""
        start = self.lengths[row]
        stop = start + len(tokens)
        self.cache.kv_LBCSE[:, row, :, start:stop] = kv_LCTE
        if self.cache.token_BS is not None:
            self.cache.token_BS[row, start:stop] = torch.tensor(tokens)
        self.lengths[row] = stop

    # ------------------------------------------------------------------ a pass
    def begin(self, pieces: Sequence[tuple[int, int]]) -> None:
        """What the next pass reads: (row, new steps) of each row at most once."""
        device = self.cache.kv_LBCSE.device
        for row, steps in pieces:
            if self.lengths[row] + steps > self.cache.slots:
                raise UserError(
                    f"{self.lengths[row] + steps} steps are more than the cache's {self.cache.slots}"
                )
        self._pieces = list(pieces)
        at = [step for row, steps in pieces for step in range(self.lengths[row], self.lengths[row] + steps)]
        rows = [row for row, steps in pieces for _ in range(steps)]
        self._row_N, self._at_N = torch.tensor(rows, device=device), torch.tensor(at, device=device)

    def follow(self, token_N1: Tensor, back: int) -> Tensor:
        """The `back` tokens before each of these new ones, (N, back), which are kept."""
        assert self.cache.token_BS is not None
        self.cache.token_BS[self._row_N, self._at_N] = token_N1[:, 0]
        at_NP = self._at_N[:, None] + torch.arange(-back, 0, device=token_N1.device)
        before_NP = self.cache.token_BS[self._row_N[:, None], at_NP.clamp(min=0)]
        return before_NP.masked_fill(at_NP < 0, self.cache.none)

    def span(self, steps: int, length: Tensor | None, position: Position, blend: bool = False) -> Span:
        """Room for what `begin` was told; `lengths` grow."""
        assert steps == 1 and length is None and self._pieces
        kv, G = self.cache.kv_LBCSE, self.cache.heads
        self._band = self._band or Band(position, kv.dtype, kv.device)
        parts = []
        for row, count in self._pieces:
            start = self.lengths[row]
            for first, last in blocks(start, start + count):
                seen = slice(lowest(first, position), last)
                held = kv[:, row : row + 1, :, seen]
                mask = self._band.mask(first, last)
                parts.append(Part(last - first, held[:, :, :G].unbind(0), held[:, :, G:].unbind(0), mask))
            self.lengths[row] += count
        stop, at_N1 = int(self._at_N.max()) + 1, self._at_N[:, None]
        turns_N1F = position.made(stop, kv.device)[at_N1] if position.name == "rope" else None
        span = Span(kv.dtype, None, False, turns_N1F, blend)
        table_TD = position.table(stop, kv)
        span.added = None if table_TD is None else table_TD[at_N1]
        span.places, span.write = (self._row_N[None], self._at_N[None]), self._write
        span.parts, span.flat = parts, True
        self._pieces = []
        return span
