"""Checkpoints as transactions: whatever moment the process dies, the last complete one loads.

    step-00001234/  weights.safetensors  optimizer.safetensors  state.json  manifest.json
    frozen/         weights.safetensors that no step changes, written once  manifest.json
    latest          the name of the newest complete one

Order of writing: every file into a hidden folder, each flushed to disk; the manifest with their SHA-256; the
folder renamed (the commit); `latest` moved; old ones pruned. Loading verifies the manifest and falls back to the
next older checkpoint. No pickle: tensors are safetensors, the rest is JSON.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from modelworks.core.errors import UserError
from modelworks.core.sealed import seal, sync_folder, verify, write_bytes


@dataclass(frozen=True)
class Checkpoint:
    """What a training process needs to go on."""

    step: int
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]


class Checkpoints:
    """The checkpoints of one Run."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write one; returns its folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for stale in self.folder.glob(".partial-*"):  # what a killed process left behind
            shutil.rmtree(stale, ignore_errors=True)
        name = f"step-{checkpoint.step:08d}"
        partial = self.folder / f".partial-{name}"
        partial.mkdir()
        write_tensors(partial / "weights.safetensors", checkpoint.weights)
        write_tensors(partial / "optimizer.safetensors", checkpoint.optimizer)
        write_bytes(
            partial / "state.json", json.dumps({"step": checkpoint.step, **checkpoint.state}).encode()
        )
        seal(partial)
        final = self.folder / name
        if final.exists():  # the same step again, after a rewind or a damaged file
            shutil.rmtree(final)
        partial.rename(final)
        sync_folder(self.folder)
        self.settle()
        return final

    def hold(self, tensors: Mapping[str, Tensor]) -> None:
        """Write once what no step changes, so that no checkpoint needs to hold it."""
        partial, final = self.folder / ".partial-frozen", self.folder / "frozen"
        for stale in (partial, final):
            shutil.rmtree(stale, ignore_errors=True)
        partial.mkdir(parents=True)
        write_tensors(partial / "weights.safetensors", tensors)
        seal(partial)
        partial.rename(final)
        sync_folder(self.folder)

    def held(self) -> dict[str, Tensor] | None:
        """What `hold` wrote; None before it did. Raises UserError when it is damaged."""
        folder = self.folder / "frozen"
        if not folder.exists():
            return None
        verify(folder)
        return read_tensors(folder / "weights.safetensors")

    def settle(self) -> None:
        """What follows the commit: move `latest`, prune. Also done for a process that was killed in between."""
        steps, latest = self.steps(), self.folder / "latest"
        if steps and (not latest.exists() or latest.read_bytes() != steps[-1].encode()):
            write_bytes(self.folder / "latest.partial", steps[-1].encode())
            (self.folder / "latest.partial").replace(latest)
            sync_folder(self.folder)
        for old in steps[: -self.keep]:
            shutil.rmtree(self.folder / old)

    def steps(self) -> list[str]:
        """Names of the complete checkpoints, oldest first."""
        return sorted(path.name for path in self.folder.glob("step-*") if path.is_dir())

    def load(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest checkpoint that verifies, and a line for each one that did not."""
        complaints = []
        for name in reversed(self.steps()):
            folder = self.folder / name
            try:
                verify(folder)
                state = json.loads((folder / "state.json").read_text("utf-8"))
                loaded = Checkpoint(
                    state.pop("step"),
                    read_tensors(folder / "weights.safetensors"),
                    read_tensors(folder / "optimizer.safetensors"),
                    state,
                )
                return loaded, complaints
            except (
                UserError,
                OSError,
                ValueError,
                KeyError,
                TypeError,
                AttributeError,
                RecursionError,
            ) as error:
                complaints.append(f"checkpoint {name} is damaged ({error}); falling back to an older one")
        return None, complaints


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Named tensors into a safetensors file, flushed to disk."""
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:  # a full disk, above all
        raise UserError(f"{path}: cannot be written: {error}") from None
    _sync(path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Named tensors; raises UserError when the file is not a whole safetensors file."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: {error}") from None


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
