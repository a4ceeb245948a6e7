"""A killed training resumes to the bit: the machinery is benchmarks/kill.py's, four of its points are here."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest

from modelworks.cli import main
from modelworks.core.dataset import Dataset
from modelworks.core.errors import UserError
from modelworks.core.field import Field
from modelworks.core.kinds import find
from modelworks.core.run import RunFolder
from modelworks.engine.checkpoint import Checkpoints
from modelworks.engine.data.prepare import fit, prepare
from modelworks.engine.train.loop import Event
from modelworks.engine.train.track import JsonLog

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def kill() -> ModuleType:
    """benchmarks/kill.py."""
    spec = importlib.util.spec_from_file_location("benchmarks_kill", BENCHMARKS / "kill.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_killed_and_resumed_is_uninterrupted(kill: ModuleType, tmp_path: Path) -> None:
    """Early stopping, cut files inside a save, a manifest never moved, prepared data gone: all end in the same bits."""
    kill.write_rows(tmp_path / "data" / "rows.csv", 300)
    known = kill.reference("table", tmp_path / "reference", tmp_path / "data")

    def at(call: str, ending: str, saving: bool, which: int) -> int:
        found = [
            c
            for c in known.calls
            if (c["call"], c["saving"]) == (call, saving) and c["path"].endswith(ending)
        ]
        return found[which]["number"]

    points = [
        kill.Point(
            0,
            "table",
            "weights half written",
            at=at("fsync", "/weights.safetensors", True, 1),
            torn=True,
            forget=True,
        ),
        kill.Point(
            1,
            "table",
            "before `latest` moves, last time",
            at=at("fsync", "/latest.partial", True, -1),
            torn=True,
        ),
        kill.Point(
            2, "table", "manifest half written", at=at("fsync", "/run/manifest.partial", False, 0), torn=True
        ),
        kill.Point(3, "table", "in training", phase="train", share=0.4),
    ]
    for point in points:
        _, found = kill.trial(point, known, tmp_path / f"point-{point.number}", random.Random(0))
        assert not found, f"{point.where}: {found}"


def test_differences_are_seen(kill: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison itself: one seed differs from another, and each Run equals itself."""
    monkeypatch.chdir(tmp_path)
    kill.write_rows(tmp_path / "rows.csv", 60)
    for seed in "01":
        assert main(["train", "rows.csv", "--target=answer", "--model=mlp", "--fields.note=ignore", "--train.steps=3",
                     f"--name=r{seed}", f"--seed={seed}", "--quiet", "--evaluate.bootstrap=0"]) == 0  # fmt: skip
    assert kill.differences(tmp_path / "runs/r0", tmp_path / "runs/r0") == []
    found = kill.differences(tmp_path / "runs/r0", tmp_path / "runs/r1")
    assert "model.safetensors differs" in found
    assert "metrics.jsonl differs" in found
    with (tmp_path / "runs/r0/model.safetensors").open("ab") as file:
        file.write(b"x")
    assert any(
        "differs from its manifest" in line
        for line in kill.differences(tmp_path / "runs/r0", tmp_path / "runs/r0")
    )


@pytest.mark.parametrize("stop", range(1, 12, 3))
def test_preparing_goes_on(stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store whose writer died at some chunk, recorded or not, is in the end the same files."""
    from modelworks.engine.data import prepare as module

    monkeypatch.setattr(module, "_EVERY", 3)
    random_ = np.random.default_rng(0)
    batches = [
        pa.record_batch(
            {
                "n": random_.normal(size=20),
                "t": [" ".join(["w"] * int(k)) for k in random_.integers(0, 9, 20)],
            }
        )
        for _ in range(12)
    ]
    dataset = Dataset.from_batches(batches)
    fields = fit({"n": find(Field, "number")(), "t": find(Field, "text")()}, dataset)

    def dies(what: str, done: int, of: int) -> None:
        if done >= 20 * stop:
            raise KeyboardInterrupt

    whole = prepare(dataset, fields, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        prepare(dataset, fields, tmp_path / "broken", dies)
    (broken,) = (path for path in (tmp_path / "broken").iterdir() if path.is_dir())
    with (broken / "train" / "row.bin").open("ab") as file:  # what was written after the last record
        file.write(b"torn")
    again = prepare(dataset, fields, tmp_path / "broken")
    files = sorted(path.relative_to(whole.folder) for path in whole.folder.rglob("*") if path.is_file())
    assert files == sorted(
        path.relative_to(again.folder) for path in again.folder.rglob("*") if path.is_file()
    )
    assert all((whole.folder / name).read_bytes() == (again.folder / name).read_bytes() for name in files)


def test_a_rewind_cuts_the_log(tmp_path: Path) -> None:
    log = JsonLog(tmp_path, every=1)
    log(Event("start", 0, 0, 0.0, 0.0, {"total_steps": 4, "steps_an_epoch": 4}))
    for step in (1, 2, 3, 4):
        log(Event("step", step, step, 0.0, 0.0, {"loss": float(step)}))
    log(Event("note", 2, 2, 0.0, 0.0, {}, "rewound"))
    log(Event("step", 3, 3, 0.0, 0.0, {"loss": 30.0}))
    log.close()
    (tmp_path / "recipe.yaml").touch()
    assert [(line["step"], line["metrics"]["loss"]) for line in RunFolder(tmp_path).metrics()] == [
        (1, 1.0),
        (2, 2.0),
        (3, 30.0),
    ]


def test_a_damaged_checkpoint_keeps_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The newest does not verify: training goes on from the one before, and says so."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("a,b,y\n" + "".join(f"{n},{n % 7},{'xy'[n % 2]}\n" for n in range(60)))
    command = [
        "train",
        "rows.csv",
        "--target=y",
        "--model=mlp",
        "--train.steps=8",
        "--train.batch_size=8",
        "--train.checkpoint_steps=3",
        "--train.keep_checkpoints=3",
    ]
    assert main([*command, "--name=a"]) == 0
    assert main([*command, "--name=b"]) == 0
    run = tmp_path / "runs/b"
    (run / "manifest.json").unlink()
    newest = run / "checkpoints" / Checkpoints(run / "checkpoints").steps()[-1]
    (newest / "weights.safetensors").write_bytes(b"")
    capsys.readouterr()
    assert main([*command, "--name=b", "--resume"]) == 0
    assert "is damaged" in capsys.readouterr().out
    assert (run / "model.safetensors").read_bytes() == (tmp_path / "runs/a/model.safetensors").read_bytes()


def test_resume_finds_the_last_run_of_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("a,b,y\n" + "".join(f"{n},{n % 7},{'xy'[n % 2]}\n" for n in range(60)))
    command = ["train", "rows.csv", "--target=y", "--model=mlp", "--train.steps=2", "--quiet"]
    # Settings that are stored in another form than they were given in.
    command += ["--fields.a=ignore", "--train.guard=stop", "--train.batch_size=auto", "--train.find_lr=true"]
    assert main(command) == 0
    assert main(command) == 0
    (tmp_path / "runs/rows-2/manifest.json").unlink()
    assert main([*command, "--resume"]) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["rows", "rows-2"]
    assert RunFolder(tmp_path / "runs/rows-2").complete


def test_a_full_disk_is_an_error_of_one_line(tmp_path: Path) -> None:
    import torch

    from modelworks.engine.checkpoint import write_tensors

    with pytest.raises(UserError, match="cannot be written"):
        write_tensors(tmp_path / "nowhere" / "w.safetensors", {"w": torch.ones(1)})
