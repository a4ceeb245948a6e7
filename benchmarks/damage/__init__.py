"""Corrupt and hostile inputs, made from small sound ones. Each file of this folder is a family; see ../hostile.py.

A family is `cases(dice) -> Iterator[Case]`: the same dice, the same cases.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

QUICK = ("--train.steps=2", "--train.batch_size=16", "--evaluate.bootstrap=0", "--name", "out")
"""What every training here is told."""


@dataclass(frozen=True)
class Case:
    """One command on one input."""

    family: str
    name: str
    argv: Sequence[str]
    files: Mapping[str, bytes] = field(default_factory=dict)
    prepare: Callable[[Path], None] | None = None
    """What files cannot say: links, pipes, damage to a copied Run."""
    runs: tuple[str, ...] = ()
    """Trained Runs to copy into the case's folder: rows, words, pictures, sounds."""
    expect: int | None = None
    """The exit code, where only one is right; None: 0 or 2."""
    rows: int | None = None
    """Rows of the input; where the command succeeds, all of them must be accounted for."""
    names: tuple[str, ...] = ()
    """An error must hold one of these; empty: the input's file name."""
    stdin: str = ""
    """A file of the case."""
    largest_file: int | None = None
    user: int | None = None
    forbidden: Mapping[str, str] = field(default_factory=dict)
    """File written by the command → what must not be in it."""


def flip(data: bytes, dice: random.Random, most: int = 20) -> bytes:
    """Some bytes changed."""
    changed = bytearray(data)
    for _ in range(dice.randrange(1, most)):
        changed[dice.randrange(len(changed))] = dice.randrange(256)
    return bytes(changed)


def cut(data: bytes, dice: random.Random) -> bytes:
    """The end missing."""
    return data[: dice.randrange(1, len(data))]


def insert(data: bytes, dice: random.Random) -> bytes:
    """Something put in between."""
    at = dice.randrange(len(data))
    return (
        data[:at]
        + dice.choice([b"\0", b"\xff\xfe", b'"', b"\n\n", b"\r", b",,,,", b"\x1b[31m", b"\xed\xa0\x80"])
        + data[at:]
    )


def swap(data: bytes, dice: random.Random) -> bytes:
    """Two halves in the wrong order."""
    at = dice.randrange(1, len(data))
    return data[at:] + data[:at]


DAMAGES = (flip, cut, insert, swap)
