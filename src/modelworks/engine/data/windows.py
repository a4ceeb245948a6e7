"""Windows: the token stream of a corpus cut into windows, with a store's interface.

    rows = rows_of(prepared, "train", task, fields)
    rows.gather(positions)      # {"text": tokens_BT, "text.next": targets_BT, …}

Documents lie end to end in the store; a window starts wherever the last one ended, so nothing is padded and no
token is lost. Each epoch moves the windows by another offset, so that a token is not always seen at the same place.
Where the task has `documents`, windows also say which of their documents each token belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from modelworks.core.errors import DataError, UserError
from modelworks.core.field import Field
from modelworks.core.task import Task
from modelworks.engine.data.conversations import Answers, Pairs
from modelworks.engine.data.prepare import Prepared
from modelworks.engine.data.store import Column, Rows, Store

_GOLDEN = 0.6180339887498949
"""Multiples of it, modulo 1, are spread as evenly as can be, however many there are."""


def rows_of(prepared: Prepared, split: str, task: Task, fields: Mapping[str, Field]) -> Rows:
    """What a split is trained on or judged by: its rows, or windows of its text."""
    store = prepared.store(split)
    if task.view == "answers":
        return Answers(store, task.target)
    if task.view == "pairs":
        return Pairs(store, task.target, getattr(task, "rejected"), prepared.reference.get(split))  # noqa: B009
    if not task.packed:
        return store
    end = None
    if getattr(task, "documents", False):
        end = int(fields[task.target].state["end"])
        if end < 0:
            raise UserError(
                f"task.documents: the texts of {task.target!r} have no ends",
                f"fields.{task.target}.end: true",
            )
    return Windows(store, task.target, fields[task.target].layout.length, whole=split != "train", end=end)


class Windows:
    """Windows of `context` tokens and of the tokens that follow each.

    `whole`: every token but the first is a target exactly once, and the last window is padded (targets −1); else
    all windows are full, and a remainder shorter than one is left to other epochs' offsets. `end`: the token that ends
    a document, where windows are to say which document a token belongs to; it opens the next one, so that what a
    document begins with is foretold from it alone, as where a text is written from nothing."""

    def __init__(
        self, store: Store, name: str, context: int, whole: bool, shift: int = 0, end: int | None = None
    ) -> None:
        self.store, self.name, self.whole, self.shift, self.end = store, name, whole, shift, end
        self.tokens = store.flat(name)
        self.targets = len(self.tokens) - 1
        if self.targets < 1:
            raise DataError(f"{name!r}: too little text: {len(self.tokens)} tokens")
        # No window is longer than the text: the rest of it would be padding.
        self.context = self.steps = context = min(context, self.targets)
        self.rows = -(-self.targets // context) if whole else max(1, self.targets // context)
        self.columns = {name: Column("int64", (context,), False, "")}

    def __len__(self) -> int:
        return self.rows

    def at(self, epoch: int) -> Windows:
        """The windows of an epoch."""
        shift = round(epoch * _GOLDEN * self.context) % self.context
        return Windows(self.store, self.name, self.context, self.whole, shift, self.end)

    def row_numbers(self, positions: np.ndarray) -> np.ndarray:
        """The dataset's row that each window begins in."""
        return self.store.row_numbers(self.store.row_at(self.name, self._starts(positions)))

    def lengths(self, name: str, positions: np.ndarray) -> np.ndarray:
        """Tokens of each window."""
        return np.minimum(self.targets - self._starts(positions), self.context)

    def _starts(self, positions: np.ndarray) -> np.ndarray:
        starts = positions * self.context + (0 if self.whole else self.shift)
        return starts if self.whole else np.minimum(starts, max(self.targets - self.context, 0))

    def gather(self, positions: np.ndarray, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Windows: NAME (B, T) int64, NAME.next (B, T) int64 with −1 beyond the end, and their numbers as `row`; with
        `end` NAME.document (B, T), from 0 on in each window."""
        place_BT = torch.from_numpy(self._starts(positions))[:, None] + torch.arange(self.context + 1)
        short = int(place_BT[:, -1].max()) > self.targets
        window_BT = self.tokens[place_BT.clamp(max=self.targets) if short else place_BT].to(torch.int64)
        tokens_BT, next_BT = window_BT[:, :-1].contiguous(), window_BT[:, 1:].contiguous()
        if short:
            # Not in place: of a single window both are views of the same memory.
            tokens_BT = tokens_BT.masked_fill(place_BT[:, :-1] > self.targets, 0)
            next_BT = next_BT.masked_fill(place_BT[:, 1:] > self.targets, -1)
        self.store.release(tokens_BT.nbytes)
        batch = {self.name: tokens_BT, f"{self.name}.next": next_BT, "row": torch.from_numpy(positions)}
        if self.end is not None:
            batch[f"{self.name}.document"] = (tokens_BT == self.end).cumsum(1)
        return batch
