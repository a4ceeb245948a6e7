"""Entities in rows of tags, and their precision, recall and F1 as seqeval counts them (Nakayama 2018, its default
mode, which is conlleval's): an entity counts where type, first and last token are all right.

A tag is a code: 0 is padding, 1 is O; type k (from 0) with place B, I, E or S is 4·k + 2 … 4·k + 5.
N tokens of all rows, R replicates, M types, E entities.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from modelworks.metrics.bootstrap import Sums, blocks

PLACES = "BIES"
OUTSIDE = 1
"""The code of O."""
_B, _I, _E, _S = range(4)
_SAME = {"M": "I", "L": "E", "U": "S"}  # BMES; BILOU
_TAG = re.compile(r"([BIESMLU])[-_](.+)")


def parse(tag: str) -> tuple[str, str] | None:
    """A tag of any usual scheme → (place of B, I, E, S; type); ("", "") for O, None for what is no tag."""
    if tag in ("O", "o", ""):
        return "", ""
    found = _TAG.fullmatch(tag)
    if found is None:
        return None
    place, name = found.groups()
    return _SAME.get(place, place), name


def code(kind: int, place: str = "B") -> int:
    """The code of a type's tag."""
    return OUTSIDE + 1 + 4 * kind + PLACES.index(place)


def chunks(codes_N: np.ndarray, first_N: np.ndarray) -> np.ndarray:
    """The entities of rows that lie end to end; `first` marks each row's first token. int64 (E, 3): the places of its
    first and of its last token among the N, and its type."""
    codes_N = np.asarray(codes_N, np.int64)
    if not len(codes_N):
        return np.zeros((0, 3), np.int64)
    inside_N = codes_N > OUTSIDE
    place_N, type_N = np.where(inside_N, (codes_N - 2) % 4, -1), np.where(inside_N, (codes_N - 2) // 4, -1)
    before_N, before_type_N = np.roll(place_N, 1), np.roll(type_N, 1)
    before_N[first_N], before_type_N[first_N] = -1, -1
    # Goes on only what has the type before it, begins nothing, and follows what has not ended.
    ended_N = (before_N < 0) | (before_N == _E) | (before_N == _S)
    starts_N = inside_N & (ended_N | (type_N != before_type_N) | (place_N == _B) | (place_N == _S))
    follows_N = np.append(inside_N[1:] & ~starts_N[1:] & ~first_N[1:], False)
    begin_E, end_E = np.flatnonzero(starts_N), np.flatnonzero(inside_N & ~follows_N)
    return np.stack([begin_E, end_E, type_N[begin_E]], 1)


def encode(begin: int, end: int, kind: int, codes_T: np.ndarray, scheme: str) -> None:
    """Write an entity from `begin` to `end`, both included, into a row of codes."""
    base = code(kind)
    codes_T[begin : end + 1] = base + _I
    codes_T[begin] = base + _B
    if scheme == "bioes":
        codes_T[end] = base + (_S if begin == end else _E)


class EntityMeter:
    """Streams rows of codes: `prediction` (rows, W) against the target (rows, T), padded with 0."""

    def __init__(self, target: str, types: Sequence[str], bootstrap: int = 200, seed: int = 0) -> None:
        self.target, self.types, self.bootstrap, self.seed = target, list(types), bootstrap, seed
        self._sums = Sums(2 + 3 * len(self.types), bootstrap)

    def update(self, answer: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> None:
        """Add one batch. A predicted row that is shorter than the truth counts as O there, and the other way round."""
        predicted, truth = np.asarray(answer["prediction"]), np.asarray(batch[self.target])
        length_B = np.asarray(batch[f"{self.target}.length"])
        width = max(predicted.shape[1], truth.shape[1], 1)
        predicted_BT = np.full((len(truth), width), OUTSIDE, np.int64)
        truth_BT = predicted_BT.copy()
        predicted_BT[:, : predicted.shape[1]] = predicted
        truth_BT[:, : truth.shape[1]] = truth
        words_B = np.maximum(np.asarray(answer.get("words", length_B)), length_B)
        inside_BT = np.arange(width) < words_B[:, None]
        truth_BT[np.arange(width) >= length_B[:, None]] = OUTSIDE
        predicted_BT[~inside_BT | (predicted_BT == 0)] = OUTSIDE
        first_BT = np.zeros_like(inside_BT)
        first_BT[:, 0] = True
        found, wanted = (chunks(rows.reshape(-1), first_BT.reshape(-1)) for rows in (predicted_BT, truth_BT))
        keys = [_keys(part, truth_BT.size, len(self.types)) for part in (found, wanted)]
        hits = found[np.isin(keys[0], keys[1])]
        values_BF = np.concatenate(
            [
                ((predicted_BT == truth_BT) & inside_BT).sum(1)[:, None],
                inside_BT.sum(1)[:, None],
                *(self._counted(part, len(truth), width) for part in (hits, found, wanted)),
            ],
            1,
        ).astype(np.float64)
        for part, weights_NR in blocks(np.asarray(batch["row"]), self.bootstrap, self.seed):
            self._sums.add(values_BF[part], weights_NR)

    def _counted(self, entities: np.ndarray, rows: int, width: int) -> np.ndarray:
        """(rows, M): entities of each row and type."""
        cell_E = entities[:, 0] // width * len(self.types) + entities[:, 2]
        return np.bincount(cell_E, minlength=rows * len(self.types)).reshape(rows, -1)

    def _rate(self, sums: np.ndarray, name: str, kind: int | None = None) -> np.ndarray:
        """As seqeval: 0 where there is nothing to divide by. `kind`: of one type, else of all together."""
        parts = np.split(sums[..., 2:], 3, -1)
        hit, found, wanted = (part.sum(-1) if kind is None else part[..., kind] for part in parts)
        over = {"precision": found, "recall": wanted, "f1": (found + wanted) / 2}[name]
        return np.where(over > 0, hit / np.where(over > 0, over, 1), 0.0)

    def _macro(self, sums: np.ndarray) -> np.ndarray:
        """Mean over the types that there are, in truth or prediction, as seqeval's."""
        parts = np.split(self._sums.total[2:], 3)
        there = [kind for kind in range(len(self.types)) if parts[1][kind] + parts[2][kind] > 0]
        return np.mean([self._rate(sums, "f1", kind) for kind in there], 0) if there else sums[..., 0] * 0

    def result(self) -> dict[str, dict[str, Any]]:
        """Metric → {"value", "low", "high"}."""
        if not self._sums.total[1]:
            return {}
        found = {
            name: self._sums.summary(lambda s, n=name: self._rate(s, n))
            for name in ("f1", "precision", "recall")
        }
        found["f1_macro"] = self._sums.summary(self._macro)
        found["token_accuracy"] = self._sums.summary(lambda s: s[..., 0] / s[..., 1])
        for kind, label in enumerate(self.types):
            found[f"f1_{label}"] = self._sums.summary(lambda s, k=kind: self._rate(s, "f1", k))
        return {name: entry for name, entry in found.items() if entry is not None}

    def details(self) -> dict[str, Any]:
        """For the report: a table of types."""
        hit, found, wanted = (part.astype(int).tolist() for part in np.split(self._sums.total[2:], 3))
        return {
            "entities": {
                label: {"right": hit[kind], "predicted": found[kind], "true": wanted[kind]}
                for kind, label in enumerate(self.types)
            }
        }


def _keys(entities: np.ndarray, size: int, types: int) -> np.ndarray:
    """One whole number for each (first, last, type)."""
    return (entities[:, 0] * size + entities[:, 1]) * max(types, 1) + entities[:, 2]


def types_of(tags: Iterable[str]) -> tuple[set[str], set[str]]:
    """(types, tags that are none of a scheme) of some tags."""
    types, wrong = set(), set()
    for tag in tags:
        found = parse(tag)
        if found is None:
            wrong.add(tag)
        elif found[1]:
            types.add(found[1])
    return types, wrong
