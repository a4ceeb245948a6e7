"""Cleaning a corpus: which documents are left out, by reason, with counts and examples.

    screened = screen(dataset, "text", Corpora(near=0.8, quality=True, languages=["en", "zh"]), live)
    screened.codes, screened.counts, screened.examples

The steps, in this order: rules that look at one document (engine/data/quality.py), exact copies, near copies. Of
copies the first stays. Documents are read twice, in file order, and never held; what is held are 8 bytes a
document, and 64 on disk for near copies.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field as Limits
from pydantic import NonNegativeInt, PositiveInt

from modelworks.core.settings import Settings
from modelworks.engine.data.quality import FAULTS, fault

if TYPE_CHECKING:
    import numpy as np

    from modelworks.core.dataset import Dataset

REASONS = ("", *(f"document: {name}" for name in FAULTS), "document: copy", "document: near copy")
"""Why a document is left out, by code; 0 is one that is kept."""
_EXAMPLES = 20
_PAIRS = 1024
Share = Annotated[float, Limits(ge=0, le=1)]


class Corpora(Settings):
    """Which documents to leave out. The defaults of the rules are Gopher's."""

    exact: bool = True
    """Leave out documents that are, but for spaces at their ends, equal to an earlier one."""
    near: Annotated[float, Limits(ge=0.5, le=1)] | None = None
    """Leave out documents whose first 600 characters share at least this part of their 5-character pieces with
    an earlier document's (Jaccard similarity; 0.8 is usual). Pairs are found by MinHash: at 0.8, 99 in 100."""
    characters: tuple[NonNegativeInt, PositiveInt | None] = (1, None)
    """Least and most characters of a document."""
    languages: list[Literal["en", "zh", "ja", "other"]] | None = None
    """Keep these; told by script, and English by its commonest words. None: all."""
    quality: bool = False
    """Whether the rules below apply."""
    symbols: Annotated[float, Limits(ge=0)] = 0.1
    """Most signs such as # and … a word."""
    word_length: tuple[float, float] = (3, 10)
    """Least and most mean letters of a word, where most words are of letters (not Chinese)."""
    lettered: Share = 0.8
    """Least share of words with a letter in them."""
    bullets: Share = 0.9
    """Most share of lines that begin with a bullet."""
    repeated_lines: Share = 0.3
    """Most share of lines that repeat an earlier one."""
    phrase: Annotated[int, Limits(ge=2, le=50)] = 10
    """Words of a phrase."""
    repeated_phrases: Share = 0.1
    """Most share of words in phrases that come more than once."""


@dataclass
class Screened:
    """What was left out and why."""

    codes: np.ndarray
    """uint8 (rows,), an index into REASONS."""
    counts: dict[str, int] = field(default_factory=dict)
    """Reason → documents."""
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """For each reason up to 20: {"row": 17, "same_inputs_as": 3, "measured": 0.42, "values": {…}}."""

    def add(self, row: int, code: int, **more: Any) -> None:
        """Leave a document out."""
        reason = REASONS[code]
        self.codes[row] = code
        self.counts[reason] = self.counts.get(reason, 0) + 1
        shown = self.examples.setdefault(reason, [])
        if len(shown) < _EXAMPLES:
            shown.append({"row": row, **more})


def screen(dataset: Dataset, column: str, settings: Corpora, live: np.ndarray, seed: int = 0) -> Screened:
    """Which of the live documents (bool (rows,)) to leave out. Missing ones are not this step's business.

    Copies are sought within each given split (a column `split`) and each copy that a mixture makes."""
    import numpy as np

    from modelworks.engine.data.neighbours import BANDS, text_bands

    screened = Screened(np.zeros(dataset.rows, np.uint8))
    keys = np.zeros(dataset.rows, np.uint64)
    there = np.zeros(dataset.rows, bool)
    with tempfile.TemporaryFile() as file:
        bands = None
        if settings.near is not None and dataset.rows:
            bands = np.memmap(file, np.uint64, "w+", shape=(BANDS, dataset.rows))
        for rows, texts, beside in _documents(dataset, column, live):
            kept = []
            for at, (row, text) in enumerate(zip(rows, texts, strict=True)):
                found = fault(text, settings)
                if found:
                    code = REASONS.index(f"document: {found[0]}")
                    screened.add(row, code, measured=round(found[1], 4), values={column: _short(text)})
                else:
                    there[row] = True
                    kept.append(at)
            rows, texts, beside = rows_of(rows, kept), rows_of(texts, kept), rows_of(beside, kept)
            keys[rows] = _keys(texts, beside)
            if bands is not None and rows:
                salts = _keys([""] * len(rows), beside)
                bands[:, rows] = text_bands(texts, seed) ^ salts
        if settings.exact:
            _exact(dataset, column, screened, keys, there)
        if bands is not None and settings.near is not None:
            _near(dataset, column, screened, bands, there, settings.near)
    return screened


def rows_of(values: Sequence[Any], chosen: Sequence[int]) -> list[Any]:
    """The values at these places."""
    return [values[at] for at in chosen]


def _documents(
    dataset: Dataset, column: str, live: np.ndarray
) -> Iterator[tuple[list[int], list[str], list[str]]]:
    """(rows, texts, what parts them: split and copy) of the live documents that are there."""
    names = [name for name in ("split", "copy") if name in dataset.columns and name != column]
    for rows, batch in dataset.batches(columns=[column, *names]):
        table = batch.to_pydict()
        texts = table[column]
        chosen = [at for at, text in enumerate(texts) if text is not None and live[rows[at]]]
        beside = [repr([table[name][at] for name in names]) for at in chosen]
        yield [int(rows[at]) for at in chosen], [_text(texts[at]) for at in chosen], beside


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _keys(texts: Sequence[str], beside: Sequence[str]) -> np.ndarray:
    import numpy as np
    import pyarrow as pa

    from modelworks.core.dataset import hash_column, mix

    left = hash_column(pa.array([text.strip() for text in texts], pa.string()))
    right = hash_column(pa.array(beside, pa.string()))
    return mix(left * np.uint64(0x9E3779B97F4A7C15) + right) if len(texts) else np.zeros(0, np.uint64)


def _exact(dataset: Dataset, column: str, screened: Screened, keys: np.ndarray, there: np.ndarray) -> None:
    import numpy as np

    from modelworks.engine.data.repeats import runs

    code = REASONS.index("document: copy")
    pairs: list[tuple[int, int]] = []
    for rows, starts in runs(keys, there):
        first = np.repeat(rows[starts], np.diff(np.append(starts, len(rows))))
        again = rows != first
        pairs += zip(rows[again].tolist(), first[again].tolist(), strict=True)
    pairs.sort()
    shown = _texts(dataset, column, [row for row, _ in pairs[:_EXAMPLES]])
    for at, (row, first) in enumerate(pairs):
        there[row] = False
        values = {"values": {column: _short(shown[at])}} if at < len(shown) else {}
        screened.add(row, code, same_inputs_as=first, **values)


def _near(
    dataset: Dataset, column: str, screened: Screened, bands: np.ndarray, there: np.ndarray, least: float
) -> None:
    """Each document is compared with the first of its bucket and with the one before it there, band by band."""
    import numpy as np

    from modelworks.engine.data.neighbours import similarities
    from modelworks.engine.data.repeats import runs

    code = REASONS.index("document: near copy")
    for band in bands:
        for rows, starts in runs(np.asarray(band), there.copy()):
            first = np.repeat(rows[starts], np.diff(np.append(starts, len(rows))))
            inside = rows != first
            before = np.roll(rows, 1)
            pairs = np.concatenate(
                [np.stack([first[inside], rows[inside]], 1), np.stack([before[inside], rows[inside]], 1)]
            )
            pairs = np.unique(pairs, axis=0)
            pairs = pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]
            for start in range(0, len(pairs), _PAIRS):
                some = pairs[start : start + _PAIRS]
                some = some[there[some[:, 0]] & there[some[:, 1]]]
                if not len(some):
                    continue
                left, right = (_texts(dataset, column, some[:, side]) for side in (0, 1))
                for at, similarity in enumerate(similarities(left, right)):
                    one, two = int(some[at, 0]), int(some[at, 1])
                    if similarity >= least and there[one] and there[two]:
                        there[two] = False
                        values = {column: _short(right[at])}
                        screened.add(
                            two, code, same_inputs_as=one, measured=round(float(similarity), 4), values=values
                        )


def _texts(dataset: Dataset, column: str, rows: Sequence[int] | np.ndarray) -> list[str]:
    import numpy as np

    numbers = np.asarray(rows, np.int64)
    return (
        [_text(value) for value in dataset.take(numbers, [column]).column(0).to_pylist()]
        if len(numbers)
        else []
    )


def _short(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "…"
