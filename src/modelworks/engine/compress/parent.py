"""Parent: the Run that is compressed, with its network, its data and the means to train on them.

parent = ParentRun.open(RunFolder.find("titanic"), {}, steps=200)
parent.network(), parent.rows("test"), parent.batches(4)
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modelworks.core.errors import UserError
from modelworks.core.field import Field
from modelworks.core.run import RunFolder
from modelworks.core.settings import merge
from modelworks.engine.compress.edits import FILE
from modelworks.engine.data.store import Rows
from modelworks.engine.intake import Progress, Taken, take_in
from modelworks.engine.network import Network, prepare_batch
from modelworks.engine.predictor import Predictor
from modelworks.engine.train.loop import loop

BATCH = 64
"""Rows of a calibration batch."""
STEPS = 4096
"""Steps of sequences in a calibration batch, at the most."""


class ParentRun:
    """A complete Run and its data. What `edits.Parent` promises to steps, and what the search needs besides."""

    def __init__(self, run: RunFolder, taken: Taken, predictor: Predictor, steps: int) -> None:
        self.run, self.taken, self.steps = run, taken, steps
        self.task, self.recipe = predictor.task, taken.recipe
        self.fields: Mapping[str, Field] = predictor.fields
        self.results: dict[str, Any] = {}
        self._network = predictor.network

    @classmethod
    def open(
        cls, run: RunFolder, data: Mapping[str, Any], steps: int, progress: Progress | None = None
    ) -> ParentRun:
        """`data`: settings that replace the recipe's `data`, as where the file lies now."""
        if (run.path / FILE).exists():
            parent = run.json(FILE).get("parent")
            name = parent.get("name") if isinstance(parent, dict) else None
            raise UserError(f"{run.path}: is compressed already", f"compress its parent, {name}")
        predictor = Predictor.load(run)
        try:
            taken = take_in(merge(run.recipe_tree(), {"data": data} if data else {}), run, progress)
        except (UserError, OSError) as error:
            raise UserError(
                f"{run.path}: compression is measured on the Run's own rows: {error}",
                "say where they are now: --data.source.path=FILE",
            ) from None
        return cls(run, taken, predictor, steps)

    def network(self) -> Network:
        """A fresh copy of the parent's network, float32, in eval mode."""
        return copy.deepcopy(self._network)

    def rows(self, split: str) -> Rows | None:
        """What a split is judged by; None where the Run has no such rows."""
        return self.taken.rows(split) if self.taken.prepared.report["rows"].get(split) else None

    def batches(self, count: int) -> Sequence[dict[str, Tensor]]:
        """Up to `count` prepared batches of training rows, spread over all of them."""
        rows = self.taken.rows("train")
        size = max(1, min(BATCH, STEPS // rows.steps, len(rows)))
        every = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), count * size)).astype(np.int64))
        # A row's place in the file may say what it is: batches of neighbours would be of one class.
        mixed = np.random.default_rng(0).permutation(every)
        return [self.batch(rows, mixed[start : start + size]) for start in range(0, len(mixed), size)]

    def batch(self, rows: Rows, positions: np.ndarray) -> dict[str, Tensor]:
        """Prepared rows at these positions."""
        return prepare_batch(rows.gather(positions), self.fields, torch.device("cpu"))

    def tune(self, network: Network, steps: int, watch: Callable[[int], None] | None = None) -> None:
        """Train a network on the parent's training rows, in place, by the recipe's own loop at a tenth of its rates."""
        train = self.recipe.train
        optimizer = train.optimizer
        lower = {
            name: value / 10
            for name in ("lr", "adamw_lr")
            if (value := getattr(optimizer, name, None)) is not None
        }
        settings = train.but(
            steps=steps, epochs=None, minutes=None, adapter=None, freeze=[], patience=None, ema=None,
            target_loss=None, target_metric=None, device="cpu", precision="fp32", choose="last",
            optimizer=optimizer.but(**lower),
            schedule={"kind": "linear", "warmup": 0.05},
        )  # fmt: skip
        # A gradual schedule changes masks between steps, which a recorded step would not see in every case.
        settings = settings.but(capture=False) if watch is not None else settings
        rows = self.taken.rows("train")
        if watch is not None:
            watch(0)
        with torch.inference_mode(False), torch.enable_grad():
            for event in loop(network, self.task, self.fields, rows, settings, self.recipe.seed):
                if event.kind == "step" and watch is not None and event.step < steps:
                    watch(event.step)
        for parameter in network.parameters():
            parameter.grad = None
        network.to(memory_format=torch.contiguous_format).eval()  # pyright: ignore[reportCallIssue]
