"""Measure: what a network weighs, how well it answers, how fast, in how much memory, and how far from its parent.

    row = Measurer(parent).measure("int8", network)

Size is that of model.safetensors, names and all; the fitted fields are the parent's. Quality is the primary metric on
the held-out rows by the same judge as in training. Latency is the processor time of one row on one thread, which is
the time that passes where nothing else runs: the fastest round of several, taken in turns with the parent's. Of a
language model it is that of a token written after CONTEXT others, by the network packed as `generate` packs it.
Difference: the largest between the two networks' answers to the same ROWS rows.
"""

from __future__ import annotations

import copy
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from modelworks.core.field import Layout
from modelworks.core.names import PACKAGE
from modelworks.core.run import RunFolder
from modelworks.engine import judge
from modelworks.engine.compress.parent import ParentRun
from modelworks.engine.compress.quantise import tensors
from modelworks.engine.network import Network
from modelworks.metrics.direction import higher_is_better

CONTEXT = 64
"""Tokens before the one whose writing is timed."""
ROWS = 100
"""Rows on which answers are compared."""
TIMED = 4
"""Rows whose latency is taken, spread over the split."""
ROUNDS = 9
SECONDS = 0.02
"""Of one round, about."""


@dataclass
class Row:
    """One line of the table."""

    what: str
    size_bytes: int
    size_share: float
    quality: dict[str, float | None]
    """The primary metric on the test split: value, low, high (95 % by bootstrap)."""
    lost: float
    """Points that the metric lost where it is a share, else per cent, on the split of `quality`."""
    price: float
    """The same on the rows that choose among plans: the validation split's, where there is one."""
    latency_ms: float
    latency_share: float
    """Of the parent's, measured in turns with it."""
    max_difference: float
    difference_of: str
    """What was compared."""
    memory_mb: float | None = None
    """Most memory of a process that loads the Run and answers one row."""
    flops_share: float = 1.0
    """Of the parent's floating-point operations (flops.py); integer ones count as many."""

    def plain(self) -> dict[str, Any]:
        """As JSON, which has no infinite numbers."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


class Measurer:
    """Measures networks against one parent."""

    def __init__(self, parent: ParentRun) -> None:
        self.parent = parent
        self.metric = parent.task.primary or "loss"
        self.splits = [split for split in ("valid", "test") if parent.rows(split) is not None]
        if not self.splits:
            self.splits = ["train"]
        self.main, self.chooser = self.splits[-1], self.splits[0]
        self.network = parent.network()
        self.evaluated = self._evaluate(self.network)
        self._answers = self._answer(self.network)
        self._timed = _timed(parent, self.network, self.main)
        latency = self._latencies(self._timed)[0]
        size = len(save({name: tensor.contiguous() for name, tensor in tensors(self.network).items()}))
        told = self._quality(self.evaluated)
        self.row = Row(parent.run.name, size, 1.0, told, 0.0, 0.0, latency, 1.0, 0.0, self._answers[0])

    def measure(self, what: str, network: Network) -> Row:
        """A row of the table."""
        size = len(save({name: tensor.contiguous() for name, tensor in tensors(network).items()}))
        found = self._evaluate(network)
        lost = {split: self.lost(self.evaluated[split], found[split]) for split in self.splits}
        name, answers = self._answer(network)
        mine, theirs = self._latencies(_timed(self.parent, network, self.main), self._timed)
        return Row(
            what,
            size,
            size / self.row.size_bytes,
            self._quality(found),
            lost[self.main],
            lost[self.chooser],
            mine,
            mine / theirs,
            _furthest(answers, self._answers[1]),
            name,
        )

    def lost(self, before: dict[str, Any], after: dict[str, Any]) -> float:
        """Points, or per cent, that a metric lost; below zero where it gained."""
        was, now = float(before[self.metric]["value"]), float(after[self.metric]["value"])
        if not np.isfinite(now):
            return float("inf")
        if not higher_is_better(self.metric):
            return 100 * (now - was) / max(abs(was), 1e-12)
        return (was - now) * (100 if abs(was) <= 1 else 1)

    def one(self) -> dict[str, Tensor]:
        """A prepared row of the split that is judged by."""
        rows = self.parent.rows(self.main)
        assert rows is not None
        return self.parent.batch(rows, np.zeros(1, np.int64))

    @property
    def unit(self) -> str:
        """Of what is lost."""
        return "points" if higher_is_better(self.metric) else "%"

    def _evaluate(self, network: Network) -> dict[str, Any]:
        recipe, found = self.parent.recipe, {}
        for split in self.splits:
            rows = self.parent.rows(split)
            assert rows is not None
            found[split] = judge.evaluate(
                network,
                self.parent.task,
                self.parent.fields,
                rows,
                batch_size=recipe.evaluate.batch_size,
                bootstrap=recipe.evaluate.bootstrap if split == self.main else 0,
                seed=recipe.seed,
            )["metrics"]
        return found

    def _quality(self, found: dict[str, Any]) -> dict[str, float | None]:
        entry = found[self.main][self.metric]
        return {name: entry.get(name) for name in ("value", "low", "high")}

    @torch.no_grad()
    def _answer(self, network: Network) -> tuple[str, list[np.ndarray]]:
        """(what is compared, the answers to some rows)."""
        rows = self.parent.rows(self.main)
        assert rows is not None
        name, found = "", []
        for positions in judge.batches(
            rows, max(1, min(50, judge.STEPS // rows.steps)), min(ROWS, len(rows))
        ):
            batch = self.parent.batch(rows, positions)
            output = self.parent.task.forward(network, batch)
            measured = self.parent.task.measure(output, batch)
            floats = [key for key, value in measured.items() if value.is_floating_point()]
            name = next((key for key in ("probability", "nll", "prediction") if key in floats), "")
            name = name or next(iter(floats or measured))
            found.append(measured[name].float().cpu().numpy())
        return name, found

    def _latencies(self, *timed: list[Callable[[], Any]]) -> list[float]:
        """Milliseconds of a row for each of several networks, taken in turns: the mean over rows of the fastest."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                return _in_turns(timed)
        finally:
            torch.set_num_threads(threads)


def _in_turns(timed: tuple[list[Callable[[], Any]], ...]) -> list[float]:
    best = [[float("inf")] * len(calls) for calls in timed]
    repeats: dict[tuple[int, int], int] = {}
    for number, calls in enumerate(timed):
        for at, call in enumerate(calls):
            call()
            started = time.thread_time()
            call()
            repeats[number, at] = max(1, min(200, int(SECONDS / max(time.thread_time() - started, 1e-6))))
    for _ in range(ROUNDS):
        for number, calls in enumerate(timed):
            for at, call in enumerate(calls):
                count = repeats[number, at]
                started = time.thread_time()
                for _ in range(count):
                    call()
                best[number][at] = min(best[number][at], (time.thread_time() - started) / count)
    return [1000 * float(np.mean(rounds)) for rounds in best]


def _timed(parent: ParentRun, network: Network, split: str) -> list[Callable[[], Any]]:
    """Calls that answer one row each."""
    if writes(network):
        return [writing(copy.deepcopy(network), parent.fields[parent.task.target].layout)]
    rows = parent.rows(split)
    assert rows is not None
    places = np.unique(np.linspace(0, len(rows) - 1, TIMED).astype(np.int64))
    batches = [parent.batch(rows, places[at : at + 1]) for at in range(len(places))]

    def answer(batch: dict[str, Any]) -> Callable[[], Any]:
        return lambda: parent.task.measure(parent.task.forward(network, batch), batch)

    return [answer(batch) for batch in batches]


def writes(network: Any) -> bool:
    """Whether it is a language model that keeps what it has read."""
    return hasattr(network.model, "new_cache") and hasattr(network.head, "table_VD")


def writing(network: Network, layout: Layout) -> Callable[[], Any]:
    """A call that reads one more token, after CONTEXT others where there is room for so many, and gives every token's
    score; packs the network."""
    from modelworks.engine.language.pack import pack

    fast: Any = pack(network, "int8" if getattr(network, "int8", False) else "float32")
    body, name = fast.model, fast.model.name
    length = max(1, min(CONTEXT, layout.length - 2))
    context = torch.arange(length)[None] % (layout.size - 1) + 1
    with torch.inference_mode():
        cache = body.new_cache(1, length + 2)
        fast.head.logits(body({name: context}, cache))
    token = {name: context[:, :1]}

    def call() -> Any:
        cache.cut([length])
        return fast.head.logits(body(token, cache)[:, -1])

    return call


def _furthest(one: list[np.ndarray], two: list[np.ndarray]) -> float:
    """The largest difference; infinite where the answers are not even of one shape."""
    most = 0.0
    for a, b in zip(one, two, strict=True):
        if a.shape != b.shape:
            return float("inf")
        most = max(most, float(np.abs(a.astype(np.float64) - b).max(initial=0.0)))
    return most


def memory(run: RunFolder, row: Mapping[str, Tensor]) -> float | None:
    """MB that a process of its own has at the most while it loads a Run and answers one prepared row; None where it
    fails."""
    code = "import sys; from modelworks.engine.compress.measure import peak; print(peak(*sys.argv[1:]))"
    ours = os.pathsep.join([str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "row.safetensors"
        file.write_bytes(
            save({name: values.clone(memory_format=torch.contiguous_format) for name, values in row.items()})
        )
        done = subprocess.run(  # noqa: S603 - ourselves
            [sys.executable, "-c", code, str(run.path.resolve()), str(file)],
            capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": ours},
        )  # fmt: skip
    lines = done.stdout.split()
    return float(lines[-1]) if done.returncode == 0 and lines else None


@torch.inference_mode()
def peak(run: str, row: str) -> float:
    """Load a Run, answer one row, and say how many MB this process had at the most."""
    import resource

    from modelworks.engine.checkpoint import read_tensors
    from modelworks.engine.predictor import Predictor

    predictor = Predictor.load(RunFolder(run))
    network, task = predictor.network, predictor.task
    if writes(network):
        writing(network, predictor.fields[task.target].layout)()
    else:
        batch = read_tensors(Path(row))
        task.measure(task.forward(network, batch), batch)
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss also counts the process that started this one
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
