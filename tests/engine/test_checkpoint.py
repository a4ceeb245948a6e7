"""Checkpoints survive damage and death at any moment of a save."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from modelworks.engine.checkpoint import Checkpoint, Checkpoints


def make(step: int) -> Checkpoint:
    return Checkpoint(
        step,
        {"w": torch.full((1000,), float(step))},
        {"w:exp_avg": torch.full((1000,), step + 0.5)},
        {"samples": step * 10},
    )


def test_newest_loads_and_old_ones_go(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3, 4):
        store.save(make(step))
    loaded, complaints = store.load()
    assert store.steps() == ["step-00000003", "step-00000004"]
    assert (tmp_path / "latest").read_text() == "step-00000004"
    assert not complaints
    assert loaded is not None
    assert loaded.step == 4
    assert loaded.state == {"samples": 40}
    assert torch.equal(loaded.weights["w"], make(4).weights["w"])
    assert torch.equal(loaded.optimizer["w:exp_avg"], make(4).optimizer["w:exp_avg"])


@pytest.mark.parametrize(
    "file", ["weights.safetensors", "optimizer.safetensors", "state.json", "manifest.json"]
)
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damage_is_noticed_and_the_one_before_loads(tmp_path: Path, file: str, damage: str) -> None:
    store = Checkpoints(tmp_path)
    store.save(make(1))
    store.save(make(2))
    path = tmp_path / "step-00000002" / file
    data = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    loaded, complaints = store.load()
    assert loaded is not None
    # A flipped digit in the manifest itself can only make it disagree with the files.
    assert loaded.step == 1
    assert len(complaints) == 1
    assert "step-00000002" in complaints[0]


_SAVER = """
import sys, torch
sys.path[:0] = {path!r}
from pathlib import Path
from modelworks.engine.checkpoint import Checkpoint, Checkpoints
torch.set_num_threads(1)
store = Checkpoints(Path({folder!r}))
print("ready", flush=True)
for step in range(1, 100000):
    w = torch.full((200_000,), float(step))
    store.save(Checkpoint(step, {{"w": w}}, {{"w:m": w + 0.5}}, {{"samples": step}}))
"""


def test_kill_inside_a_save_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    """kill -9 while nothing but saving goes on: whatever loads is whole, and steps never go back."""
    last = 0
    for attempt in range(4):
        code = _SAVER.format(path=sys.path, folder=str(tmp_path))
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.05 + 0.037 * attempt)
            os.kill(process.pid, signal.SIGKILL)
        loaded, _ = Checkpoints(tmp_path).load()
        if loaded is not None:
            assert torch.equal(loaded.weights["w"], torch.full((200_000,), float(loaded.step)))
            assert torch.equal(loaded.optimizer["w:m"], torch.full((200_000,), loaded.step + 0.5))
            last = max(last, loaded.step)
    assert last > 0
