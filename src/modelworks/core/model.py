"""Model: an architecture. Settings whose `build` gives a plain, single-device nn.Module.

The module's `forward(batch: dict[str, Tensor]) -> features` reads the inputs it was built for by name, and
returns features_BD, or features_BKD for an ensemble of K members, or features_BTD where `features="token"`
or "next": a vector a step, which in "next" knows nothing of the steps after its own.
It must have the attribute `width: int` (D) and, for an ensemble, `members: int` (K). Over tokens, a body that gives
a vector a step has its table as `embedding` (nn.Embedding), so that a head can share it.
A kind is one file in `models/` with one public class deriving from Model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from modelworks.core.errors import UserError
from modelworks.core.field import Layout
from modelworks.core.settings import Kinded

if TYPE_CHECKING:
    from torch import nn

Features = Literal["row", "token", "next"]
"""One vector a row, one a step, or one a step that sees only itself and the past."""


class Model(Kinded):
    """Contract of an architecture."""

    folder: ClassVar[str] = "models"
    forms: ClassVar[tuple[str, ...]] = ()
    """The forms of input it reads (see core/field.py)."""
    gives: ClassVar[tuple[Features, ...]] = ("row",)
    """What it can be built to give."""
    presets: ClassVar[tuple[str, ...]] = ()
    """Settings that stand for many others: where one is given, what a task would suggest is left out."""
    several: ClassVar[bool] = False
    """Whether it takes more than one input."""

    @classmethod
    def recognise(cls, inputs: Mapping[str, str], rows: int) -> float:
        """How good a default it is, 0 to 1, for inputs of these forms (name → form) and this many rows."""
        return 0.0

    def regime(self, rows: int) -> dict[str, Any]:
        """`train:` settings that suit this architecture for so many training rows, where the recipe says nothing."""
        return {}

    def build(self, inputs: Mapping[str, Layout], features: Features = "row") -> nn.Module:
        """The architecture for these inputs, initialised from torch's current random state.

        Raises UserError when the inputs do not fit; `self.check(inputs)` says so in the common words."""
        raise NotImplementedError

    def check(self, inputs: Mapping[str, Layout]) -> None:
        """Refuse inputs that this architecture cannot read."""
        listed = ", ".join(f"{name} ({layout.form})" for name, layout in inputs.items()) or "none"
        unread = [name for name, layout in inputs.items() if layout.form not in self.forms]
        if unread:
            raise UserError(
                f"model {self.kind} reads {' or '.join(self.forms)}, the inputs are: {listed}",
                "choose another model, or `kind: fusion` to give each input an encoder of its own",
            )
        if not inputs or (len(inputs) > 1 and not self.several):
            raise UserError(
                f"model {self.kind} takes one input, got {listed}", "use `kind: fusion` for several inputs"
            )
