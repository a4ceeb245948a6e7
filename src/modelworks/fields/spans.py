"""A column of entities, as a tag for each step of another field's rows: names, places, roles.

    fields: {tokens: {kind: words}, tags: {kind: spans}}

A row is a list of tags (BIO, IOB1, BIOES, BMES or BILOU; also a text of them, or a JSON list), or a list of spans:
{start, end, label}, or [start, end, label], counted in steps of the input (characters, where it is cut into them),
the end not included. Both become entities, and these codes: O is 1, see `metrics/entities.py` for the others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import torch

from modelworks.core.errors import DataError
from modelworks.core.field import Encoded, Field, Layout
from modelworks.fields._cells import plain, shown, to_python
from modelworks.metrics.entities import OUTSIDE, chunks, code, encode, parse

if TYPE_CHECKING:
    from torch import Tensor

    from modelworks.core.profile import ColumnProfile

_LOOKS = re.compile(r"O|[BIESMLU][-_]\S+")
_OTHER = "tags and spans in one column"


class Spans(Field):
    """Entities within a sequence."""

    scheme: Literal["bio", "bioes"] = "bio"
    """Tags that the model learns: where an entity begins and goes on; or also where it ends, and single ones."""

    # ------------------------------------------------------------------ inference of intent
    @classmethod
    def recognise(cls, profile: ColumnProfile) -> float:
        if "string" not in profile.type or not profile.examples:
            return 0.0
        listed = profile.type.startswith(("list", "large_list"))
        whole = [re.split(r"\|" if listed else r"\s+", text) for text in profile.examples]
        # An example is cut at 80 characters, so its last tag may be half a one.
        tags = [tag for parts in whole for tag in (parts if len("|".join(parts)) < 80 else parts[:-1])]
        # Codes such as U-00278 look like tags; but most words of a text are no entity.
        return 0.97 if "O" in tags and len(tags) > 1 and all(_LOOKS.fullmatch(tag) for tag in tags) else 0.0

    # ------------------------------------------------------------------ learning
    def fit(self, chunks: Iterable[pa.Array], root: Path | None = None) -> Spans:
        types: set[str] = set()
        longest, tagged, rows, wrong = 1, False, 0, ""
        for chunk in chunks:
            for row in map(_read, to_python(plain(chunk))):
                if isinstance(row, str):
                    wrong = wrong or row
                    continue
                rows += 1
                types |= row.types
                longest, tagged = max(longest, row.length), tagged or row.tagged
        if not types:
            why = f": {wrong}" if wrong else ""
            raise DataError(
                f"no entity in the training split{why}", "tags such as B-PER, or spans with a label"
            )
        return self.with_state({"types": sorted(types), "length": longest, "tagged": tagged})

    # ------------------------------------------------------------------ the modality
    @property
    def types(self) -> list[str]:
        """Types of entities, by number."""
        return list(self._state["types"])

    @property
    def layout(self) -> Layout:
        return Layout("tokens", size=code(len(self.types)), length=self._state["length"])

    def encode(self, column: pa.Array, root: Path | None = None) -> Encoded:
        known = {name: number for number, name in enumerate(self.types)}
        dtype = np.uint8 if self.layout.size <= 256 else np.uint16
        bad: dict[int, str] = {}
        rows, unknown, overlapping = [], [], []
        for number, row in enumerate(map(_read, to_python(plain(column)))):
            if isinstance(row, str):
                bad[number] = row
                rows.append(np.full(1, OUTSIDE, dtype))
                continue
            if row.tagged != self._state["tagged"] and row.spans:
                bad[number] = _OTHER
            codes_T = np.full(max(row.length, 1), OUTSIDE, dtype)
            for begin, end, name in sorted(row.spans, key=lambda span: span[0] - span[1]):  # longest first
                if name not in known:
                    unknown.append(number)
                elif (codes_T[begin:end] > OUTSIDE).any():
                    overlapping.append(number)
                else:
                    encode(begin, end - 1, known[name], codes_T, self.scheme)
            rows.append(codes_T)
        changed = {"unknown type": unknown, "overlapping spans, the longest kept": overlapping}
        return Encoded(
            np.concatenate(rows) if rows else np.zeros(0, dtype),
            np.array([len(row) for row in rows], np.int64),
            bad=bad,
            changed={what: np.unique(found) for what, found in changed.items() if found},
        )

    def contract(self) -> dict[str, Any]:
        outside, types = OUTSIDE, self.types
        tags = {
            f"{place}-{name}": code(number, place) for number, name in enumerate(types) for place in "BIES"
        }
        return {"outside": outside, "tags": tags, "steps": "words"}

    def decode(self, values: np.ndarray | Sequence[Any]) -> list[list[dict[str, Any]]]:
        """Rows of codes, padded with 0 or not → the entities of each: {"start", "end", "type"}, in steps."""
        found = []
        for row in values:
            codes_T = np.asarray(row, np.int64).reshape(-1)
            first_T = np.arange(len(codes_T)) == 0
            found.append(
                [
                    {"start": begin, "end": end + 1, "type": self.types[kind]}
                    for begin, end, kind in chunks(codes_T, first_T).tolist()
                ]
            )
        return found

    def prepare(self, values: Tensor) -> Tensor:
        return values.to(torch.int64)


# ------------------------------------------------------------------------------------------- reading rows
class _Row:
    """What a cell says: entities (begin, end not included, type) in so many steps (as far as it is known)."""

    def __init__(self, spans: list[tuple[int, int, str]], length: int, tagged: bool) -> None:
        self.spans, self.length, self.tagged = spans, length, tagged
        self.types = {name for _, _, name in spans}


def _read(value: Any) -> _Row | str:
    """A cell, or why it cannot be read."""
    try:
        if isinstance(value, str):
            value = json.loads(value) if value.lstrip().startswith("[") else value.split()
        # JSON lines give what is nested deeper than a list as texts.
        if (
            isinstance(value, list)
            and value
            and all(isinstance(p, str) and p[:1] in "{[" and p for p in value)
        ):
            value = [json.loads(part) for part in value]
    except (ValueError, RecursionError):
        return f"wants tags or spans, got {shown(value)}"
    if value is None or not isinstance(value, list):
        return "missing tags" if value is None else f"wants tags or spans, got {shown(value)}"
    if value and all(isinstance(part, str) for part in value):
        return _tags(value)
    spans = [_span(part) for part in value]
    if any(span is None for span in spans):
        return f"wants tags, or spans with start, end and label, got {shown(value)}"
    kept = [span for span in spans if span is not None]
    return _Row(kept, max((end for _, end, _ in kept), default=1), tagged=False)


def _tags(tags: list[str]) -> _Row | str:
    parsed = [parse(tag) for tag in tags]
    if None in parsed:
        return f"no tag of an entity: {tags[parsed.index(None)]!r} (B-PER, I-PER, O …)"
    found = [pair for pair in parsed if pair is not None]
    names = sorted({name for _, name in found if name})
    codes_T = [code(names.index(name), place) if name else OUTSIDE for place, name in found]
    first_T = np.arange(len(tags)) == 0
    entities = chunks(np.array(codes_T), first_T).tolist()
    return _Row([(begin, end + 1, names[kind]) for begin, end, kind in entities], len(tags), tagged=True)


def _span(part: Any) -> tuple[int, int, str] | None:
    if isinstance(part, dict):
        name = next((part[key] for key in ("label", "type", "entity") if part.get(key) is not None), None)
        part = [part.get("start"), part.get("end"), name]
    if not isinstance(part, (list, tuple)) or len(part) != 3:
        return None
    begin, end, name = part
    whole = all(isinstance(edge, int) and not isinstance(edge, bool) for edge in (begin, end))
    if not whole or not isinstance(name, str) or not name or not 0 <= begin < end <= 1_000_000:
        return None
    return begin, end, name
