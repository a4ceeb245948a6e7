"""Predictor: a Run loaded to answer. The fitted fields that trained it encode the questions and decode the answers.

predictor = Predictor.load(RunFolder.find("titanic"))
columns = predictor.predict(record_batch)["prediction"]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from modelworks.core.errors import UserError
from modelworks.core.field import Encoded, Field
from modelworks.core.run import RunFolder
from modelworks.core.task import Task
from modelworks.engine import heap, usercode
from modelworks.engine.checkpoint import read_tensors
from modelworks.engine.data.prepare import encode_rows
from modelworks.engine.network import Network, build, prepare_batch
from modelworks.engine.recipe import of_run
from modelworks.engine.unfilled import Unfilled


@dataclass
class Counts:
    """What happened to the rows asked about."""

    rows: int = 0
    unanswered: dict[str, int] = field(default_factory=dict)
    """Why → how many rows have no prediction."""
    changed: dict[str, int] = field(default_factory=dict)
    """"FIELD: unknown category" → how many values were taken as such."""

    def add(self, other: Counts) -> None:
        """Count what was counted elsewhere too."""
        self.rows += other.rows
        for mine, theirs in ((self.unanswered, other.unanswered), (self.changed, other.changed)):
            for why, number in theirs.items():
                tally(mine, why, number)


def tally(counts: dict[str, int], key: str, number: int) -> None:
    """Add to one of at most 200 counts."""
    if number and (key in counts or len(counts) < 200):
        counts[key] = counts.get(key, 0) + number


class Predictor:
    """Answers rows in batches."""

    def __init__(
        self, network: Network, task: Task, fields: Mapping[str, Field], batch_size: int = 512
    ) -> None:
        self.network, self.task, self.batch_size = network.eval(), task, batch_size
        self.fields = dict(fields)
        self.inputs = _inputs(task, fields)
        self.counts = Counts()

    @classmethod
    def load(cls, run: RunFolder, verify: bool = True) -> Predictor:
        """From a complete Run; its files are checked against the manifest first."""
        if not run.complete:
            raise UserError(f"{run.path}: is unfinished", f"modelworks train --resume --name {run.name}")
        if verify:
            run.verify()
        usercode.check(run)
        heap.keep()
        recipe = of_run(run.recipe_tree(), str(run.path / "recipe.yaml"))
        assert recipe.task is not None
        assert recipe.model is not None
        fields = run.fields()
        with Unfilled():
            network = build(recipe.model, recipe.task, fields, recipe.seed)
        if (run.path / "compression.json").exists():
            from modelworks.engine.compress import edits

            edits.apply(network, edits.of_run(run), str(run.path / edits.FILE))
        load_weights(network, run.path / "model.safetensors")
        return cls(network, recipe.task, fields, recipe.evaluate.batch_size)

    @torch.inference_mode()
    def predict(self, batch: pa.RecordBatch, root: Path | None = None) -> dict[str, list[Any]]:
        """Columns of answers in the rows' order; a row that cannot be read has None and its reason under `error`.

        A column that is missing counts as all values missing; that follows each field's own policy."""
        columns = {}
        for name, f in self.inputs.items():
            column = f.column or name
            if column in batch.schema.names:
                columns[column] = batch.column(column)
            else:
                columns[column] = pa.nulls(batch.num_rows, pa.string())
                tally(self.counts.changed, f"{column}: column is missing", batch.num_rows)
        encoded, bad = encode_rows(self.inputs, columns, root)
        self.counts.rows += batch.num_rows
        for f, why in bad.values():
            tally(self.counts.unanswered, f"{f}: {why}", 1)
        for name, result in encoded.items():
            for action, where in result.changed.items():
                tally(self.counts.changed, f"{name}: {action}", len(where))
        good = np.asarray([row for row in range(batch.num_rows) if row not in bad], np.int64)
        pieces: list[dict[str, list[Any]]] = []
        for start in range(0, len(good), self.batch_size):
            rows = good[start : start + self.batch_size]
            stored: dict[str, torch.Tensor] = {}
            for name, result in encoded.items():
                stored |= pick(name, result, rows)
            device = next(self.network.parameters()).device
            output = self.task.forward(self.network, prepare_batch(stored, self.inputs, device))
            predicted = {name: value.cpu().numpy() for name, value in self.task.predict(output).items()}
            pieces.append(self.task.answer(predicted, self.fields))
        answers: dict[str, list[Any]] = {}
        names = list(pieces[0]) if pieces else self._columns()
        for name in names:
            answered: list[Any] = [None] * batch.num_rows
            flat = [value for piece in pieces for value in piece[name]]
            for row, value in zip(good.tolist(), flat, strict=True):
                answered[row] = value
            answers[name] = answered
        if bad:
            answers["error"] = [
                f"{bad[row][0]}: {bad[row][1]}" if row in bad else None for row in range(batch.num_rows)
            ]
        return answers

    def _columns(self) -> list[str]:
        """The names of the answers' columns, where no row is answered that would tell: those of the trivial answer."""
        target = self.fields.get(self.task.target)
        if target is None or target.layout.form not in ("index", "vector", "multihot"):
            return ["prediction"]
        form, size = target.layout.form, target.layout.size
        seen = np.zeros((1, size) if form == "multihot" else 1, np.float32 if form == "vector" else np.int64)
        return list(self.task.answer(self.task.baseline(self.fields, seen), self.fields))


def inputs_of(run: RunFolder) -> dict[str, Field]:
    """What a complete Run reads, without its weights."""
    if not run.complete:
        raise UserError(f"{run.path}: is unfinished", f"modelworks train --resume --name {run.name}")
    usercode.check(run)
    task = of_run(run.recipe_tree(), str(run.path / "recipe.yaml")).task
    assert task is not None
    return _inputs(task, run.fields())


def _inputs(task: Task, fields: Mapping[str, Field]) -> dict[str, Field]:
    return {n: f for n, f in task.inputs(fields).items() if n != task.target or task.self_supervised}


def load_weights(network: Network, path: Path) -> None:
    """Weights into a network of the same shape; raises UserError where they do not fit."""
    tensors = read_tensors(path)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"{path}: the weights do not fit the recipe's model: {first}") from None


def pick(name: str, encoded: Encoded, rows: np.ndarray) -> dict[str, torch.Tensor]:
    """Some rows of an encoded chunk, as a batch; ragged ones padded with 0."""
    values, lengths = encoded.values, encoded.lengths
    if lengths is None:
        return {name: torch.from_numpy(np.ascontiguousarray(values[rows]))}
    starts = np.concatenate([[0], np.cumsum(lengths)])
    chosen = lengths[rows]
    padded = np.zeros((len(rows), int(chosen.max(initial=0)), *values.shape[1:]), values.dtype)
    for index, row in enumerate(rows):
        padded[index, : chosen[index]] = values[starts[row] : starts[row + 1]]
    return {name: torch.from_numpy(padded), f"{name}.length": torch.from_numpy(chosen.astype(np.int64))}
