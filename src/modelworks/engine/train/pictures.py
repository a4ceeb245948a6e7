"""Pictures: generative tasks' samples as picture grids, samples/step-00001000.png, while training goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from modelworks.core.field import Field
from modelworks.core.task import Task
from modelworks.engine.network import Network
from modelworks.engine.train.loop import Event

GRID = 8
"""Pictures a side."""


class Pictures:
    """A tracker that saves a grid once an epoch and at the end; does nothing for tasks that generate nothing."""

    def __init__(self, folder: Path, network: Network, task: Task, fields: Mapping[str, Field]) -> None:
        self.folder, self.network, self.task, self.fields = folder / "samples", network, task, fields
        self.every = 1
        self._generates = type(task).samples is not Task.samples

    def __call__(self, event: Event) -> None:
        if event.kind == "start":
            self.every = int(event.metrics["steps_an_epoch"])
        if not self._generates or not (
            event.kind == "end" or (event.kind == "step" and event.step % self.every == 0)
        ):
            return
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same noise each time, so that the grids show progress
            found = self.task.samples(self.network, GRID * GRID, self.fields)
        for values in (found or {}).values():
            self.folder.mkdir(exist_ok=True)
            save_grid(values, self.folder / f"step-{event.step:08d}.png")

    def close(self) -> None:
        """Nothing is held open."""


def save_grid(images_NCHW: np.ndarray, path: Path) -> None:
    """uint8 pictures (N, C, H, W) side by side, in rows of 8, at least 512 pixels wide."""
    from PIL import Image

    count, channels, height, width = images_NCHW.shape
    across = min(GRID, count)
    down = -(-count // across)
    sheet = np.zeros((down * (height + 1), across * (width + 1), channels), np.uint8)
    for index, image in enumerate(images_NCHW):
        top, left = (index // across) * (height + 1), (index % across) * (width + 1)
        sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    picture = Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet[:, :, :3])
    zoom = max(1, 512 // sheet.shape[1])
    picture.resize((sheet.shape[1] * zoom, sheet.shape[0] * zoom), Image.Resampling.NEAREST).save(path)
