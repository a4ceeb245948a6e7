"""A column of several labels a row: a list, or texts such as `red|blue`, as zeros and ones.

fields: {genres: {kind: tags, separator: "|"}}
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import torch
from pydantic import PositiveInt

from modelworks.core.errors import DataError
from modelworks.core.field import Encoded, Field, Layout
from modelworks.fields._cells import is_text, missing_cells, missing_words, plain, shown, to_python
from modelworks.fields._counts import Counts
from modelworks.fields._names import in_order

if TYPE_CHECKING:
    from torch import Tensor

    from modelworks.core.profile import ColumnProfile

_SEPARATORS = ("|", ";", ",")


class Tags(Field):
    """Several labels a row."""

    separator: str | None = None
    """What stands between the tags of a text; None: the commonest of `|`, `;` and `,` in training. A text
    that is a JSON list is read as one."""
    rare: PositiveInt = 1
    """Tags seen fewer times in training are not learned."""
    most: PositiveInt = 1000
    """Most tags kept, the frequent first."""
    missing: Literal["empty", "drop"] = "empty"
    """A row without a value: no tag at all, or its row is left out and counted."""
    threshold: float = 0.5
    """From this probability on, a tag is in the answer."""

    # ------------------------------------------------------------------ inference of intent
    @classmethod
    def recognise(cls, profile: ColumnProfile) -> float:
        if not profile.present or profile.image_paths or profile.audio_paths:
            return 0.0
        if profile.type.startswith(("list", "large_list")):
            if "string" in profile.type:
                return 0.9
            return 0.6 if "int" in profile.type else 0.0
        if profile.share(profile.numeric) > 0.5 or profile.share(profile.separated) < 0.5:
            return 0.0
        texts = [text for text, _ in profile.top] or profile.examples
        for separator in _SEPARATORS:
            cut = [text.split(separator) for text in texts if separator in text]
            parts = [part.strip() for text in texts for part in text.split(separator)]
            # Tags come back; the parts of names and addresses do not.
            few = len(set(parts)) <= (0.5 if separator == "," else 0.75) * len(parts)
            if len(cut) >= 0.5 * len(texts) and few and len(parts) > 3:
                return 0.92
        return 0.0

    @classmethod
    def propose(cls, profile: ColumnProfile, target: bool = False) -> dict[str, Any]:
        return {} if target or profile.distinct < 50 else {"rare": 2}

    # ------------------------------------------------------------------ learning
    def fit(self, chunks: Iterable[pa.Array], root: Path | None = None) -> Tags:
        choices = (self.separator,) if self.separator else _SEPARATORS
        counts = {separator: Counts() for separator in choices}
        uses: Counter = Counter()
        for chunk in chunks:
            for value, times in Counter(_rows(plain(chunk))).items():
                uses.update({s: times for s in choices if isinstance(value, str) and s in value})
                for separator in choices:
                    counts[separator].add(dict.fromkeys(_split(value, separator), times))
        chosen = max(choices, key=lambda separator: uses[separator])
        names = counts[chosen].frequent(self.rare, self.most)
        if not names:
            raise DataError("no tags in the training split", "leave this column out, or lower `rare`")
        return self.with_state({"names": in_order(names), "separator": chosen})

    # ------------------------------------------------------------------ the modality
    @property
    def layout(self) -> Layout:
        size = len(self._state["names"])
        return Layout("multihot", (size,), size=size)

    def encode(self, column: pa.Array, root: Path | None = None) -> Encoded:
        codes = {name: code for code, name in enumerate(self._state["names"])}
        rows = _rows(plain(column))
        values = np.zeros((len(rows), len(codes)), np.uint8)
        bad, missing, unknown, cache = {}, [], [], {}
        for row, value in enumerate(rows):
            if value is None:
                missing.append(row)
            elif isinstance(value, _Wrong):
                bad[row] = value.reason
            else:
                found = cache.get(value)
                if found is None:
                    names = _split(value, self._state["separator"])
                    found = cache[value] = [codes[name] for name in names if name in codes], len(names)
                values[row, found[0]] = 1
                if len(found[0]) < found[1]:
                    unknown.append(row)
        if self.missing == "drop":
            bad |= dict.fromkeys(missing, "missing tags")
            missing = []
        changed = {"missing → no tags": missing, "unknown tag": unknown}
        return Encoded(
            values, bad=bad, changed={what: np.array(rows) for what, rows in changed.items() if rows}
        )

    def contract(self) -> dict[str, Any]:
        return {
            "names": self._state["names"],
            "separator": self._state["separator"],
            "missing_texts": missing_words(True, ()).to_pylist(),
            "missing": "none" if self.missing == "empty" else "refuse",
            "threshold": self.threshold,
        }

    def decode(self, values: np.ndarray) -> list[list[str]]:
        names = self._state["names"]
        return [[names[code] for code in np.flatnonzero(row >= self.threshold)] for row in np.asarray(values)]

    def prepare(self, values: Tensor) -> Tensor:
        return values.to(torch.float32)


# ------------------------------------------------------------------------------------------- reading cells
class _Wrong(tuple):
    """A value of a type that holds no tags; a tuple, so that it can be counted like the others."""

    @property
    def reason(self) -> str:
        return self[0]


def _rows(column: pa.Array) -> list[Any]:
    """A text, a tuple of texts, None (missing) or a _Wrong, for each row."""
    kind = column.type
    if is_text(kind):
        missing = missing_cells(column, missing_words(True, ()))
        return [None if gone else text for text, gone in zip(column.to_pylist(), missing, strict=True)]
    single = isinstance(column, pa.ExtensionArray) or pa.types.is_struct(kind) or pa.types.is_map(kind)
    wrong = _Wrong((f"wants tags, got {kind}",))
    rows = []
    for value in [wrong] * len(column) if single else to_python(column):
        if value is None or isinstance(value, _Wrong):
            rows.append(value)
        elif isinstance(value, list):
            simple = all(isinstance(part, (str, int, float, bool, type(None))) for part in value)
            texts = tuple(str(part) for part in value if part is not None)
            rows.append(texts if simple else _Wrong((f"wants tags, got {shown(value)}",)))
        elif isinstance(value, bytes) or value != value:
            rows.append(None if value != value else _Wrong((f"wants tags, got {shown(value)}",)))
        else:
            rows.append((str(value),))
    return rows


def _split(value: Any, separator: str) -> list[str]:
    """The distinct tags of one row."""
    if isinstance(value, _Wrong) or value is None:
        return []
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        try:
            read = json.loads(value)
            value = tuple(str(part) for part in read if part is not None)
        except (ValueError, RecursionError):
            pass  # a text in brackets, not a JSON list
    parts = value.split(separator) if isinstance(value, str) else value
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))
