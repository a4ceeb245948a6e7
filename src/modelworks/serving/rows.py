"""Rows: the engine of every task that answers row by row. All requests of a frame go through the model at once.

    engine = open(RunFolder.find("titanic"), Options("titanic"))
    engine.submit(Frame("predict", 1, {"items": [["plain", "application/json", 12, {}]]}, b'{"age": 31}'))
    engine.step()        # [Frame("answer", 1, {"items": [[200, "application/json", 57]]}, b'{"prediction": …}')]

An item is [form, content type, length, more]: form is plain (bodies.py), counted (plain, whose answer tells the tokens
that were read) or oip (oip.py); more holds `encoding` (gzip,
deflate) and `head` (bytes of JSON before an OIP body's raw tensors).
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import orjson
import pyarrow as pa
import torch

from modelworks.core.errors import UserError
from modelworks.core.field import Encoded
from modelworks.core.run import RunFolder
from modelworks.engine.data.prepare import encode_rows
from modelworks.engine.network import prepare_batch
from modelworks.engine.predictor import Predictor, pick
from modelworks.serving import bodies, describe, oip
from modelworks.serving.bodies import Asked, Form
from modelworks.serving.drift import Drift
from modelworks.serving.engine import Options
from modelworks.serving.limits import Refused, unfolded, unzip
from modelworks.serving.wire import Frame

JSON = "application/json"
_STEP = 8
"""Rows of a ragged input that go through the model at once: of like length, so that little is padding."""
T = TypeVar("T")
Written = tuple[int, str, bytes, dict[str, Any]]
"""Status, content type, body, and what else the front has to know."""
Answers = list[dict[str, Any]]
"""A row's answer: `prediction`, `probabilities` where there are, or `error`."""


def open(run: RunFolder, options: Options) -> Rows:
    """The engine of a Run."""
    torch.set_num_threads(options.threads)
    return Rows(Predictor.load(run), run, options)


class Rows:
    """Answers frames of requests, one frame a step."""

    def __init__(self, predictor: Predictor, run: RunFolder, options: Options) -> None:
        self.predictor, self.options = predictor, options
        self.columns = {name: field.column or name for name, field in predictor.inputs.items()}
        self.forms: dict[str, Form] = {
            column: describe.form_of(predictor.inputs[name]) for name, column in self.columns.items()
        }
        self.ragged = [name for name, field in predictor.inputs.items() if field.layout.ragged]
        self.metadata = describe.metadata(predictor, run, self.forms)
        self._waiting: deque[Frame] = deque()
        self._cancelled: set[int] = set()
        self.counters: dict[str, float] = {"rows": 0, "rows_unanswered": 0}
        self.drift: Drift | None = None
        # The first pass allocates and plans; a request should not wait for it.
        first = self.answer(
            Asked({name: [value] for name, value in describe.example(self.metadata).items()}, 1)
        )
        self.metadata["outputs"] = describe.outputs(first[0], predictor)
        self.drift = Drift(run, predictor.inputs) if options.drift else None

    @property
    def busy(self) -> bool:
        return bool(self._waiting)

    def submit(self, frame: Frame) -> None:
        self._waiting.append(frame)

    def cancel(self, number: int) -> None:
        if any(frame.id == number for frame in self._waiting):
            self._cancelled.add(number)

    def stats(self) -> dict[str, Any]:
        return {"counters": dict(self.counters), "gauges": self.drift.gauges() if self.drift else {}}

    # ------------------------------------------------------------------ a frame
    def step(self) -> list[Frame]:
        frame = self._waiting.popleft()
        if frame.id in self._cancelled:
            self._cancelled.discard(frame.id)
            return []
        asked: list[Asked | Refused] = []
        body, start = memoryview(frame.body), 0
        for form, content_type, length, more in frame.meta["items"]:
            part = bytes(body[start : start + length])
            asked.append(_safely(lambda: self._read(form, content_type, part, more)))  # noqa: B023
            start += length
        found = iter(self._answer([each for each in asked if isinstance(each, Asked)]))
        items, parts = [], []
        for each, (form, *_) in zip(asked, frame.meta["items"], strict=True):
            rows = next(found) if isinstance(each, Asked) else each
            told = _safely(lambda: self._write(form, each, rows))  # noqa: B023
            status, kind, part, more = _refusal(form, told) if isinstance(told, Refused) else told
            items.append([status, kind, len(part), more])
            parts.append(part)
        return [Frame("answer", frame.id, {"items": items}, b"".join(parts))]

    def _read(self, form: str, content_type: str, body: bytes, more: dict[str, Any]) -> Asked:
        if more.get("encoding"):
            body = unzip(body, more["encoding"], self.options.decoded)
        if form == "oip":
            return oip.read(self.metadata, body, more.get("head"), self.options)
        return bodies.read(self.forms, content_type, body, self.options)

    def _write(self, form: str, asked: Asked | Refused, rows: Answers | Refused) -> Written:
        if isinstance(rows, Refused) or isinstance(asked, Refused):
            raise rows if isinstance(rows, Refused) else asked  # type: ignore[misc]
        if form == "oip":
            return oip.write(self.metadata, asked, rows)
        if asked.single:
            status = 422 if "error" in rows[0] else 200
            return status, JSON, dumps({"error": rows[0]["error"]} if status == 422 else rows[0]), {}
        return 200, JSON, dumps(rows), {"tokens": self._tokens(asked)} if form == "counted" else {}

    def _tokens(self, asked: Asked) -> int:
        """Steps of the ragged inputs of all rows that can be read, as the fields cut them."""
        arrays = {name: _array(values) for name, values in asked.columns.items()}
        encoded, _ = encode_rows(self.predictor.inputs, arrays, None)
        return sum(int(encoded[name].lengths.sum()) for name in self.ragged)  # type: ignore[union-attr]  # ragged

    def _answer(self, asked: Sequence[Asked]) -> list[Answers | Refused]:
        """The answers of several requests, computed together; where that fails, one by one."""
        if len(asked) < 2:
            return [_safely(lambda: self.answer(each)) for each in asked]  # noqa: B023
        columns = {
            name: [value for each in asked for value in each.columns.get(name) or [None] * each.rows]
            for name in self.forms
        }
        rows = _safely(lambda: self.answer(Asked(columns, sum(each.rows for each in asked))))
        if isinstance(rows, Refused):
            return [found for each in asked for found in self._answer([each])]
        out: list[Answers | Refused] = []
        start = 0
        for each in asked:
            out.append(rows[start : start + each.rows])
            start += each.rows
        return out

    # ------------------------------------------------------------------ rows
    def answer(self, asked: Asked) -> Answers:
        """The answer of each row, in order."""
        bad: dict[int, str] = {}
        weights = [0] * asked.rows
        columns = {name: self._cells(name, asked, bad, weights) for name in self.forms}
        answers: list[dict[str, Any] | None] = [None] * asked.rows
        for rows in groups(columns, [row for row in range(asked.rows) if row not in bad]):
            for few in bounded(rows, weights, self.options.decoded):
                self._group(columns, few, bad, answers)
        self.counters["rows"] += asked.rows
        self.counters["rows_unanswered"] += len(bad)
        return [
            {"prediction": None, "error": bad.get(row, "no answer")} if answer is None else answer
            for row, answer in enumerate(answers)
        ]

    def _cells(self, column: str, asked: Asked, bad: dict[int, str], weights: list[int]) -> list[Any]:
        values = asked.columns.get(column)
        if values is None:
            return [None] * asked.rows
        form, most, cells = self.forms[column], self.options.decoded, []
        if form in ("value", "text") and not any(type(value) is bytes for value in values):
            return values
        for row, value in enumerate(values):
            cell = None
            try:
                cell = bodies.cell(form, value)
                if isinstance(cell, bytes):
                    weights[row] += unfolded(cell, form, most)
            except ValueError as error:
                cell = None
                bad.setdefault(row, f"{column}: {error}")
            cells.append(cell)
        return cells

    def _group(
        self,
        columns: dict[str, list[Any]],
        rows: list[int],
        bad: dict[int, str],
        answers: list[dict[str, Any] | None],
    ) -> None:
        """Rows whose cells are of the same types, as Arrow columns through the fields and the model."""
        try:
            arrays = {name: _array([values[row] for row in rows]) for name, values in columns.items()}
            encoded, unusable = encode_rows(self.predictor.inputs, arrays, None)
        except (UserError, pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            if len(rows) > 1:  # one row must not spoil the others' answers
                for row in rows:
                    self._group(columns, [row], bad, answers)
            else:
                bad[rows[0]] = f"{type(error).__name__ if not str(error) else error}"[:300]
            return
        if self.drift is not None:
            for name, result in encoded.items():
                self.drift.add(name, arrays[self.columns[name]], result)
        for place, (name, why) in unusable.items():
            bad[rows[place]] = f"{self.columns[name]}: {why}"
        good = np.asarray([place for place in range(len(rows)) if place not in unusable], np.int64)
        if len(good):
            for place, answer in zip(good.tolist(), self._infer(encoded, good), strict=True):
                answers[rows[place]] = answer

    @torch.inference_mode()
    def _infer(self, encoded: dict[str, Encoded], good: np.ndarray) -> Answers:
        """Encoded rows through the model."""
        step, order = self.predictor.batch_size, np.arange(len(good))
        for name in self.ragged:
            lengths = encoded[name].lengths
            assert lengths is not None
            order, step = np.argsort(lengths[good], kind="stable"), _STEP
        device = next(self.predictor.network.parameters()).device
        answers: list[dict[str, Any]] = [{}] * len(good)
        for start in range(0, len(good), step):
            places = order[start : start + step]
            stored: dict[str, torch.Tensor] = {}
            for name, result in encoded.items():
                stored |= pick(name, result, good[places])
            task = self.predictor.task
            output = task.forward(
                self.predictor.network, prepare_batch(stored, self.predictor.inputs, device)
            )
            predicted = {name: value.cpu().numpy() for name, value in task.predict(output).items()}
            for place, answer in zip(
                places.tolist(), by_row(task.answer(predicted, self.predictor.fields)), strict=True
            ):
                answers[place] = answer
        return answers


def _safely(work: Callable[[], T]) -> T | Refused:
    """What a piece of work gives; a bug of ours spoils the one request that it happens to, and is told in the log."""
    try:
        return work()
    except Refused as refused:
        return refused
    except MemoryError:
        return Refused(413, "the request takes more memory than there is")
    except Exception:
        traceback.print_exc()
        return Refused(500, "a bug in modelworks; the log has it")


def _refusal(form: str, refused: Refused) -> Written:
    status = 400 if form == "oip" and refused.status == 422 else refused.status
    return status, JSON, orjson.dumps({"error": refused.message}), {}


# ------------------------------------------------------------------------------------------- shapes
def bounded(rows: list[int], weights: list[int], most: int) -> list[list[int]]:
    """Rows in runs that together unfold to no more than the limit."""
    if sum(weights) <= most:
        return [rows]
    found: list[list[int]] = [[]]
    held = 0
    for row in rows:
        if held + weights[row] > most and found[-1]:
            found.append([])
            held = 0
        found[-1].append(row)
        held += weights[row]
    return found


def groups(columns: dict[str, list[Any]], rows: list[int]) -> list[list[int]]:
    """Rows by the types of their cells. A column of one type is read the same whoever else is in the batch; one of
    mixed types would be read as text."""
    if not rows:
        return []
    types = {name: {_type(values[row]) for row in rows} - {None} for name, values in columns.items()}
    mixed = [name for name, found in types.items() if len(found) > 1]
    if not mixed:
        return [rows]
    found: dict[tuple[Any, ...], list[int]] = {}
    for row in rows:
        found.setdefault(tuple(_type(columns[name][row]) for name in mixed), []).append(row)
    return list(found.values())


def _type(value: Any) -> Any:
    if value is None:
        return None
    return value.shape if isinstance(value, np.ndarray) else type(value)


def _array(values: list[Any]) -> pa.Array:
    first = next((value for value in values if value is not None), None)
    if isinstance(first, np.ndarray):
        if all(value is not None for value in values):
            return pa.FixedShapeTensorArray.from_numpy_ndarray(np.stack(values))
        return pa.array([None if value is None else value.tolist() for value in values])
    if first is None:
        return pa.nulls(len(values), pa.string())
    return pa.array(values)


def by_row(columns: dict[str, list[Any]]) -> Answers:
    """Columns of answers → a row's answer each, with its probabilities together."""
    labels = [name for name in columns if name.startswith("probability_")]
    plain = [name for name in columns if name not in labels]
    rows: Answers = [
        dict(zip(plain, row, strict=True)) for row in zip(*(columns[n] for n in plain), strict=True)
    ]
    if labels:
        names = [label.removeprefix("probability_") for label in labels]
        for row, values in zip(rows, zip(*(columns[n] for n in labels), strict=True), strict=True):
            row["probabilities"] = dict(zip(names, values, strict=True))
    return rows


def dumps(value: Any) -> bytes:
    """JSON of an answer, numpy's values included."""
    return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return str(value)
