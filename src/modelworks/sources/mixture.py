"""Several corpora as one, each row as often as its part's weight says.

    data: {source: {kind: mixture, parts: [{source: books.txt, weight: 2}, {source: web.jsonl, weight: 0.5}]}}

Rows come part after part, in the column `text`; `part` names where each is from and `copy` counts a row's
copies. Which rows a weight like 0.5 keeps depends on their numbers alone, so that a mixture is the same each
time it is read; training shuffles it. Copies of a row are kept in one split, since their texts are equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field as Limits
from pydantic import field_validator

from modelworks.core.errors import DataError, did_you_mean
from modelworks.core.kinds import every, find
from modelworks.core.settings import Settings, to_tree
from modelworks.core.source import Quarantine, Source

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class Part(Settings):
    """One corpus of a mixture."""

    source: Source
    """A file by its path, `sample:NAME`, or a source with its settings."""
    weight: Annotated[float, Limits(gt=0, le=100)] = 1.0
    """How often each row comes: 2 is twice, 0.5 is every second row, chosen by its number."""
    column: str = "text"
    """The column that holds the text."""

    @field_validator("source", mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        kinds = {name: kind for name, kind in every(Source).items() if name != "mixture"}
        for kind in sorted(kinds.values(), key=lambda kind: not kind.schemes):
            if kind.matches(given):
                return kind(**kind.parse(given))
        endings = [ending for kind in kinds.values() for ending in (*kind.suffixes, *kind.schemes)]
        raise ValueError(f"no source reads {given!r}; {did_you_mean(Path(given).suffix or given, endings)}")


class Mixture(Source):
    """Corpora, weighted."""

    parts: Annotated[list[Part], Limits(min_length=1)]
    """The corpora, in the order in which they are read."""

    def read(self, quarantine: Quarantine) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        for number, part in enumerate(self.parts):
            name = _name(part, number)
            whole = int(part.weight)
            copies = [1.0] * whole + ([part.weight - whole] if part.weight > whole else [])
            for copy, share in enumerate(copies):
                # Only the first reading counts what cannot be read.
                start = 0
                for batch in _real(part.source).read(quarantine if not copy else Quarantine(keep=0)):
                    if batch.schema.get_field_index(part.column) < 0:
                        names = batch.schema.names
                        raise DataError(
                            f"mixture: {name}: no column {part.column!r}; {did_you_mean(part.column, names)}"
                        )
                    texts = batch.column(part.column)
                    if share < 1:
                        texts = texts.filter(pa.array(_chosen(start, len(texts), share)))
                    start += batch.num_rows
                    if len(texts):
                        yield pa.record_batch(
                            {
                                "text": texts.cast(pa.string()),
                                "part": pa.array([name] * len(texts), pa.string()),
                                "copy": pa.array([copy] * len(texts), pa.int64()),
                            }
                        )

    def fingerprint(self) -> str:
        told = [
            [_real(part.source).fingerprint(), part.weight, part.column, _name(part, number)]
            for number, part in enumerate(self.parts)
        ]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    @property
    def notice(self) -> str:
        return "\n".join(dict.fromkeys(note for part in self.parts if (note := _real(part.source).notice)))


def _real(source: Source) -> Source:
    """The same source, where it was read for its settings alone."""
    kind = find(Source, source.kind)
    return (
        source
        if isinstance(source, kind)
        else kind(**{name: getattr(source, name) for name in kind.model_fields})
    )


def _name(part: Part, number: int) -> str:
    tree = to_tree(part.source)
    named = tree.get("path") or tree.get("name") or tree["kind"]
    return Path(str(named)).name or str(number)


def _chosen(start: int, count: int, share: float) -> np.ndarray:
    """Which rows from number `start` on are kept. bool (count,)."""
    import numpy as np

    from modelworks.core.dataset import mix

    numbers = np.arange(start + 1, start + count + 1, dtype=np.uint64)
    return mix(numbers * np.uint64(0x9E3779B97F4A7C15)) < np.uint64(int(share * 2**63)) * np.uint64(2)
