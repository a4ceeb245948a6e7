"""Near-duplicates of a dataset: which sample is compared, by what, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modelworks.core.dataset import SPLITS
from modelworks.engine.audit.view import View, chunk_of
from modelworks.engine.data.cells import SIDE, combine, content_hash, numbers, texts, thumbnails
from modelworks.engine.data.neighbours import CHARACTERS, Pairs, near_images, near_rows, near_texts

PICTURES, TABLE_ROWS = 10_000, 20_000
"""Rows compared at the most."""
TEXT_BUDGET = 3_000_000
"""Characters compared at the most."""
PICTURE_BYTES = 48 << 20
"""Bytes of pictures that are decoded at the most."""


def near_duplicates(view: View, sample: int) -> dict[str, Any]:
    """Counts and examples on a seeded sample, as even over splits as can be; `why` where none were sought."""
    image, text = view.only("image"), view.main_text()
    if image:
        modality, names, count = "image", [image], PICTURES
    elif text:
        length = min(view.column(text)["length"]["mean"], CHARACTERS)
        modality, names, count = "text", [text], int(TEXT_BUDGET / max(length, 1))
    elif view.has_media:
        return _none("near-duplicates are sought in one text, one picture or a table; here only exact ones")
    elif sum(view.kinds[name] == "number" for name in view.inputs) < 3:
        return _none("too few numbers for near-duplicates to mean anything; exact ones are counted")
    else:
        modality, names, count = "table", view.inputs, TABLE_ROWS
    rows, pairs, cells = _pairs(view, modality, names, view.draw(min(count, sample), even=True))
    splits = view.codes(rows)
    across: dict[str, set[int]] = {}
    for pair in pairs:
        early, late = sorted(pair[:2], key=lambda i: splits[i])
        if splits[early] != splits[late]:
            across.setdefault(f"{SPLITS[splits[early]]}/{SPLITS[splits[late]]}", set()).add(late)
    pairs = sorted(pairs, key=lambda p: (splits[p[0]] == splits[p[1]], -p[2], p[0], p[1]))
    sampled = {SPLITS[code]: int((splits == code).sum()) for code in range(3) if (splits == code).any()}
    return {
        "modality": modality,
        "columns": list(names),
        "sample": len(rows),
        "of": view.dataset.rows,
        "pairs": len(pairs),
        "rows": len({position for pair in pairs for position in pair[:2]}),
        "across_splits": {key: len(found) for key, found in sorted(across.items())},
        "sampled": {} if view.splits is None else sampled,
        "examples": [_example(rows, cells, pair) for pair in pairs[:5]],
    }


def _none(why: str) -> dict[str, Any]:
    return {"modality": None, "why": why}


def _example(rows: np.ndarray, cells: Sequence[str], pair: tuple[int, int, float]) -> dict[str, Any]:
    left, right, similarity = pair
    shown = [cells[left][:120], cells[right][:120]] if cells else []
    return {"rows": [int(rows[left]), int(rows[right])], "similarity": round(similarity, 3), "shown": shown}


def _pairs(
    view: View, modality: str, names: Sequence[str], rows: np.ndarray
) -> tuple[np.ndarray, Pairs, list[str]]:
    """(rows looked at, pairs of positions in them, texts to show)."""
    if modality == "image":
        rows, small, exact = pictures(view, names[0], rows)
        return rows, near_images(small, exact), []
    table = view.dataset.take(rows, list(names))
    if modality == "text":
        values = texts(chunk_of(table, names[0]))
        return rows, near_texts(values, view.seed), values
    numeric = [name for name in names if view.kinds[name] == "number"]
    rest = [texts(chunk_of(table, name)) for name in names if name not in numeric]
    deviations = [view.column(name).get("std") or 0.0 for name in numeric]
    exact = combine((content_hash(chunk_of(table, name), None, False) for name in names), len(rows))
    return rows, near_rows([numbers(chunk_of(table, name)) for name in numeric], deviations, rest, exact), []


def pictures(view: View, name: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows, thumbnails, content hashes) of the pictures that can be read, until PICTURE_BYTES are."""
    rows = np.random.default_rng(view.seed).permutation(rows)  # so that the limit cuts evenly
    kept: list[int] = []
    small: list[np.ndarray] = []
    exact: list[int] = []
    read = 0
    for start in range(0, len(rows), 500):
        part = np.sort(rows[start : start + 500])
        chunk = chunk_of(view.dataset.take(part, [name]), name)
        hashes = content_hash(chunk, view.dataset.root, name in view.files)
        seen = thumbnails(chunk, view.dataset.root)
        for row, code, (picture, _, size) in zip(part, hashes, seen, strict=True):
            read += size
            if picture is not None:
                kept.append(int(row))
                small.append(picture)
                exact.append(int(code))
        if read > PICTURE_BYTES:
            break
    order = np.argsort(np.array(kept, np.int64))
    stacked = np.stack(small) if small else np.zeros((0, SIDE, SIDE), np.float32)
    return np.array(kept, np.int64)[order], stacked[order], np.array(exact, np.uint64)[order]
