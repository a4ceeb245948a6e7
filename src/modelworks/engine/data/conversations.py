"""Rows of conversations as tasks learn them: what is said, and what of it are answers.

    Answers(store, "messages").gather(positions)        # tokens (B, T), NAME.next (B, T): −1 where no answer follows
    Pairs(store, "chosen", "rejected", reference)       # both answers of each row, the chosen ones first

Stored are ids, and ~id for the tokens of answers (fields/chat.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from modelworks.engine.data.store import Store


def with_next(stored_BT: Tensor, length_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(tokens_BT, next_BT, length_B) of stored ids; the last token has nothing to say."""
    stored_BT = stored_BT.to(torch.int64)
    tokens_BT = torch.where(stored_BT < 0, ~stored_BT, stored_BT)
    next_BT = torch.where(stored_BT[:, 1:] < 0, tokens_BT[:, 1:], -1)
    return tokens_BT[:, :-1].contiguous(), next_BT.contiguous(), length_B - 1


class Answers:
    """Conversations, with the tokens that follow each where they are an answer's."""

    steps = 1

    def __init__(self, store: Store, name: str) -> None:
        self.store, self.name, self.columns = store, name, store.columns

    def __len__(self) -> int:
        return len(self.store)

    def at(self, epoch: int) -> Answers:
        """The rows of an epoch: always the same."""
        return self

    def lengths(self, name: str, positions: np.ndarray) -> np.ndarray:
        """Tokens of each row."""
        return self.store.lengths(name, positions)

    def row_numbers(self, positions: np.ndarray) -> np.ndarray:
        """The dataset's row numbers."""
        return self.store.row_numbers(positions)

    def gather(self, positions: np.ndarray, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """NAME (B, T), NAME.next (B, T), NAME.length (B,) and `row` (B,)."""
        found = self.store.gather(positions, [self.name, "row"])
        tokens_BT, next_BT, length_B = with_next(found[self.name], found[f"{self.name}.length"])
        return {
            self.name: tokens_BT,
            f"{self.name}.length": length_B,
            f"{self.name}.next": next_BT,
            "row": found["row"],
        }


class Pairs(Answers):
    """Two conversations of each row, that differ in their answers."""

    def __init__(self, store: Store, name: str, other: str, reference: np.ndarray | None = None) -> None:
        super().__init__(store, name)
        self.other = other
        self.reference = torch.zeros(len(store), 2) if reference is None else torch.from_numpy(reference)
        """log π₀ of both answers of each row, (rows, 2)."""

    def lengths(self, name: str, positions: np.ndarray) -> np.ndarray:
        """Tokens of the longer of each row's two."""
        return np.maximum(self.store.lengths(self.name, positions), self.store.lengths(self.other, positions))

    def gather(self, positions: np.ndarray, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """As Answers gives, of 2B rows; `row` (B,) and NAME.reference (B, 2)."""
        found = self.store.gather(positions, [self.name, self.other, "row"])
        longest = max(found[self.name].shape[1], found[self.other].shape[1])
        both = [F.pad(found[one], (0, longest - found[one].shape[1])) for one in (self.name, self.other)]
        lengths = torch.cat([found[f"{one}.length"] for one in (self.name, self.other)])
        tokens_NT, next_NT, length_N = with_next(torch.cat(both), lengths)
        return {
            self.name: tokens_NT,
            f"{self.name}.length": length_N,
            f"{self.name}.next": next_NT,
            f"{self.name}.reference": self.reference[torch.from_numpy(positions)],
            "row": found["row"],
        }
