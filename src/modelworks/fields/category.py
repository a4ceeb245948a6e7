"""A column of categories: each value becomes a code; rare and unknown ones share code 0.

fields: {port: {kind: category, rare: 2}, survived: {kind: category, unknown: quarantine}}
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import PositiveInt, PrivateAttr

from modelworks.core.errors import DataError
from modelworks.core.field import Encoded, Field, Layout
from modelworks.core.profile import as_number
from modelworks.fields._cells import is_text, missing_cells, missing_words, plain, shown, to_python
from modelworks.fields._counts import Counts
from modelworks.fields._names import in_order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from modelworks.core.profile import ColumnProfile


class Category(Field):
    """A column of categories, or a class to learn. Texts are kept as they were read; whole and truth values
    keep their Python type in answers."""

    rare: PositiveInt = 1
    """Categories seen fewer times in training share the unknown code."""
    most: PositiveInt = 10_000
    """Most categories kept, the frequent first."""
    unknown: Literal["code", "quarantine"] = "code"
    """A value that training did not have: code 0, or its row is left out and counted. Classes to learn use
    quarantine: then there is no code 0 for "unknown", and a missing label is left out too."""
    order: Literal["sorted", "frequent"] = "sorted"
    """Order of the codes: by name, numbers by value; or the most frequent first."""
    usual_missing: bool = True
    """Read NA, n/a, null, none, ?, - and the like as missing."""
    missing_texts: list[str] = []
    """More texts that mean "missing", in any case."""

    _lookup: pa.Array | None = PrivateAttr(default=None)

    # ------------------------------------------------------------------ inference of intent
    @classmethod
    def recognise(cls, profile: ColumnProfile) -> float:
        from modelworks.fields._looks import HOPELESS, distinct_share, few_integers, hopeless, is_opaque

        if (
            not profile.present
            or is_opaque(profile)
            or profile.type.startswith(("list", "large_list", "struct"))
        ):
            return 0.0
        if hopeless(profile):
            return HOPELESS
        if profile.type == "bool":
            return 0.95
        if profile.share(profile.numeric) >= 0.95:
            return 0.7 if few_integers(profile) else 0.1
        share = distinct_share(profile)
        if profile.share(profile.dates) > 0.9 or profile.mean_length > 100:
            return 0.1
        if share <= 0.05 or (profile.distinct <= 20 and share <= 0.5 and profile.mean_words < 4):
            return 0.9
        return 0.65 if share <= 0.5 else 0.35

    @classmethod
    def propose(cls, profile: ColumnProfile, target: bool = False) -> dict[str, Any]:
        if target:
            return {"unknown": "quarantine"}
        # Values seen once teach the unknown code what "something new" looks like.
        return {"rare": 2} if profile.many or profile.distinct > 50 else {}

    # ------------------------------------------------------------------ learning
    def fit(self, chunks: Iterable[pa.Array], root: Path | None = None) -> Category:
        counts, missing, types, blank = Counts(), 0, set(), self.with_state({})
        for chunk in chunks:
            column = plain(chunk)
            types.add(_type(column.type))
            keys, codes, absent, _ = blank._keys(column)
            missing += int(absent.sum())
            found, times = np.unique(codes[codes >= 0], return_counts=True)
            texts = keys.take(pa.array(found)).to_pylist()
            counts.add(dict(zip(texts, times.tolist(), strict=True)))
        labels = self.unknown == "quarantine"
        kept = counts.frequent(1 if labels else self.rare, self.most)
        if not kept and (labels or not missing):
            raise DataError("no categories in the training split", "leave this column out")
        if self.order == "sorted":
            kept = in_order(kept)
        return self.with_state(
            {
                "categories": kept,
                "type": types.pop() if len(types) == 1 else "text",
                "missing": missing > 0 and not labels,
                "counts": [counts.counter[name] for name in kept],
            }
        )

    def with_state(self, state: Mapping[str, Any]) -> Category:
        copy = super().with_state(state)
        copy._lookup = None
        return copy

    # ------------------------------------------------------------------ the modality
    @property
    def layout(self) -> Layout:
        return Layout("index", size=len(self._answers()))

    def encode(self, column: pa.Array, root: Path | None = None) -> Encoded:
        state = self._state
        if self._lookup is None:
            self._lookup = pa.array(state["categories"], pa.string())
        first = 0 if self.unknown == "quarantine" else 1
        keys, codes, absent, bad = self._keys(plain(column))
        known = pc.fill_null(pc.index_in(keys, value_set=self._lookup), -1).to_numpy(zero_copy_only=False)
        found = np.append(known, -1)[codes]  # code -1 (missing, bad) reads the appended -1
        values = np.where(found < 0, 0, found + first)
        unknown = np.flatnonzero((codes >= 0) & (found < 0))
        changed = {}
        if self.unknown == "quarantine":
            bad |= dict.fromkeys(np.flatnonzero(absent).tolist(), "missing label")
            texts = keys.take(pa.array(codes[unknown])).to_pylist()
            bad |= {
                int(row): f"unknown label {shown(text)}" for row, text in zip(unknown, texts, strict=True)
            }
        else:
            if state["missing"]:
                values[absent] = len(state["categories"]) + 1
            if len(unknown):
                changed["unknown category"] = unknown
            if absent.any():
                changed["missing"] = np.flatnonzero(absent)
        dtype = np.uint8 if len(self._answers()) <= 256 else np.int32
        return Encoded(values.astype(dtype), bad=bad, changed=changed)

    def contract(self) -> dict[str, Any]:
        refuse = self.unknown == "quarantine"
        names = self._state["categories"]
        return {
            "missing_texts": missing_words(self.usual_missing, self.missing_texts).to_pylist(),
            "type": self._state["type"],
            "codes": {name: code for code, name in enumerate(names, 0 if refuse else 1)},
            "unknown": "refuse" if refuse else 0,
            "missing": "refuse" if refuse else len(names) + 1 if self._state["missing"] else 0,
            "answers": self._answers(),
        }

    def decode(self, values: np.ndarray) -> list[Any]:
        answers = self._answers()
        return [answers[int(code)] for code in np.asarray(values).reshape(-1)]

    def prepare(self, values: Tensor) -> Tensor:
        return values.to(torch.int64)

    def _answers(self) -> list[Any]:
        """What each code means; None for unknown and for missing."""
        state = self._state
        make = {"int": int, "float": float, "bool": lambda text: text == "True"}.get(state["type"], str)
        names = [make(text) for text in state["categories"]]
        if self.unknown == "quarantine":
            return names
        return [None, *names, *([None] if state["missing"] else [])]

    def _keys(self, column: pa.Array) -> tuple[pa.Array, np.ndarray, np.ndarray, dict[int, str]]:
        """(distinct values as text, each row's index among them or -1, which rows are missing, bad rows)."""
        if pa.types.is_nested(column.type) or isinstance(column, pa.ExtensionArray):
            absent = column.is_null().to_numpy(zero_copy_only=False)
            bad = dict.fromkeys(np.flatnonzero(~absent).tolist(), f"wants one category, got {column.type}")
            return pa.array([], pa.string()), np.full(len(column), -1), absent, bad
        encoded = column.dictionary_encode()
        keys = encoded.dictionary
        gone = missing_cells(keys, missing_words(self.usual_missing, self.missing_texts))
        keys = _as_text(keys, self._state.get("type", ""))
        codes = pc.fill_null(encoded.indices, len(keys)).to_numpy(zero_copy_only=False).astype(np.int64)
        absent = np.append(gone, True)[codes]
        return keys, np.where(absent, -1, codes), absent, {}


# ------------------------------------------------------------------------------------------- values as text
def _type(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "bool"
    if pa.types.is_integer(kind):
        return "int"
    return "float" if pa.types.is_floating(kind) else "text"


def _as_text(keys: pa.Array, fitted: str) -> pa.Array:
    """One text a value, the same for 3, 3.0 and "3", so that a table's rows and a request's rows agree."""
    kind = keys.type
    if is_text(kind):
        if fitted == "bool":
            return pc.utf8_capitalize(pc.utf8_trim_whitespace(keys))
        if fitted in ("int", "float"):
            return pa.array([_number_text(as_number(text), text) for text in keys.to_pylist()], pa.string())
        return keys
    if pa.types.is_integer(kind) and fitted != "bool":
        return keys.cast(pa.string())
    return pa.array([_text(value, fitted) for value in to_python(keys)], pa.string())


def _text(value: Any, fitted: str) -> str | None:
    if value is None:
        return None
    if fitted == "bool" and value in (0, 1):
        return str(bool(value))
    if isinstance(value, float):
        return _number_text(value, "")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _number_text(number: float | None, text: str | None) -> str | None:
    if number is None:
        return text
    return (
        str(int(number))
        if number == number and abs(number) < 2**53 and number == int(number)
        else repr(number)
    )
