"""Vectors of runs of tokens, looked up in one hashed table (n-gram hashing: Weinberger et al. 2009).

    x_BTD = embed(tokens_BT) + ngrams(tokens_BT)            # each step also knows the run that it ends

A table of runs gives a language model at once what its first layers would have to learn: which tokens came just
before. B rows, T steps, P = size - 1 tokens before, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROWS_A_TOKEN = 64
MOST_ROWS = 1 << 18
"""Rows of a table by default: so many for each token of the vocabulary, at most this many in all, since a dense
optimizer step updates every one."""


def table_rows(vocabulary: int) -> int:
    """Rows of a table of runs by default."""
    return min(MOST_ROWS, ROWS_A_TOKEN * vocabulary)


def mix(x: Tensor) -> Tensor:
    """31 bits in which every bit of x counts: the rounds of MurmurHash3 (Appleby 2011)."""
    for multiplier in (0x85EBCA6B, 0xC2B2AE35):
        x = (x * multiplier) & 0x7FFFFFFF
        x = x ^ (x >> 15)
    return x


class Ngrams(nn.Module):
    """The sum of the vectors of the runs of 2 … `longest` tokens that end at each step."""

    def __init__(self, vocabulary: int, width: int, longest: int, rows: int | None = None) -> None:
        super().__init__()
        self.vocabulary, self.longest = vocabulary, longest
        self.table = nn.Embedding(rows or table_rows(vocabulary), width)

    def forward(
        self, token_BT: Tensor, before_BP: Tensor | None = None, place_BT: Tensor | None = None
    ) -> Tensor:
        """`before_BP`: the tokens before the first step; `vocabulary`, which no token is, where a text begins.
        `place_BT`: each step's place in its document, where several stand in a row."""
        return self.table(self.runs(token_BT, before_BP, place_BT)).sum(-2)

    def runs(
        self, token_BT: Tensor, before_BP: Tensor | None = None, place_BT: Tensor | None = None
    ) -> Tensor:
        """Table rows, (B, T, P)."""
        if before_BP is None:
            before_BP = token_BT.new_full((token_BT.shape[0], self.longest - 1), self.vocabulary)
        whole_BN, steps = torch.cat((before_BP, token_BT), 1), token_BT.shape[1]
        found, hash_BT = [], mix(token_BT)
        for back in range(1, self.longest):
            start = self.longest - 1 - back
            earlier_BT = whole_BN[:, start : start + steps]
            if place_BT is not None:
                earlier_BT = earlier_BT.masked_fill(place_BT < back, self.vocabulary)
            hash_BT = mix(hash_BT ^ (earlier_BT + 1))
            found.append(hash_BT % self.table.num_embeddings)
        return torch.stack(found, -1)
