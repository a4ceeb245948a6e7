"""Prefixes: keys and values of how texts began, kept to be copied rather than computed again.

    prefixes = Prefixes(most=256 << 20)
    kv = prefixes.find(parent, tokens); number = prefixes.keep(parent, tokens, kv)

Whole blocks of look.py alone are kept: what a block holds depends on the tokens up to its end and on nothing else, so a
text that goes on from a copy is the same to the bit. The block used longest ago is forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor

Key = tuple[int, tuple[int, ...]]
"""Which block came before (0: none), and the tokens."""


class Prefixes:
    """Blocks by their beginnings."""

    def __init__(self, most: int) -> None:
        """`most`: bytes that all blocks may take together."""
        self.most, self.bytes = most, 0
        self._blocks: OrderedDict[Key, tuple[int, Tensor]] = OrderedDict()
        self._numbers = 0

    def __len__(self) -> int:
        return len(self._blocks)

    def find(self, parent: int, tokens: Sequence[int]) -> tuple[int, Tensor] | None:
        """(the block's number, keys and values) of these tokens after those of `parent`."""
        return self._blocks.get((parent, tuple(tokens)))

    def keep(self, parent: int, tokens: Sequence[int], kv: Tensor) -> int:
        """The number of a block that is kept from now on; 0 where it finds no room."""
        if kv.nbytes > self.most:
            return 0
        while self.bytes + kv.nbytes > self.most:
            _, (_, old) = self._blocks.popitem(last=False)
            self.bytes -= old.nbytes
        self._numbers += 1
        self._blocks[parent, tuple(tokens)] = (self._numbers, kv)
        self.bytes += kv.nbytes
        return self._numbers

    def use(self, keys: Sequence[Key]) -> None:
        """A text goes on from these blocks, first to last. The first are forgotten last: others lean on them."""
        for key in reversed(keys):
            if key in self._blocks:
                self._blocks.move_to_end(key)
