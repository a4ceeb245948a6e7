"""Highlight: which words of a text speak for an answer, by leaving each out (occlusion; Zeiler & Fergus 2014).

    highlight(predictor, row, "review", "neg")     # [["The ", 0.0], ["dull ", 0.31], …]

A piece's weight is how much the answer's probability falls without it. A long text is cut into at most PIECES runs
of words, so that the work for one row is bounded.
"""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa

from modelworks.engine.predictor import Predictor

PIECES = 48
# A Chinese or Japanese character, or a word, each with the blanks behind it.
_WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]\s*|[^\s\u3040-\u30ff\u3400-\u9fff]+\s*|\s+")


def pieces(text: str) -> list[str]:
    """The text in at most PIECES runs of words; joined they are the text."""
    words = _WORDS.findall(text)
    size = max(1, -(-len(words) // PIECES))
    return ["".join(words[start : start + size]) for start in range(0, len(words), size)]


def highlight(
    predictor: Predictor, row: pa.RecordBatch, column: str, answer: str, root: Path | None = None
) -> list[list[str | float]]:
    """[piece, weight] of one row's text; above 0 speaks for the answer. Empty where it has no probability."""
    text = row.column(column)[0].as_py()
    if not isinstance(text, str) or not text.strip():
        return []
    parts = pieces(text)
    variants = [text, *("".join(parts[:i] + parts[i + 1 :]) for i in range(len(parts)))]
    repeated = row.take(pa.array([0] * len(variants)))
    place = repeated.schema.get_field_index(column)
    batch = repeated.set_column(place, column, pa.array(variants, pa.string()))
    share = predictor.predict(batch, root).get(f"probability_{answer}")
    if share is None or share[0] is None:
        return []
    return [
        [part, share[0] - (0.0 if left is None else left)]
        for part, left in zip(parts, share[1:], strict=True)
    ]
