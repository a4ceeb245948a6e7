"""Rows asked about and answered: a row of output for every row of input, in order, also where one cannot be read.

for asked in questions(predictor.inputs, source, quarantine):
    batch, answers = answered(predictor, asked, source.root)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from modelworks.core.errors import UserError
from modelworks.core.field import Field
from modelworks.core.source import Quarantine, Source

if TYPE_CHECKING:
    from modelworks.engine.predictor import Predictor


@dataclass(frozen=True)
class Asked:
    """One batch, and the places of the rows near it that could not be read."""

    batch: pa.RecordBatch
    places: list[int | None]
    """The batch's row numbers, with None at each unreadable row among them."""
    faults: list[str]
    """What is wrong with each of those."""


def questions(
    inputs: Mapping[str, Field], source: Source, quarantine: Quarantine, limit: int | None = None
) -> Iterator[Asked]:
    """The source's rows, `limit` at the most. `quarantine.places` must be a deque: it is emptied as rows pass."""
    left = limit if limit is not None else sys.maxsize
    done, last = 0, None
    for batch in source.read(quarantine):
        if left <= 0:
            return
        if last is None:
            columns = [field.column or name for name, field in inputs.items()]
            if not set(columns) & set(batch.schema.names):
                raise UserError(
                    f"none of the Run's input columns is there: wants {', '.join(columns)};"
                    f" got {', '.join(batch.schema.names)}"
                )
        places, faults = _places(batch.num_rows, done, quarantine, left)
        left -= len(places)
        done += batch.num_rows
        last = batch.slice(0, 0)
        yield Asked(batch.slice(0, len(places) - len(faults)), places, faults)
    places, faults = _places(0, done, quarantine, left, True)
    if faults and last is not None:
        yield Asked(last, places, faults)


def answered(
    predictor: Predictor, asked: Asked, root: Path | None
) -> tuple[pa.RecordBatch, dict[str, list[Any]]]:
    """(batch, its answers) with an empty row at each None, and its fault under `error`."""
    batch, answers = asked.batch, predictor.predict(asked.batch, root)
    if not asked.faults:
        return batch, answers
    told = iter(asked.faults)
    errors = answers.get("error") or [None] * batch.num_rows
    wide = {
        name: [None if row is None else values[row] for row in asked.places]
        for name, values in answers.items()
    }
    wide["error"] = [next(told) if row is None else errors[row] for row in asked.places]
    return batch.take(pa.array(asked.places, pa.int64())), wide


def _places(
    rows: int, done: int, quarantine: Quarantine, most: int, over: bool = False
) -> tuple[list[int | None], list[str]]:
    """The batch's row numbers with None at each unreadable row among them, `most` at the most; and their faults.

    `done`: good rows before this batch; `over`: nothing follows, so whatever is left stands here."""
    waiting, places, faults = quarantine.places, [], []
    if not waiting:  # as almost always
        return list(range(min(rows, most))), []
    for row in range(rows + 1):
        while waiting and (over or (waiting[0][0] <= done + row and row < rows)) and len(places) < most:
            faults.append(waiting.popleft()[1])
            places.append(None)
        if row < rows and len(places) < most:
            places.append(row)
    return places, faults
