"""Source: reads rows from somewhere as Arrow record batches, in bounded memory, and never loses one silently.

A kind is one file in `sources/` with one public class deriving from Source.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from modelworks.core.settings import Kinded

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class Quarantine:
    """Rows that could not be read. Counted without limit, shown up to `keep`."""

    keep: int = 1000
    count: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    rows: list[dict[str, str]] = field(default_factory=list)
    """{"where": "reviews.csv line 812", "reason": "wants 5 cells, has 4", "text": …}"""

    places: deque[tuple[int, str]] | None = None
    """Where a caller asks for it: (rows read before this one, what is wrong), in order, for rows whose place is
    known. The caller takes them out, so that memory stays bounded; they are not in `rows`."""

    def add(self, where: str, reason: str, text: str = "", kind: str = "", at: int | None = None) -> None:
        """Count one row. `kind` groups like reasons ("wrong number of cells"); `at`: good rows given out before it."""
        self.count += 1
        key = kind or reason
        self.reasons[key] = self.reasons.get(key, 0) + 1
        if at is not None and self.places is not None:
            self.places.append((at, f"{where}: {reason}"))
            return
        if len(self.rows) < self.keep:
            self.rows.append({"where": where, "reason": reason, "text": text[:500]})


class Source(Kinded):
    """Contract of a place that rows come from."""

    folder: ClassVar[str] = "sources"
    suffixes: ClassVar[tuple[str, ...]] = ()
    """File endings that mean this kind: (".csv", ".tsv", ".csv.gz")."""
    schemes: ClassVar[tuple[str, ...]] = ()
    """Prefixes that mean this kind: ("sample:",)."""

    @classmethod
    def matches(cls, text: str) -> bool:
        """Whether what the user typed after `train` means this kind."""
        lowered = text.lower()
        return (
            lowered.endswith(cls.suffixes)
            if cls.suffixes and not lowered.startswith(cls.schemes or ("\0",))
            else (bool(cls.schemes) and lowered.startswith(cls.schemes))
        )

    @classmethod
    def parse(cls, text: str) -> dict[str, str]:
        """What the user typed → settings."""
        return {"path": text}

    def read(self, quarantine: Quarantine) -> Iterator[pa.RecordBatch]:
        """Batches of at most 8,192 rows or about 16 MB, whichever is less, all with one schema.

        CSV cells come as strings or nulls (fields decide what they mean). A column `split` holds given splits
        ("train", "valid", "test") where the source knows them. Raises DataError when nothing can be read."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """A hash of the content; equal content, equal hash."""
        raise NotImplementedError

    @property
    def root(self) -> Path | None:
        """The folder against which paths inside the rows are read."""
        return None

    @property
    def continuous(self) -> bool:
        """Whether rows are consecutive pieces of one text, so that joining them gives it back."""
        return False

    def as_text(self) -> Source:
        """The same data for a task that learns from text alone: plain text then comes in pieces, nothing left out."""
        return self

    @property
    def notice(self) -> str:
        """Licence and origin, shown once; empty when there is none to show."""
        return ""
