"""Field: one column's modality. The same fitted field serves training, evaluation, export and the server.

    raw column --encode--> stored array --(gather a batch)--> augment (training only) --> prepare --> model
    prediction --decode--> raw values

A kind is one file in `fields/` with one class deriving from Field. numpy does the encoding, torch only the
batch work; both are imported inside methods or at the top of the file, never needed to read settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from pydantic import PrivateAttr

from modelworks.core.settings import Kinded, to_tree

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import pyarrow as pa
    from torch import Generator, Tensor

    from modelworks.core.profile import ColumnProfile

F = TypeVar("F", bound="Field")

Form = Literal["vector", "index", "tokens", "image", "frames", "multihot"]
"""What models see, after `prepare`:
vector   float (B, D)             numbers, dates
index    int64 (B,)               one category; code 0 is unknown or missing unless the field says otherwise
tokens   int64 (B, T)             padded with 0; `NAME.length` (B,) gives true lengths
image    float (B, C, H, W)       normalised; spectrograms are one-channel images (C=1, mels, frames)
frames   float (B, T, D)          padded with 0; `NAME.length` (B,) gives true lengths; waveforms have D=1
multihot float (B, N)             N labels, 0 or 1
"""


@dataclass(frozen=True)
class Layout:
    """What a fitted field gives a model. Models and tasks read this, never the field."""

    form: Form
    shape: tuple[int, ...] = ()
    """Shape of one row after `prepare`, without the ragged axis: (D,), (C, H, W), () for index and tokens."""
    size: int = 0
    """Number of categories (index), vocabulary (tokens) or labels (multihot)."""
    length: int = 0
    """Longest row of a ragged field, in steps; 0 when it is not ragged."""
    bins: Any = None
    """vector only: per column, the training quantiles (list of ascending lists), for piecewise embeddings."""

    @property
    def ragged(self) -> bool:
        return self.form in ("tokens", "frames")


@dataclass
class Encoded:
    """One chunk of a column, encoded."""

    values: np.ndarray
    """(rows, *stored shape) in the stored dtype; for a ragged field the rows joined end to end, (sum of lengths, …)."""
    lengths: np.ndarray | None = None
    """Ragged fields: length of each row, int64 (rows,)."""
    bad: dict[int, str] = field(default_factory=dict)
    """Row of the chunk → why it cannot be used. Its values are filler; the row is quarantined and counted."""
    changed: dict[str, np.ndarray] = field(default_factory=dict)
    """What was done ("missing → median", "clipped", "unknown category", "truncated") → rows of the chunk."""


class Field(Kinded):
    """Contract of a modality. `fit` returns a fitted copy; everything else needs a fitted field."""

    folder: ClassVar[str] = "fields"

    adopts: ClassVar[tuple[str, ...]] = ()
    """Other kinds whose fitted state it can work with: see `adopt`."""
    lends: ClassVar[str] = ""
    """The kind that reads plain values with this kind's fitted state, where a column holds no values of this kind."""

    column: str | None = None
    """The data's column, when it is not the field's own name."""

    _state: dict[str, Any] = PrivateAttr(default_factory=dict)

    # ------------------------------------------------------------------ inference of intent
    @classmethod
    def recognise(cls, profile: ColumnProfile) -> float:
        """How sure this kind is, 0 to 1, that a column is its own. Must not need torch or numpy."""
        return 0.0

    @classmethod
    def propose(cls, profile: ColumnProfile, target: bool = False) -> dict[str, Any]:
        """Settings to infer for such a column (`target`: when it is what is learned)."""
        return {}

    # ------------------------------------------------------------------ fitted state
    @property
    def state(self) -> Mapping[str, Any]:
        """What `fit` learned: JSON-able values and numpy arrays."""
        return self._state

    @property
    def fitted(self) -> bool:
        return bool(self._state)

    def with_state(self: F, state: Mapping[str, Any]) -> F:
        """This field, fitted: the settings are kept, the state is replaced."""
        copy = self.model_copy()
        copy._state = dict(state)
        return copy

    def adopt(self: F, other: Field) -> F:
        """This field with what `other` has learned, so that a model trained on `other` reads this one."""
        return self.with_state(other.state)

    @classmethod
    def inherited(cls, other: Field, packed: bool) -> dict[str, Any]:
        """The settings of `other` that go on to a field of this kind that adopts it. `packed`: windows are cut from
        the stream of tokens; else each row is answered by itself."""
        return {name: value for name, value in to_tree(other).items() if name in cls.model_fields}

    # ------------------------------------------------------------------ the modality
    def fit(self: F, chunks: Iterable[pa.Array], root: Path | None = None) -> F:
        """Learn from the training split, streamed in chunks in bounded memory. Use `self.with_state({...})`.

        `root`: folder against which paths in the column are read."""
        raise NotImplementedError

    @property
    def layout(self) -> Layout:
        """What models receive."""
        raise NotImplementedError

    def encode(self, column: pa.Array, root: Path | None = None) -> Encoded:
        """Raw values → arrays to store. Never raises for a bad value: it marks the row bad, or follows the policy."""
        raise NotImplementedError

    def contract(self) -> dict[str, Any] | None:
        """How raw values become stored ones and back, as data that a program without modelworks can follow
        (docs/deploy.md); None where this kind does not say."""
        return None

    def decode(self, values: np.ndarray) -> list[Any]:
        """Stored or predicted values → raw values, for answers."""
        return values.tolist()

    def augment(self, values: Tensor, generator: Generator) -> Tensor:
        """Training only, on a stored-dtype batch, before `prepare`; random numbers come from `generator` alone."""
        return values

    def prepare(self, values: Tensor) -> Tensor:
        """Stored batch → what `layout` promises (float, normalised). Deterministic."""
        return values

    def mix(self, values: Tensor, generator: Generator) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Training only, on a prepared batch: rows blended with others of the batch, as (values, partner_B,
        weight_B of the row itself); both None where no rows are blended."""
        return values, None, None

    def augment_prepared(self, values: Tensor, generator: Generator) -> Tensor:
        """Training only, on a prepared batch: augmentation that only makes sense there (SpecAugment)."""
        return values
