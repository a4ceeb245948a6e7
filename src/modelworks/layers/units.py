"""Units: what of a layer can be left out, told by the layer itself: channels, hidden units, heads.

    class Feedforward(nn.Module):
        def units(self):
            return [Units("units", self.down.in_features, (Axis("up.weight"),), (Axis("down.weight", 1),))]

A module says one of three things, or nothing and is left alone:
    units()     its own units: where they are made and where they are read
    chain()     the parts that its input goes through, one after another, nothing else reading in between
    ends()      (where it makes channels, where it reads them), of a layer that torch does not know
`engine/compress/graph.py` puts them together; nn.Sequential and torch's own layers are understood as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["channels", "units", "heads"]


@dataclass(frozen=True)
class Axis:
    """Where units lie in a tensor."""

    tensor: str
    """Its name, seen from the module that tells."""
    axis: int = 0
    widths: tuple[int, ...] = (1,)
    """Values of a unit in each of the runs that lie behind one another along the axis: (1, 1) for a gate's matrix
    joined to another, (positions,) for the channels of a flattened map."""


@dataclass(frozen=True)
class Units:
    """Units that are made in one place and read in another."""

    kind: Kind
    count: int
    made: tuple[Axis, ...]
    """Tensors that lose what makes a unit, norms in between included."""
    read: tuple[Axis, ...]
    """Tensors that lose what reads it: with zeros there, a unit is as good as gone."""


@dataclass(frozen=True)
class Flat:
    """In a chain: maps become vectors here, so many positions a channel."""

    positions: int
