"""torch: a torch.export package (.pt2), which PyTorch runs from Python or C++ without the code of the model.

about = write(graph, program, outputs, folder); opened = open_(folder); opened.predict(feeds)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

EXTRA = ""
FILE = "model.pt2"


def need_runtime() -> None:
    """torch is here."""


def write(graph: Any, program: Any, outputs: Any, folder: Path) -> dict[str, Any]:
    """model.pt2; returns the versions."""
    import torch

    torch.export.save(program, folder / FILE)
    return {"versions": {"torch": torch.__version__}}


class Program:
    """The package, loaded."""

    def __init__(self, path: Path, outputs: list[str]) -> None:
        import torch

        self.module, self.outputs = torch.export.load(path).module(), outputs

    def predict(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """A batch of stored arrays → the outputs."""
        import torch

        with torch.inference_mode():
            found = self.module(*(torch.from_numpy(array) for array in feeds.values()))
        return {name: value.numpy() for name, value in zip(self.outputs, found, strict=True)}


def open_(folder: Path, outputs: list[str]) -> Program:
    """The export in its runtime."""
    return Program(folder / FILE, outputs)
