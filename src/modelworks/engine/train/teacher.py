"""Teacher: a Run that answers the training rows of another, which learns from its answers (distil.py).

prepared.lessons = lessons(taken)                       # once for each training row, with the teacher's own fields
rows, players = taught(network, recipe, fields, prepared, rows)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modelworks.core.errors import DataError, Problem, RecipeError, UserError
from modelworks.core.field import Field
from modelworks.core.run import RunFolder
from modelworks.core.task import Batch, Player, Task
from modelworks.engine import judge
from modelworks.engine.data.prepare import Prepared, prepare
from modelworks.engine.data.store import Column, Rows
from modelworks.engine.intake import Taken
from modelworks.engine.network import Network, prepare_batch
from modelworks.engine.predictor import Predictor
from modelworks.engine.recipe import Recipe
from modelworks.engine.train.distil import Distil

LESSON = "lesson"
"""Of a batch: what the teacher said of its rows."""


def lessons(taken: Taken) -> Tensor | None:
    """What the teacher says of each training row, (rows, …), in the order of the store; None where it is asked live."""
    distil, task = taken.recipe.train.distil, taken.recipe.task
    assert distil is not None
    assert task is not None
    teacher = _teacher(distil, task)
    if _live(distil, task):
        return None
    # The teacher reads the raw rows with fields of its own, so that its tokens or sizes may be others.
    seen = prepare(taken.dataset, teacher.inputs)
    asked, wanted = seen.store("train"), taken.prepared.store("train")
    batches = list(judge.batches(asked, teacher.batch_size))
    told = torch.cat([_ask(teacher, asked.gather(positions), taken.fields) for positions in batches])
    found = torch.empty_like(told)
    found[torch.from_numpy(np.concatenate(batches))] = told
    numbers = asked.row_numbers(np.arange(len(asked)))
    order = np.argsort(numbers, kind="stable")
    rows = wanted.row_numbers(np.arange(len(wanted)))
    place = np.minimum(np.searchsorted(numbers[order], rows), len(order) - 1)
    missing = rows[numbers[order[place]] != rows]
    if len(missing):
        raise DataError(
            f"{distil.teacher} cannot read {len(missing):,} of the training rows, the first is row {missing[0]}",
            "leave them out of the data, or train without them",
        )
    return found[torch.from_numpy(order[place])]


@torch.inference_mode()
def _ask(teacher: Predictor, stored: Mapping[str, Tensor], fields: Mapping[str, Field]) -> Tensor:
    device = next(teacher.network.parameters()).device
    batch = prepare_batch(stored, teacher.inputs, device)
    output = teacher.task.forward(teacher.network, batch)
    return teacher.task.lesson(output, teacher.fields, fields).float().cpu().clone()


def taught(
    network: Network,
    recipe: Recipe,
    fields: Mapping[str, Field],
    prepared: Prepared,
    rows: Rows,
    device: torch.device,
) -> tuple[Rows, tuple[Player, ...]]:
    """The training rows with their lessons, and the player whose loss heeds them."""
    distil, task = recipe.train.distil, recipe.task
    assert distil is not None
    assert task is not None
    players = task.players(network)
    if len(players) != 1:
        raise _refused("a task with several losses cannot be taught")
    teacher = None
    if prepared.lessons is None:
        teacher = _teacher(distil, task)
        _same_inputs(teacher, task, fields)
        teacher.network.to(device)
    else:
        rows = Taught(rows, prepared.lessons)

    def loss(batch: Batch) -> tuple[Tensor, Tensor | int]:
        output = task.forward(network, batch)
        total, count = task.loss(output, batch)
        if teacher is None:
            lesson, heard = batch[LESSON], batch
        else:
            with torch.no_grad():
                answer = teacher.task.forward(teacher.network, batch)
            lesson = teacher.task.lesson(answer, teacher.fields, fields)
            heard = {
                name: value for name, value in batch.items() if not name.startswith("mix.")
            }  # it saw the mix
        imitation = task.imitate(output, lesson, heard, distil.temperature)
        return (1 - distil.weight) * total + distil.weight * imitation, count

    return rows, (replace(players[0], loss=loss),)


class Taught:
    """Training rows with what the teacher said of each."""

    def __init__(self, rows: Rows, lessons: Tensor) -> None:
        self.rows, self.lessons = rows, lessons
        self.columns: dict[str, Column] = rows.columns
        self.steps = rows.steps

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, epoch: int) -> Taught:
        """The rows of an epoch: always the same."""
        return self

    def lengths(self, name: str, positions: np.ndarray) -> np.ndarray:
        """True lengths of a ragged field's rows."""
        return self.rows.lengths(name, positions)

    def row_numbers(self, positions: np.ndarray) -> np.ndarray:
        """The dataset's row numbers."""
        return self.rows.row_numbers(positions)

    def gather(self, positions: np.ndarray, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """The rows' own values, and `lesson`."""
        return {**self.rows.gather(positions, names), LESSON: self.lessons[torch.from_numpy(positions)]}


def _live(distil: Distil, task: Task) -> bool:
    return distil.live or task.packed


def _teacher(distil: Distil, task: Task) -> Predictor:
    if type(task).imitate is Task.imitate:
        raise _refused(f"task {task.kind} says nothing of how to learn from a teacher")
    teacher = Predictor.load(RunFolder.find(distil.teacher))
    if teacher.task.kind != task.kind:
        raise _refused(f"{distil.teacher} has learned another task, {teacher.task.kind}")
    return teacher


def _same_inputs(teacher: Predictor, task: Task, fields: Mapping[str, Field]) -> None:
    """Live, both read the same batch: it must mean the same to both."""
    ours = task.inputs(fields)
    if list(ours) != list(teacher.inputs) or any(_differ(ours[n], teacher.inputs[n]) for n in ours):
        raise _refused(
            "asked live, the teacher must read what the student reads, and its fields have learned otherwise",
            "the same data and fields, or init: TEACHER; or live: false",
        )


def _differ(one: Field, other: Field) -> bool:
    def plain(value: Any) -> Any:
        return (value.dtype.str, value.tobytes()) if isinstance(value, np.ndarray) else value

    states = [{name: plain(value) for name, value in field.state.items()} for field in (one, other)]
    return one.kind != other.kind or one.layout != other.layout or states[0] != states[1]


def _refused(message: str, remedy: str = "") -> UserError:
    return RecipeError([Problem("train.distil", message, remedy)])
