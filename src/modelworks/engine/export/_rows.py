"""Real rows of a Run's own data, encoded by its own fields: what an export is compared on.

rows = Rows.of(run, predictor, count=100)
stored = rows.batch([0, 1, 2])                  # as Graph.feeds wants it; ragged fields padded with 0
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from modelworks.core.dataset import Dataset
from modelworks.core.errors import UserError
from modelworks.core.field import Field
from modelworks.core.run import RunFolder
from modelworks.core.source import Quarantine, Source
from modelworks.engine.data.joined import joined, parts_of
from modelworks.engine.data.open import source_for
from modelworks.engine.data.prepare import encode_rows
from modelworks.engine.export._graph import NOISE, graph_fields
from modelworks.engine.predictor import Predictor
from modelworks.engine.recipe import Recipe

_READ = 2000
"""Rows looked at, of which those compared are taken evenly."""
_NUMBERS = 2**20
"""Most numbers that are computed for a row: 64 rows of them are 256 MB."""


@dataclass
class Rows:
    """Encoded rows, each by itself."""

    stored: list[dict[str, np.ndarray]]
    """Name → what is stored of the row; a ragged field's is (steps, …)."""
    raw: list[dict[str, Any]]
    """The same rows as they were read, by column."""
    ragged: frozenset[str]
    source: str
    longest: int = 1
    """Steps of a row that batches hold."""

    @classmethod
    def of(cls, run: RunFolder, predictor: Predictor, count: int = 100, data: str | None = None) -> Rows:
        """`data`: rows to take instead of those that the recipe names."""
        fields, longest = graph_fields(predictor), _longest(predictor)
        if not fields:
            noise = np.random.default_rng(0).standard_normal((count, predictor.network.model.latent))
            return cls([{NOISE: row} for row in noise.astype(np.float32)], [], frozenset(), "noise")
        source = source_for(data) if data is not None else _source(run)
        found = list(_encoded(source, predictor, fields))
        if not found:
            raise UserError(f"{run.path}: none of its rows can be read", "give others with --data FILE")
        chosen = np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)
        ragged = frozenset(name for name, field in fields.items() if field.layout.ragged)
        picked = [found[at] for at in chosen]
        return cls(
            [one for one, _ in picked], [raw for _, raw in picked], ragged, data or source.kind, longest
        )

    def __len__(self) -> int:
        return len(self.stored)

    def batch(self, at: Sequence[int], whole: bool = False) -> dict[str, np.ndarray]:
        """Some rows side by side; `whole`: with all their steps."""
        batch: dict[str, np.ndarray] = {}
        for name in self.stored[0]:
            rows = [self.stored[row][name] for row in at]
            if name not in self.ragged:
                batch[name] = np.stack(rows)
                continue
            rows = rows if whole else [row[: self.longest] for row in rows]
            lengths = np.array([len(row) for row in rows], np.int64)
            padded = np.zeros((len(rows), int(lengths.max()), *rows[0].shape[1:]), rows[0].dtype)
            for place, row in enumerate(rows):
                padded[place, : len(row)] = row
            batch[name], batch[f"{name}.length"] = padded, lengths
        return batch

    @property
    def steps(self) -> int:
        """Most steps of a row in a batch."""
        most = max((len(row[name]) for row in self.stored for name in self.ragged), default=1)
        return min(most, self.longest)

    def shown(self, count: int = 2) -> list[dict[str, Any]]:
        """A few of the raw rows as plain values, for people to read; none where they are no such."""
        kept = []
        for raw in self.raw[:count]:
            plain = {name: v.isoformat() if hasattr(v, "isoformat") else v for name, v in raw.items()}
            plain = {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in plain.items()}
            if raw and len(repr(plain)) < 2000 and "bytes" not in repr(plain):
                kept.append(plain)
        return kept

    def example(self, count: int = 3) -> dict[str, np.ndarray]:
        """A few rows of unequal lengths, for a graph to be recorded with."""
        size = {row: sum(len(one[name]) for name in self.ragged) for row, one in enumerate(self.stored)}
        order = sorted(size, key=lambda row: size[row])
        return self.batch([order[at * (len(order) - 1) // (count - 1)] for at in range(count)])


def _longest(predictor: Predictor) -> int:
    """Steps of a row that are compared, so that the scores of a whole vocabulary for each leave room in memory."""
    task = predictor.task
    wide = hasattr(getattr(predictor.network, "head", None), "logits")
    size = (
        max((field.layout.size for field in task.inputs(predictor.fields).values()), default=1) if wide else 1
    )
    return max(16, _NUMBERS // size)


def _source(run: RunFolder) -> Source:
    """The recipe's own; its paths are meant from here, or from the folder that `runs` is in."""
    tree = run.recipe_tree()
    told = dict(tree.get("data", {}).get("source", {}))
    path = told.get("path")
    if isinstance(path, str) and not Path(path).exists() and (run.path.resolve().parents[1] / path).exists():
        told["path"] = str(run.path.resolve().parents[1] / path)
    try:
        source = Recipe.check({**tree, "data": {**tree["data"], "source": told}}, str(run.path)).data.source
        if isinstance(path, str) and not Path(told["path"]).expanduser().exists():
            raise UserError(f"no file {path}")
    except (UserError, KeyError, OSError) as error:
        raise UserError(
            f"{run.path}: the data that it learned from are not there to compare the export on ({error})",
            "give rows like them: --data FILE",
        ) from None
    return source


def _encoded(
    source: Source, predictor: Predictor, fields: dict[str, Field]
) -> Iterator[tuple[dict[str, np.ndarray], dict[str, Any]]]:
    names = {id(field): name for name, field in reversed(predictor.fields.items())}
    columns = {name: field.column or names.get(id(field), name) for name, field in fields.items()}
    parts = parts_of(predictor.fields)
    left = _READ
    for batch in source.read(Quarantine()):
        batch = batch.slice(0, left)
        left -= batch.num_rows
        if parts:
            (batch,) = [one for _, one in joined(Dataset.from_batches([batch]), parts).batches()]
        there = {
            column: batch.column(column) if column in batch.schema.names else pa.nulls(batch.num_rows)
            for column in columns.values()
        }
        by_column = {name: there[columns[name]] for name in fields}
        encoded, bad = {}, {}
        for name, field in fields.items():
            one, wrong = encode_rows({name: field}, {field.column or name: by_column[name]}, source.root)
            encoded |= one
            bad |= wrong
        raw = [dict(zip(there, row, strict=True)) for row in zip(*map(_listed, there.values()), strict=True)]
        for row in range(batch.num_rows):
            if row not in bad:
                yield from _pieces(
                    {name: _row(one, row) for name, one in encoded.items()}, raw[row], predictor, fields
                )
        if left <= 0:
            return


def _listed(column: pa.Array) -> list[Any]:
    if isinstance(column, pa.FixedShapeTensorArray):
        return list(column.to_numpy_ndarray())
    return column.to_pylist()


def _row(encoded: Any, row: int) -> np.ndarray:
    if encoded.lengths is None:
        return encoded.values[row]
    end = int(encoded.lengths[: row + 1].sum())
    return encoded.values[end - int(encoded.lengths[row]) : end]


def _pieces(
    stored: dict[str, np.ndarray], raw: dict[str, Any], predictor: Predictor, fields: dict[str, Field]
) -> Iterator[tuple[dict[str, np.ndarray], dict[str, Any]]]:
    """The row, or its windows where a task reads those."""
    if not predictor.task.packed:
        yield stored, raw
        return
    longest = min(field.layout.length for field in fields.values())
    for start in range(0, max(len(one) for one in stored.values()), longest):
        piece = {name: one[start : start + longest] for name, one in stored.items()}
        if all(len(one) > 1 for one in piece.values()):
            yield piece, {} if start or len(next(iter(stored.values()))) > longest else raw
