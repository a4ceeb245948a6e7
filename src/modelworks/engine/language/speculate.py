"""Speculative decoding: guess a few tokens cheaply, let the network check them all in one pass.

    lookup = Lookup(ids); lookup.guess(8)           # what followed the same words earlier (Saxena 2023)
    draft = Draft(small_network); draft.guess(…)    # a smaller network's own continuation (Leviathan et al. 2023)

The network's own choice at each place, made from the same random number as without guesses, is compared with the
guess, and the first that differs ends the pass. So guesses change the time, never the text. One pass over a few
tokens costs little more than over one: reading the weights is what takes the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from modelworks.core.errors import UserError
from modelworks.engine.language.sampling import Sampler, Sampling

LONGEST, SHORTEST = 4, 2
"""Tokens in a row that must have come before; one token alone foretells little."""


class Lookup:
    """The continuations seen so far in one row."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids: list[int] = []
        self._next: dict[tuple[int, ...], int] = {}
        for token in ids:
            self.add(token)

    def add(self, token: int) -> None:
        """The row goes on with this token."""
        for size in range(SHORTEST, LONGEST + 1):
            if len(self.ids) >= size:
                self._next[tuple(self.ids[-size:])] = len(self.ids)
        self.ids.append(token)

    def guess(self, most: int) -> list[int]:
        """What followed the last time that the row's last tokens came; the longest match first."""
        for size in range(LONGEST, SHORTEST - 1, -1):
            at = self._next.get(tuple(self.ids[-size:])) if len(self.ids) >= size else None
            if at is not None:
                return self.ids[at : at + most]
        return []


class Draft:
    """A smaller network over the same tokens."""

    def __init__(self, network: Any, context: int) -> None:
        self.network, self.context = network.eval(), context
        self.name = network.model.name
        self.cache: Any = None

    def start(self, rows: int, length: int, sampling: Sampling, size: int) -> None:
        """Begin with these rows."""
        if not hasattr(self.network.head, "logits"):
            raise UserError("the draft is no language model")
        self.cache = self.network.model.new_cache(rows, min(length, self.context))
        plain = sampling.but(repetition_penalty=1.0, presence_penalty=0.0, frequency_penalty=0.0)
        self.sampler = Sampler(plain, rows, size)

    def keep(self, index: Sequence[int]) -> None:
        """Only these rows are left."""
        self.cache.keep(index)

    def guess(
        self, ids: Sequence[Sequence[int]], most: Sequence[int], uniforms_RW: Tensor
    ) -> list[list[int]]:
        """Up to `most` tokens for each row after its `ids`, drawn with the numbers that the network will draw with."""
        steps = min(max(most), self.cache.slots - max(map(len, ids)) + 1)
        guesses: list[list[int]] = [[] for _ in ids]
        if steps < 1:
            return guesses
        # What was guessed beyond the row's last token but one was, perhaps, not taken.
        self.cache.cut([min(n, len(row) - 1) for n, row in zip(self.cache.lengths, ids, strict=True)])
        fresh = [list(row[n:]) for n, row in zip(self.cache.lengths, ids, strict=True)]
        for step in range(steps):
            features_RD = last_features(self.network, self.name, self.cache, fresh)
            token_R = self.sampler.choose(self.network.head.logits(features_RD), uniforms_RW[:, step])
            fresh = [[token] for token in token_R.tolist()]
            for row, (token,) in zip(guesses, fresh, strict=True):
                row.append(token)
        return [row[:count] for row, count in zip(guesses, most, strict=True)]


def last_features(network: Any, name: str, cache: Any, fresh: Sequence[Sequence[int]]) -> Tensor:
    """Features of each row's last token once the fresh ones are read. (R, D)"""
    return read(network, name, cache, fresh, [1] * len(fresh))[:, 0]


def read(
    network: Any, name: str, cache: Any, fresh: Sequence[Sequence[int]], wanted: Sequence[int]
) -> Tensor:
    """Read fresh tokens of every row into the cache; features of each row's last `wanted` ones. (R, W, D)

    Rows with fewer repeat their last one at the end."""
    lengths, most = [len(row) for row in fresh], max(wanted)
    steps = max(lengths)
    even = min(lengths) == steps
    device = next(network.parameters()).device
    rows = fresh if even else [[*row, *[0] * (steps - len(row))] for row in fresh]
    batch = {name: torch.tensor(rows, dtype=torch.int64, device=device)}
    if not even:
        batch[f"{name}.length"] = torch.tensor(lengths, device=device)
    features_RTD = network.model(batch, cache)
    if even and min(wanted) == most:
        return features_RTD[:, steps - most :]
    length_R1 = torch.tensor(lengths, device=device)[:, None]
    first_R1 = length_R1 - torch.tensor(wanted, device=device)[:, None]
    at_RW = torch.minimum(first_R1 + torch.arange(most, device=device), length_R1 - 1).clamp(min=0)
    return features_RTD.gather(1, at_RW[:, :, None].expand(-1, -1, features_RTD.shape[2]))
