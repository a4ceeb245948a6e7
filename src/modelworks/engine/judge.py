"""Judge: streaming evaluation in bounded memory, beside a trivial baseline, and the most confident mistakes."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from modelworks.core.field import Field
from modelworks.core.task import Task
from modelworks.engine.data.store import Rows
from modelworks.engine.network import Network, prepare_batch

_BASELINE_ROWS = 200_000
STEPS = 4_096
"""Steps of sequences that a batch holds at the most, whatever its rows: more are no faster on a CPU, and an evaluation
would be what takes the most memory."""


@dataclass(frozen=True)
class Mistake:
    """One row that the model was sure of, and wrong; or, of numbers, one far from the truth."""

    row: int
    confidence: float | None
    """None for numbers."""
    prediction: Any
    truth: Any


def batches(store: Rows, size: int, limit: int | None = None) -> Iterator[np.ndarray]:
    """Positions in order; ragged stores in chunks of like length, for less padding, of at most STEPS steps."""
    ragged = next((name for name, column in store.columns.items() if column.ragged), None)
    window, rows = size * 64, min(len(store), limit or len(store))
    for start in range(0, rows, window):
        positions = np.arange(start, min(start + window, rows))
        if ragged is None:
            yield from (positions[i : i + size] for i in range(0, len(positions), size))
            continue
        lengths = store.lengths(ragged, positions)
        order = np.argsort(lengths, kind="stable")
        positions, lengths = positions[order], np.maximum(lengths[order], 1)
        first = 0
        while first < len(positions):
            last = min(first + size, len(positions))
            while last - first > 1 and (last - first) * lengths[last - 1] > STEPS:
                last = first + max((last - first) // 2, 1)
            yield positions[first:last]
            first = last


@torch.no_grad()
def evaluate(
    network: Network,
    task: Task,
    fields: Mapping[str, Field],
    store: Rows,
    *,
    batch_size: int = 512,
    bootstrap: int = 0,
    seed: int = 0,
    gallery: int = 0,
    baseline: Mapping[str, np.ndarray] | None = None,
    progress: Callable[[int, int], None] | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """Metrics of one split, or of its first `limit` rows: {"metrics", "baseline", "details", "mistakes"}."""
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    batch_size = max(1, min(batch_size, STEPS // store.steps))
    meter = task.meter(fields, bootstrap, seed)
    trivial = task.meter(fields, bootstrap, seed) if baseline is not None else None
    total, count = 0.0, 0
    worst: list[tuple[float, int, Any, Any]] = []
    done = 0
    for positions in batches(store, batch_size, limit):
        stored = store.gather(positions)
        batch = prepare_batch(stored, fields, device)
        output = task.forward(network, batch)
        loss, counted = task.loss(output, batch)
        total, count = total + float(loss), count + int(counted)
        predicted = {
            name: value.float().cpu().numpy() if value.is_floating_point() else value.cpu().numpy()
            for name, value in task.measure(output, batch).items()
        }
        truth = {
            name: value.numpy()
            for name, value in stored.items()
            if name in (task.target, f"{task.target}.length", f"{task.target}.next", "row")
        }
        meter.update(predicted, truth)
        if trivial is not None and baseline is not None:
            trivial.update(task.trivial(baseline, truth), truth)
        if gallery and "probability" in predicted:
            _collect(worst, predicted, truth[task.target], truth["row"], gallery)
        elif gallery and task.target in fields and fields[task.target].layout.form == "vector":
            _collect_residuals(worst, predicted["prediction"], truth[task.target], truth["row"], gallery)
        done += len(positions)
        if progress:
            progress(done, len(store))
    network.train(was_training)
    details = getattr(meter, "details", dict)()
    mistakes = [
        Mistake(row, confidence if isinstance(prediction, int) else None, prediction, truth)
        for confidence, row, prediction, truth in sorted(worst, reverse=True)
    ]
    return {
        "metrics": meter.result() | {"loss": {"value": total / max(count, 1)}},
        "baseline": trivial.result() if trivial is not None else {},
        "details": details,
        "mistakes": mistakes,
    }


def values(result: Mapping[str, Any]) -> dict[str, float]:
    """Metric → value, without the intervals."""
    return {name: float(entry["value"]) for name, entry in result["metrics"].items()}


def trivial_answer(task: Task, fields: Mapping[str, Field], train: Rows) -> Mapping[str, np.ndarray] | None:
    """What the trivial predictor says for any row, learned from (a sample of) the training split."""
    if not task.target:
        return None
    stride = max(1, len(train) * train.steps // _BASELINE_ROWS)
    positions = np.arange(0, len(train), stride)
    return task.baseline(fields, train.gather(positions, [task.target])[task.target].numpy())


def _collect(
    worst: list[tuple[float, int, Any, Any]],
    predicted: Mapping[str, np.ndarray],
    truth: np.ndarray,
    rows: np.ndarray,
    keep: int,
) -> None:
    """Keep the most confident wrong rows in a heap of `keep`."""
    prediction, probability = predicted["prediction"], predicted["probability"]
    if prediction.ndim != 1 or truth.ndim != 1 or probability.ndim != 2:
        return
    wrong = np.flatnonzero(prediction != truth)
    confidence = probability[wrong].max(1)
    for index in wrong[np.argsort(-confidence)][:keep]:
        entry = (float(probability[index].max()), int(rows[index]), int(prediction[index]), int(truth[index]))
        if len(worst) < keep:
            heapq.heappush(worst, entry)
        else:
            heapq.heappushpop(worst, entry)


def _collect_residuals(
    worst: list[tuple[float, int, Any, Any]],
    prediction: np.ndarray,
    truth: np.ndarray,
    rows: np.ndarray,
    keep: int,
) -> None:
    """Keep the rows whose number is farthest from the truth, as the target's field scales it, in a heap of `keep`."""
    if prediction.ndim != 1 or truth.size != prediction.size:
        return
    prediction, truth = prediction.astype(np.float64), truth.reshape(-1).astype(np.float64)
    residual = np.nan_to_num(np.abs(prediction - truth), nan=0.0)
    for index in np.argsort(-residual, kind="stable")[:keep]:
        entry = (float(residual[index]), int(rows[index]), float(prediction[index]), float(truth[index]))
        if len(worst) < keep:
            heapq.heappush(worst, entry)
        else:
            heapq.heappushpop(worst, entry)
