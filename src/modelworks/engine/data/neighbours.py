"""Near-duplicates: rows that are almost, not exactly, the same, on a bounded seeded sample.

Texts: MinHash over character 5-grams, candidates by locality-sensitive hashing (Broder 1997; Leskovec,
Rajaraman, Ullman, "Mining of Massive Datasets", ch. 3), kept where the true Jaccard similarity is ≥ 0.8.
Images: 64-bit difference hash, candidates within 3 bits, kept where 16 × 16 grey pictures correlate at 0.99.
Tables: rows equal after rounding numbers to a thousandth of the column's deviation, case and spaces ignored.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

from modelworks.core.dataset import mix

SHINGLE = 5
CHARACTERS = 600
"""Characters of a text that are compared."""
BANDS, ROWS = 8, 4
"""A pair of Jaccard similarity s is a candidate with probability 1 − (1 − s⁴)⁸: .99 at 0.8, .40 at 0.5."""
JACCARD = 0.8
CORRELATION = 0.99
CROWD = 50
"""Candidates of one bucket are compared with so many of the bucket's own at the most."""

Pairs = list[tuple[int, int, float]]
"""(i, j, similarity), i < j, positions in the sample."""


def near_texts(values: Sequence[str], seed: int = 0) -> Pairs:
    """Pairs of texts with nearly the same characters; those equal as given are left to the exact count."""
    if not len(values):
        return []
    shingles, starts, ends = _shingled(values)
    bands = _bands(shingles, starts, ends, seed)

    def jaccard(left: int, right: int) -> float:
        return _jaccard(*(shingles[starts[i] : ends[i]] for i in (left, right)))

    found = []
    for left, right in _candidates(bands):
        if values[left] != values[right]:
            similarity = jaccard(left, right)
            if similarity >= JACCARD:
                found.append((left, right, similarity))
    return found


def text_bands(values: Sequence[str], seed: int = 0) -> np.ndarray:
    """Texts that share a band's value may be near duplicates. uint64 (BANDS, texts)."""
    return _bands(*_shingled(values), seed) if len(values) else np.zeros((BANDS, 0), np.uint64)


def similarities(left: Sequence[str], right: Sequence[str]) -> np.ndarray:
    """The Jaccard similarity of each pair of texts, by their character 5-grams. float64 (pairs,)."""
    shingles, starts, ends = _shingled([*left, *right])
    half = len(left)
    return np.array(
        [
            _jaccard(shingles[starts[i] : ends[i]], shingles[starts[half + i] : ends[half + i]])
            for i in range(half)
        ],
        np.float64,
    )


def _shingled(values: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(shingles of all texts, where each text's begin, where they end: one at least)."""
    flat, starts = _codes([normalise(value) for value in values])
    ends = np.append(starts[1:], len(flat)) - (SHINGLE - 1)
    return _shingles(flat), starts, np.maximum(ends, starts + 1)


def _bands(shingles: np.ndarray, starts: np.ndarray, ends: np.ndarray, seed: int) -> np.ndarray:
    """MinHash signatures, ROWS of them to a band. uint64 (BANDS, texts)."""
    marks = np.stack([starts, ends], 1).ravel()
    generator = np.random.default_rng(seed)
    bands = np.zeros((BANDS, len(starts)), np.uint64)
    for index in range(BANDS * ROWS):
        salt = generator.integers(1, 2**63, dtype=np.uint64)
        smallest = np.minimum.reduceat(np.append(mix(shingles ^ salt), np.uint64(2**64 - 1)), marks)[::2]
        bands[index // ROWS] = mix(bands[index // ROWS] * np.uint64(0x9E3779B97F4A7C15) + smallest)
    return bands


def _jaccard(left: np.ndarray, right: np.ndarray) -> float:
    one, two = np.unique(left), np.unique(right)
    both = len(np.intersect1d(one, two, assume_unique=True))
    return both / (len(one) + len(two) - both)


def normalise(text: str) -> str:
    """Case, width, punctuation and spacing put aside."""
    folded = unicodedata.normalize("NFKC", text[: 2 * CHARACTERS]).casefold()
    return re.sub(r"[\W_]+", " ", folded).strip()[:CHARACTERS]


def _codes(values: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """All characters joined end to end, each text padded to one shingle; where each text starts."""
    padded = [value.ljust(SHINGLE, "\0") for value in values]
    flat = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    return flat, np.cumsum([0, *map(len, padded[:-1])]) if padded else np.zeros(0, np.int64)


def _shingles(flat: np.ndarray) -> np.ndarray:
    """A hash of the SHINGLE characters from each position on; those that cross texts are never read."""
    total = np.zeros(max(len(flat) - SHINGLE + 1, 0), np.uint64)
    for offset in range(SHINGLE):
        total = mix(total * np.uint64(31) + flat[offset : offset + len(total)] + np.uint64(1))
    return total


def _candidates(bands: np.ndarray) -> list[tuple[int, int]]:
    """Pairs that share a band's value. uint64 (bands, rows)."""
    pairs: set[tuple[int, int]] = set()
    for band in bands:
        order = np.argsort(band, kind="stable")
        edges = np.flatnonzero(np.r_[True, band[order][1:] != band[order][:-1], True])
        for start, stop in itertools.pairwise(edges):
            if stop - start > 1:
                members = order[start:stop].tolist()
                for position, left in enumerate(members):
                    pairs.update(
                        (min(left, right), max(left, right))
                        for right in members[position + 1 : position + 1 + CROWD]
                    )
    return sorted(pairs)


def near_images(pictures: np.ndarray, exact: np.ndarray) -> Pairs:
    """Pairs of nearly equal pictures, float32 (rows, side, side), but not of equal `exact` hash."""
    rows = len(pictures)
    if rows < 2:
        return []
    small = _shrink(pictures)
    # A step counts from 4 % of the contrast on, so that noise on an even ground changes no bit.
    contrast = np.ptp(small.reshape(rows, -1), axis=1)[:, None, None]
    bits_R64 = (np.diff(small, axis=2) > 0.04 * contrast).reshape(rows, 64)
    # Two hashes within 3 bits agree in at least one of four 16-bit bands.
    weights = np.uint64(1) << np.arange(16, dtype=np.uint64)
    bands = (bits_R64.reshape(rows, 4, 16).astype(np.uint64) @ weights).T
    flat = pictures.reshape(rows, -1).astype(np.float64)
    flat = flat - flat.mean(1, keepdims=True)
    norm = np.linalg.norm(flat, axis=1)
    found = []
    for left, right in _candidates(bands):
        if exact[left] == exact[right] or norm[left] < 1e-6 or norm[right] < 1e-6:
            continue  # a flat picture resembles every flat picture
        if np.count_nonzero(bits_R64[left] != bits_R64[right]) <= 3:
            similarity = float(flat[left] @ flat[right] / (norm[left] * norm[right]))
            if similarity >= CORRELATION:
                found.append((left, right, similarity))
    return found


def _shrink(pictures: np.ndarray) -> np.ndarray:
    """(rows, 16, 16) → (rows, 8, 9): row pairs averaged, nine columns sampled between neighbours."""
    tall = pictures.reshape(len(pictures), 8, -1, pictures.shape[2]).mean(2)
    place = np.linspace(0, pictures.shape[2] - 1, 9)
    left = np.floor(place).astype(int)
    right = np.minimum(left + 1, pictures.shape[2] - 1)
    share = (place - left).astype(np.float32)
    return tall[:, :, left] * (1 - share) + tall[:, :, right] * share


def near_rows(
    columns: Sequence[np.ndarray],
    deviations: Sequence[float],
    texts: Sequence[Sequence[str]],
    exact: np.ndarray,
) -> Pairs:
    """Pairs of table rows that are equal after rounding. `columns`: float64 (rows,) each, with its deviation;
    `texts`: the other columns; `exact`: hash of the row, to leave equals out."""
    if not len(exact):
        return []
    total = np.zeros(len(exact), np.uint64)
    for values, deviation in zip(columns, deviations, strict=True):
        grid = np.nan_to_num(np.round(values / (deviation / 1000 or 1.0)), nan=-1e18)
        total = mix(total * np.uint64(31) + grid.astype(np.int64).view(np.uint64))
    for column in texts:
        seen: dict[str, int] = {}
        codes = np.array([seen.setdefault(normalise(value), len(seen)) for value in column], np.uint64)
        total = mix(total * np.uint64(31) + codes)
    return [(left, right, 1.0) for left, right in _candidates(total[None]) if exact[left] != exact[right]]
