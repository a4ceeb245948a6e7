"""The dataset as the audit sees it: kinds and roles of its columns, seeded samples, rows for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from modelworks.core.dataset import Dataset
from modelworks.core.field import Field
from modelworks.engine.audit.columns import describe, is_class_target, kind_of
from modelworks.engine.data.cells import texts
from modelworks.engine.data.given import count_named, given_codes

_STRETCH = 1 << 20
"""Rows whose splits are looked at together."""
_SHOWN = 6
"""Inputs shown of a row."""


@dataclass
class View:
    """The dataset, what is learned, and what is known of each column."""

    dataset: Dataset
    target: str | None
    fields: dict[str, Field]
    seed: int

    def __post_init__(self) -> None:
        profiles = self.dataset.profile()
        self.kinds = {n: kind_of(n, p, self.fields, n == self.target) for n, p in profiles.items()}
        self.inputs = self._inputs(list(profiles))
        self.classy = is_class_target(self.kinds[self.target]) if self.target else None
        self.columns = [describe(n, self.kinds[n], self._role(n), p) for n, p in profiles.items()]
        self.files = [
            name for name, profile in profiles.items()
            if max(profile.image_paths, profile.audio_paths) > 0.5 * profile.present
            and self.kinds[name] in ("image", "audio")
        ]  # fmt: skip
        if self.dataset.splits is None and "split" in profiles and self.target != "split":
            splits = given_splits(self.dataset)
            self.dataset = self.dataset if splits is None else self.dataset.with_splits(splits)

    def _inputs(self, names: list[str]) -> list[str]:
        """The recipe's columns; without one, every column but ids and empty ones."""
        used = [field.column or name for name, field in self.fields.items()]
        free = [name for name in names if name != "split" and self.kinds[name] not in ("id", "empty")]
        inputs = [name for name in dict.fromkeys(used or free) if name != self.target]
        return inputs or [name for name in names if name not in (self.target, "split")] or names

    def _role(self, name: str) -> str:
        if name == self.target:
            return "target"
        return "input" if name in self.inputs else "split" if name == "split" else "unused"

    @property
    def splits(self) -> np.ndarray | None:
        return self.dataset.splits

    def codes(self, rows: np.ndarray) -> np.ndarray:
        """Split codes of these rows; all 0 when nothing is split. int64."""
        return np.zeros(len(rows), np.int64) if self.splits is None else self.splits[rows].astype(np.int64)

    def column(self, name: str) -> dict[str, Any]:
        """What is known of a column."""
        return next(column for column in self.columns if column["name"] == name)

    def draw(self, count: int, even: bool = False) -> np.ndarray:
        """Rows at random, in order, dropped ones left out; `even`: as many of each split as there can be."""
        random = np.random.default_rng(self.seed)
        if self.splits is None:
            return _choose(random, self.dataset.rows, count)
        sizes = np.bincount(self.splits, minlength=4)[:3]
        pools = sorted(([code] for code in range(3)), key=lambda p: sizes[p[0]]) if even else [[0, 1, 2]]
        chosen: list[np.ndarray] = []
        for left, pool in zip(range(len(pools), 0, -1), pools, strict=True):
            share = (count - sum(map(len, chosen))) // left
            chosen.append(self._rows_of(pool, _choose(random, int(sizes[pool].sum()), share)))
        return np.sort(np.concatenate(chosen))

    def _rows_of(self, pool: list[int], ranks: np.ndarray) -> np.ndarray:
        """The rows that are the ranks-th ones of these splits, without listing all the others."""
        assert self.splits is not None
        found, before = [], 0
        for start in range(0, len(self.splits), _STRETCH):
            inside = np.flatnonzero(np.isin(self.splits[start : start + _STRETCH], pool))
            here = ranks[(ranks >= before) & (ranks < before + len(inside))]
            found.append(start + inside[here - before])
            before += len(inside)
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    def only(self, kind: str) -> str | None:
        """The one input of this kind."""
        found = [name for name in self.inputs if self.kinds[name] == kind]
        return found[0] if len(found) == 1 else None

    def main_text(self) -> str | None:
        """The text that a row mostly is."""
        name = self.only("text")
        if name and (len(self.inputs) <= 2 or self.column(name)["length"]["mean"] >= 40):
            return name
        return None

    @property
    def has_media(self) -> bool:
        """Whether an input is a picture or a sound."""
        return any(self.kinds[name] in ("image", "audio") for name in self.inputs)

    def shown(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Rows for people: number, label, inputs in brief."""
        if not len(rows):
            return []
        inputs = self.inputs[:_SHOWN]
        table = self.dataset.take(list(rows), list(dict.fromkeys([*inputs, *filter(None, [self.target])])))
        cells = {name: self._brief(name, chunk_of(table, name)) for name in table.column_names}
        labels = cells[self.target] if self.target else [None] * len(rows)
        return [
            {"row": int(row), "label": labels[i], "inputs": {name: cells[name][i] for name in inputs}}
            for i, row in enumerate(rows)
        ]

    def _brief(self, name: str, chunk: pa.Array) -> list[str]:
        if self.kinds[name] == "image" and name not in self.files:
            return ["(picture)"] * len(chunk)
        return [value[:120] for value in texts(chunk)]


def _choose(random: np.random.Generator, of: int, count: int) -> np.ndarray:
    return np.sort(random.choice(of, min(count, of), replace=False, shuffle=False)).astype(np.int64)


def given_splits(dataset: Dataset) -> np.ndarray | None:
    """Codes from a column `split` of train, valid and test; None where it says something else."""
    good, _ = count_named(dataset, "split", np.ones(dataset.rows, bool))
    return given_codes(dataset) if good == dataset.rows else None


def chunk_of(table: pa.Table, name: str) -> pa.Array:
    """A table's column as one array."""
    column = table.column(name).combine_chunks()
    return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
