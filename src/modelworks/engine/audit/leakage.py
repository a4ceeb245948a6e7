"""Leakage: single columns that give the target away, and labels that a row's neighbours deny.

A column is judged alone: a lookup table (bins of a number, values of a category) is learned on half the
sample and asked about the other half. A near-perfect answer means that the column holds the target, or was
written after it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from modelworks.core.dataset import mix

BINS = 64
NEIGHBOURS = 10


# ------------------------------------------------------------------------------------------- one column alone
def bins(values: np.ndarray) -> np.ndarray:
    """Numbers → codes: one a value when few, else quantile bins; 0 for missing. int64 (rows,)."""
    codes = np.zeros(len(values), np.int64)
    present = ~np.isnan(values)
    if present.any():
        distinct = np.unique(values[present])
        edges = (
            distinct
            if len(distinct) <= BINS
            else np.unique(np.quantile(values[present], np.linspace(0, 1, BINS + 1)[1:-1]))
        )
        codes[present] = 1 + np.searchsorted(edges, values[present], side="right")
    return codes


def coded(values: Sequence[Any]) -> np.ndarray:
    """Values → codes in order of appearance. int64 (rows,)."""
    seen: dict[Any, int] = {}
    return np.array([seen.setdefault(value, len(seen)) for value in values], np.int64)


def lookup_skill(codes: np.ndarray, labels: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """(accuracy, skill) of guessing labels from codes: skill 0 is the commonest label, 1 is perfect."""
    right = total = 0.0
    classes, kinds = int(labels.max()) + 1, int(codes.max()) + 1
    base = np.bincount(labels).max() / len(labels)
    half = np.random.default_rng(seed).permutation(len(labels)) % 2 == 0
    for learn in (half, ~half):
        counts = np.bincount(codes[learn] * classes + labels[learn], minlength=kinds * classes).reshape(
            kinds, classes
        )
        guess = np.where(counts.any(1), counts.argmax(1), np.bincount(labels[learn]).argmax())
        right += float((guess[codes[~learn]] == labels[~learn]).sum())
        total += float((~learn).sum())
    accuracy = right / total if total else 0.0
    return accuracy, max(0.0, (accuracy - base) / (1 - base)) if base < 1 else 0.0


def auc(values: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve of one number, in the better direction; missing values are left out."""
    known = ~np.isnan(values)
    values, positive = values[known], positive[known]
    ones = int(positive.sum())
    if not ones or ones == len(positive):
        return 0.5
    area = (ranks(values)[positive].sum() - ones * (ones + 1) / 2) / (ones * (len(positive) - ones))
    return float(max(area, 1 - area))


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties averaged."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def lookup_r2(codes: np.ndarray, target: np.ndarray, seed: int = 0) -> float:
    """R² of guessing a number by the mean of its code."""
    kinds = int(codes.max()) + 1
    half = np.random.default_rng(seed).permutation(len(target)) % 2 == 0
    wrong = 0.0
    for learn in (half, ~half):
        counts = np.bincount(codes[learn], minlength=kinds)
        mean = np.bincount(codes[learn], target[learn], minlength=kinds) / np.maximum(counts, 1)
        mean[counts == 0] = target[learn].mean() if learn.any() else 0.0
        wrong += float(((target[~learn] - mean[codes[~learn]]) ** 2).sum())
    spread = float(((target - target.mean()) ** 2).sum())
    return max(0.0, 1 - wrong / spread) if spread else 0.0


def correlation2(values: np.ndarray, target: np.ndarray) -> float:
    """The larger of Pearson's and Spearman's correlation, squared."""
    known = ~np.isnan(values)
    if known.sum() < 10 or known.mean() < 0.5:
        return 0.0
    best = 0.0
    for one, two in ((values[known], target[known]), (ranks(values[known]), ranks(target[known]))):
        one, two = one - one.mean(), two - two.mean()
        scale = float(np.sqrt((one**2).sum() * (two**2).sum()))
        best = max(best, float(one @ two / scale) ** 2 if scale else 0.0)
    return best


def mentions(texts: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Code of the first class name that each text holds as a word; 0 for none. int64 (rows,)."""
    names = [name for name in names if len(name) >= 3 or (name and not name.isascii())]
    if not names:
        return np.zeros(len(texts), np.int64)
    pattern = re.compile(
        "|".join(
            rf"(?<![0-9A-Za-z]){re.escape(n)}(?![0-9A-Za-z])" if n.isascii() else re.escape(n)
            for n in sorted(names, key=len, reverse=True)
        ),
        re.IGNORECASE,
    )
    place = {name.casefold(): index + 1 for index, name in enumerate(names)}
    found = (pattern.search(text) for text in texts)
    return np.array([place.get(hit.group().casefold(), 0) if hit else 0 for hit in found], np.int64)


def stem(text: str) -> str:
    """The letters an identifier begins with: `cat_0012` → `cat`."""
    hit = re.match(r"[^\W\d_]*", text)
    return hit.group()[:20].casefold() if hit else ""


# ------------------------------------------------------------------------------------------- neighbours
def text_features(values: Sequence[str], width: int = 2048, longest: int = 600) -> np.ndarray:
    """Signed hashed characters and pairs of characters, tf-idf, unit length. float32 (rows, width)."""
    features = np.zeros((len(values), width), np.float32)
    for row, value in enumerate(values):
        letters = np.frombuffer(
            value[:longest].casefold().encode("utf-32-le", "surrogatepass"), np.uint32
        ).astype(np.uint64)
        for grams in (mix(letters + np.uint64(1)), mix(mix(letters[:-1] + np.uint64(2)) + letters[1:])):
            grams = np.unique(grams)
            sign = np.where(
                (grams >> np.uint64(40)) & np.uint64(1), 1.0, -1.0
            )  # collisions cancel on average
            features[row] += np.bincount((grams % np.uint64(width)).astype(np.int64), sign, width)
    seen = (features != 0).sum(0)
    features *= np.log((1 + len(values)) / (1 + seen)).astype(np.float32)
    return _unit(features)


def table_features(
    columns: Sequence[np.ndarray], categories: Sequence[Sequence[str]], width: int = 128
) -> np.ndarray:
    """Numbers standardised robustly, categories hashed to ±1 in `width` columns. float32 (rows, …)."""
    parts = []
    for values in columns:
        middle, low, high = np.nanmedian(values), np.nanquantile(values, 0.1), np.nanquantile(values, 0.9)
        parts.append(np.nan_to_num(np.clip((values - middle) / ((high - low) / 2 or 1.0), -3, 3))[:, None])
    if categories:
        hashed = np.zeros((len(categories[0]), width))
        for index, column in enumerate(categories):
            codes = coded(column).astype(np.uint64)
            hashed[
                np.arange(len(codes)),
                (mix(codes * np.uint64(31) + np.uint64(index + 1)) % np.uint64(width)).astype(np.int64),
            ] += 1
        parts.append(hashed)
    return np.concatenate(parts, 1).astype(np.float32)


def image_features(pictures: np.ndarray) -> np.ndarray:
    """Grey pictures, each to zero mean and unit length. float32 (rows, pixels)."""
    flat = pictures.reshape(len(pictures), -1).astype(np.float32)
    return _unit(flat - flat.mean(1, keepdims=True))


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)


def nearest(features: np.ndarray, count: int = NEIGHBOURS) -> np.ndarray:
    """The `count` nearest other rows of each row, by Euclidean distance. int64 (rows, count)."""
    square = (features**2).sum(1)
    found = []
    for start in range(0, len(features), 512):
        block = features[start : start + 512]
        distance = square - 2 * block @ features.T
        distance[np.arange(len(block)), start + np.arange(len(block))] = np.inf
        found.append(np.argpartition(distance, count, axis=1)[:, :count])
    return np.concatenate(found)


def deny(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Rows with a label that none of their nearest neighbours bears, while nine in ten bear one other:
    (positions, that other label, accuracy of the neighbours' vote)."""
    around = labels[nearest(features)]
    classes = int(labels.max()) + 1
    votes = np.zeros((len(labels), classes), np.int32)
    np.add.at(votes, (np.arange(len(labels))[:, None], around), 1)
    winner = votes.argmax(1)
    agreed = votes.max(1) >= 0.9 * around.shape[1]
    wrong = np.flatnonzero(agreed & (votes[np.arange(len(labels)), labels] == 0))
    return wrong, winner[wrong], float((winner == labels).mean())


def deny_numbers(features: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Rows whose target lies far from neighbours that agree: (positions, neighbours' median, its R²)."""
    around = target[nearest(features)]
    middle = np.median(around, axis=1)
    residual = target - middle
    scale = 1.4826 * float(np.median(np.abs(residual - np.median(residual)))) or float(residual.std()) or 1.0
    spread = np.quantile(around, 0.8, axis=1) - np.quantile(around, 0.2, axis=1)
    wrong = np.flatnonzero((np.abs(residual) > 8 * scale) & (spread < 2 * scale))
    variance = float(((target - target.mean()) ** 2).sum())
    return wrong, middle[wrong], 1 - float((residual**2).sum()) / variance if variance else 0.0
