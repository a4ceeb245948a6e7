"""Edits: what compression did to a network, as data, and how files of this folder take part in it.

    edits.apply(network, edits.of_run(run))     # modules of the shapes and kinds that the Run's tensors have

A compressed Run lists its edits in compression.json, in the order in which they were made: [{"kind": "quantise", …}].
A kind of edit is a file of this folder that has

    shape(network, edit)                       gives modules the shapes and kinds that the saved tensors need
    candidates(parent, target) -> [Step, …]    what the search may try (left out: nothing of this file)

`shape` is handed lists and numbers that may come from strangers: it checks them, and raises ValueError, KeyError or
TypeError where they do not fit; tensors only ever become smaller than the recipe's.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from modelworks.core.errors import UserError, did_you_mean
from modelworks.core.names import own

if TYPE_CHECKING:
    from types import ModuleType

    from torch import Tensor

    from modelworks.core.field import Field
    from modelworks.core.run import RunFolder
    from modelworks.core.task import Task
    from modelworks.engine.network import Network

FILE = "compression.json"
MOST = 1_000
"""Edits that a Run may list."""
STRUCTURE, RANK, SPARSE, NUMBERS = range(4)
"""What a step changes, in the order in which steps are made: shapes, factors, zeros, how numbers are held."""


class Parent(Protocol):
    """The Run that is compressed, as steps see it (engine/compress/parent.py)."""

    run: RunFolder
    task: Task
    fields: Mapping[str, Field]
    steps: int
    """Training steps that a step of the search may take; 0: none is to train."""
    results: dict[str, Any]
    """What was measured of each plan so far, by its name: engine/compress/measure.py's Row."""

    def network(self) -> Network:
        """A fresh copy of the parent's network, float32, in eval mode."""
        ...

    def batches(self, count: int) -> Sequence[dict[str, Tensor]]:
        """Up to `count` prepared batches of training rows; empty where the data is no longer there."""
        ...

    def tune(self, network: Network, steps: int, watch: Callable[[int], None] | None = None) -> None:
        """Train a network (its parameters that require gradients) on the parent's training rows, in place, by the
        recipe's own loop at a tenth of its learning rate. `watch(step)` is called before each step: a gradual
        schedule sets its masks there."""
        ...


@dataclass(frozen=True)
class Target:
    """What is asked for; exactly one of the three."""

    size: float | None = None
    """Bytes of the weights, at the most."""
    latency: float | None = None
    """Milliseconds of one row, at the most."""
    drop: float | None = None
    """Most that the primary metric may lose: points (hundredths of a metric of shares), or per cent of any other."""
    only: tuple[str, ...] = ()
    """Kinds of edits that may be made; empty: all."""


@dataclass(frozen=True)
class Step:
    """One thing that the search may do to a network. A plan has at most one step of each `order`."""

    name: str
    """As the table says it: `channels 50 %`."""
    order: int
    """STRUCTURE, RANK, SPARSE or NUMBERS."""
    make: Callable[[Network, Parent], dict[str, Any]]
    """Change the network (float32, with values) in place; returns the edit, {"kind": FILE'S NAME, …}."""
    share: float
    """The bytes that it is thought to leave, as a share of before: plans are tried from the mildest."""
    tunes: bool = False
    """Whether it trains, and so takes minutes rather than seconds: tried only where the others miss the target."""


@cache
def _file(name: str) -> ModuleType:
    return importlib.import_module(f"modelworks.engine.compress.{name}")


def offered(parent: Parent, target: Target) -> Iterator[Step]:
    """What all files of this folder offer."""
    for name in own("engine/compress"):
        if hasattr(_file(name), "candidates") and (not target.only or name in target.only):
            yield from _file(name).candidates(parent, target)


def of_run(run: RunFolder) -> list[dict[str, Any]]:
    """The edits of a Run; none for one that was not compressed."""
    told = run.json(FILE)
    found = told.get("edits", [])
    if not isinstance(found, list) or len(found) > MOST or not all(isinstance(edit, dict) for edit in found):
        raise UserError(f"{run.path / FILE}: edits wants a list of at most {MOST:,} mappings")
    return found


def apply(network: Network, edits: Sequence[Mapping[str, Any]], source: str = FILE) -> None:
    """Give a freshly built network the shapes and kinds that the saved tensors need."""
    for number, edit in enumerate(edits):
        where = f"{source}: edits[{number}]"
        kind = edit.get("kind")
        names = own("engine/compress")
        if kind not in names or not hasattr(_file(kind), "shape"):
            raise UserError(f"{where}: there is no edit {kind!r}", did_you_mean(str(kind), names))
        try:
            _file(kind).shape(network, edit)
        except UserError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
            raise UserError(f"{where}: does not fit the network: {type(error).__name__}: {error}") from None
