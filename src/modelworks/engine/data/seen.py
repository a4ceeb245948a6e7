"""Seen: which rows a Run trained on, as hashes of what the model was given, so that a later test on them is noticed.

    kept = remember(prepared.store("train"))       # at most 4 MB, whatever the rows
    found = recognised(kept, other_store)          # Seen(rows=80, of=100, sampled=False)

Rows are compared as the fitted fields encode them, inputs and answer: the same row counts as seen whether it
comes from a CSV file or a data frame, and so does another one that the model could not tell from it. Up to KEPT
rows all are remembered; of more, those of the smallest hashes, and the count is then an estimate from these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from modelworks.core.dataset import mix
from modelworks.engine.data.store import Store

KEPT = 1 << 19
"""Hashes kept, 8 bytes each."""
_WORDS = 1024  # of a wide row (a picture), read evenly spread
_VALUES = 1 << 20  # held at once, about
_PRIME = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Seen:
    """What `recognised` found."""

    rows: int
    """Rows that were trained on; an estimate where `sampled`."""
    of: int
    sampled: bool


def remember(store: Store) -> dict[str, np.ndarray]:
    """The smallest hashes of a split, sorted, and how many rows it has."""
    kept, waiting, held = np.zeros(0, np.uint64), [], 0
    for hashes in _hashes(store):
        waiting.append(hashes[hashes < kept[-1]] if len(kept) == KEPT else hashes)
        held += len(waiting[-1])
        if held >= KEPT:  # rarely, so that the whole costs no more than its rows
            kept, waiting, held = _smallest([kept, *waiting]), [], 0
    return {"seen.hashes": _smallest([kept, *waiting]), "seen.rows": np.array([len(store)], np.int64)}


def _smallest(parts: list[np.ndarray]) -> np.ndarray:
    """The KEPT smallest of all hashes, sorted, each once."""
    whole = np.sort(np.concatenate(parts))
    first = np.ones(len(whole), bool)
    first[1:] = whole[1:] != whole[:-1]
    return whole[first][:KEPT]


def recognised(kept: Mapping[str, np.ndarray], store: Store) -> Seen | None:
    """How many rows of a store were trained on; None where nothing is remembered."""
    if "seen.hashes" not in kept or not len(store):
        return None
    known = kept["seen.hashes"]
    sampled = len(known) == KEPT
    looked = found = 0
    for hashes in _hashes(store):
        hashes = hashes[hashes <= known[-1]] if sampled else hashes
        looked += len(hashes)
        place = np.searchsorted(known, hashes).clip(max=len(known) - 1)
        found += int(np.count_nonzero(known[place] == hashes))
    return Seen(round(len(store) * found / max(looked, 1)) if sampled else found, len(store), sampled)


def _hashes(store: Store) -> Iterator[np.ndarray]:
    """A 64-bit hash of each row, chunk by chunk. uint64 (rows,)."""
    names = sorted(name for name in store.columns if name != "row")
    everything = np.arange(len(store))
    wide = 1
    for name in names:
        column = store.columns[name]
        steps = int(store.lengths(name, everything).max(initial=1)) if column.ragged else 1
        wide = max(wide, steps * int(np.prod(column.shape, dtype=np.int64)))
    size = int(min(8192, max(1, _VALUES // wide)))
    for start in range(0, len(store), size):
        batch = store.gather(everything[start : start + size], names)
        total = np.zeros(min(size, len(store) - start), np.uint64)
        for name in names:
            length = batch[f"{name}.length"].numpy() if store.columns[name].ragged else None
            total = mix(total * _PRIME + _hash(batch[name].numpy(), length))
        yield total


def _hash(values: np.ndarray, length: np.ndarray | None) -> np.ndarray:
    """One field's rows; of ragged ones only the true steps count, however far they are padded."""
    rows = len(values)
    if length is not None:
        step_words = _words(values.reshape(rows * values.shape[1], -1)).reshape(rows, values.shape[1], -1)
        places = mix(np.arange(1, step_words.shape[1] * step_words.shape[2] + 1, dtype=np.uint64) * _PRIME)
        mixed = mix(step_words ^ places.reshape(step_words.shape[1:]))
        mixed[np.arange(step_words.shape[1]) >= length[:, None]] = 0
        return mixed.sum((1, 2), dtype=np.uint64) + length.astype(np.uint64)
    words = _words(values.reshape(rows, -1))
    if words.shape[1] > _WORDS:
        words = words[:, np.linspace(0, words.shape[1] - 1, _WORDS).astype(np.int64)]
    places = mix(np.arange(1, words.shape[1] + 1, dtype=np.uint64) * _PRIME)
    return mix(words ^ places).sum(1, dtype=np.uint64)


def _words(values: np.ndarray) -> np.ndarray:
    """Rows as whole 64-bit words. uint64 (rows, words)."""
    raw = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1) if values.size else None
    if raw is None:
        return np.zeros((len(values), 1), np.uint64)
    spare = -raw.shape[1] % 8
    return np.ascontiguousarray(np.pad(raw, ((0, 0), (0, spare)))).view(np.uint64)
