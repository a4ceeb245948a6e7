"""score: on any number of processes, after any number of kills, the file that one process writes without a stop."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelworks.cli import main

ROWS = 40_000
"""Five batches."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Run `r` that reads a and b, and rows.csv, .jsonl and .parquet to ask it about; some cannot be read."""
    folder = tmp_path_factory.mktemp("score")
    kept = Path.cwd()
    os.chdir(folder)
    os.environ["MODELWORKS_STORE"] = str(folder / "store")
    rows = "".join(f"{n * 0.37 % 5:.2f},{n % 7},{'uvw'[n % 3]}\n" for n in range(90))
    Path("train.csv").write_text("a,b,y\n" + rows)
    command = ["train", "train.csv", "--target=y", "--model=mlp", "--name=r", "--train.steps=2", "--quiet"]
    assert main([*command, "--evaluate.bootstrap=0"]) == 0
    some = random.Random(3)
    cells = [(f"{some.random() * 5:.3f}", str(some.randrange(9)), f'no, "{n}"') for n in range(ROWS)]
    with Path("rows.csv").open("w") as file:
        file.write("a,b,note\n")
        for n, (a, b, note) in enumerate(cells):
            quoted = '"' + note.replace('"', '""') + '"'
            file.write(
                f"{a},{b},{quoted},one too many\n"
                if n % 9_001 == 5
                else f"{'x' if n % 7_001 == 9 else a},{b},{quoted}\n"
            )
    with Path("rows.jsonl").open("w") as file:
        for n, (a, b, note) in enumerate(cells):
            file.write(
                "no JSON\n"
                if n % 9_001 == 5
                else json.dumps({"a": float(a), "b": int(b), "note": note}) + "\n"
            )
    table = {
        "a": [float(a) for a, _, _ in cells],
        "b": [int(b) for _, b, _ in cells],
        "note": [c for *_, c in cells],
    }
    pq.write_table(pa.table(table), "rows.parquet", row_group_size=10_000)
    os.chdir(kept)
    return folder


@pytest.fixture(autouse=True)
def _there(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").symlink_to(place / "runs")
    for ending in ("csv", "jsonl", "parquet"):
        (tmp_path / f"rows.{ending}").hardlink_to(place / f"rows.{ending}")


def alone(given: str, out: str) -> bytes:
    """What one process writes without a stop."""
    assert main(["predict", "r", given, "--output", out]) == 0
    return Path(out).read_bytes()


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_several_processes_write_what_one_writes(ending: str, capsys: Any) -> None:
    given, processes = f"rows.{ending}", "2" if ending == "csv" else "1"
    wanted = alone(given, f"one.{ending}")
    said = capsys.readouterr().err
    assert main(["predict", "r", given, "--output", f"two.{ending}", "--processes", processes]) == 0
    assert Path(f"two.{ending}").read_bytes() == wanted
    assert capsys.readouterr().err == said.replace("one.", "two.")
    told = [path.read_bytes() for path in sorted(Path().glob("*.errors.jsonl"))]
    assert len(told) == (0 if ending == "parquet" else 2)
    assert len(set(told)) <= 1
    assert not Path(f"two.{ending}.parts").exists()


def begin(*more: str) -> subprocess.Popen[bytes]:
    command = ["predict", "r", "rows.csv", "--output", "out.csv", *more]
    return subprocess.Popen(
        [sys.executable, "-m", "modelworks.cli", *command], stderr=subprocess.PIPE, start_new_session=True
    )


def parts() -> list[Path]:
    return sorted(Path("out.csv.parts").glob("*/*.part"))


def wait_for(number: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while len(parts()) < number and process.poll() is None and time.monotonic() < until:
        time.sleep(0.002)


def test_kills_change_nothing() -> None:
    """First all processes are killed, or only the first; then, of what goes on, a worker."""
    wanted = alone("rows.csv", "one.csv")
    process = begin("--processes", "2")
    at = random.randrange(1, 4)
    wait_for(at, process)
    os.killpg(process.pid, signal.SIGKILL) if random.random() < 0.5 else process.kill()
    process.wait()
    assert len(parts()) >= at and not Path("out.csv").exists()
    process = begin("--resume")
    while not (workers := _children(process.pid)) and process.poll() is None:
        time.sleep(0.01)
    if workers:  # none where all parts were there: what is left is to join them
        time.sleep(random.random())
        with contextlib.suppress(ProcessLookupError):  # it may have ended
            os.kill(workers[0], signal.SIGKILL)
    assert process.stderr
    told = process.stderr.read().decode()
    assert process.wait() == 0, told
    assert Path("out.csv").read_bytes() == wanted
    assert Path("out.csv.errors.jsonl").read_bytes() == Path("one.csv.errors.jsonl").read_bytes()
    assert {path.name for path in Path().glob("out.csv*")} == {"out.csv", "out.csv.errors.jsonl"}


def _children(process: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()] + [
        int(one)
        for task in Path(f"/proc/{process}/task").iterdir()
        if task.name != str(process)
        for one in (task / "children").read_text().split()
    ]


class _Stop(Exception):
    pass


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """The folder of a scoring that ended before its parts were joined."""
    from modelworks.engine.score.parts import Parts

    def stop(*_: Any) -> None:
        raise _Stop

    kept = Path.cwd()
    os.chdir(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Parts, "join", stop)
        with pytest.raises(_Stop):
            main(["predict", "r", "rows.csv", "--output", "out.csv", "--processes", "1", "--debug"])
    os.chdir(kept)
    return place / "out.csv.parts"


@pytest.fixture
def stopped(whole: Path) -> None:
    """The same, to go on with."""
    shutil.copytree(whole, "out.csv.parts")
    assert len(parts()) == 5


@pytest.mark.usefixtures("stopped")
def test_only_what_is_missing_is_asked_again(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    parts()[3].unlink()
    asked = []
    from modelworks.engine.score.pool import Pool

    submit = Pool.submit
    monkeypatch.setattr(
        Pool, "submit", lambda self, number, batch: asked.append(number) or submit(self, number, batch)
    )
    assert main(["predict", "r", "rows.csv", "--output", "out.csv", "--resume"]) == 0
    assert asked == [3]
    assert "going on after 4 answered batches" in capsys.readouterr().err
    assert Path("out.csv").read_bytes() == alone("rows.csv", "one.csv")


@pytest.mark.usefixtures("stopped")
def test_answers_to_other_questions_are_not_joined(place: Path, capsys: Any) -> None:
    again = ["predict", "r", "rows.csv", "--output", "out.csv", "--resume"]

    def refused(command: list[str]) -> str:
        capsys.readouterr()
        assert main(command) == 2
        assert not Path("out.csv").exists()
        return capsys.readouterr().err

    assert "--resume goes on" in refused([*again[:-1], "--processes", "2"])
    assert "the options changed" in refused([*again, "--limit", "9"])
    text = Path("rows.csv").read_text()
    Path("rows.csv").unlink()  # the hard link, not what the other tests read
    Path("rows.csv").write_text(text.replace("a,b,note", "a,b,word"))
    assert "the input changed" in refused(again)
    Path("rows.csv").write_text(text)
    manifest = Path("runs/r/manifest.json")
    sealed = manifest.read_bytes()
    try:
        manifest.write_bytes(sealed + b" ")
        assert "the Run changed" in refused(again)
    finally:
        manifest.write_bytes(sealed)
    assert main(again) == 0


@pytest.mark.usefixtures("stopped")
def test_one_at_a_time(capsys: Any) -> None:
    import fcntl

    with Path("out.csv.parts/lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert main(["predict", "r", "rows.csv", "--output", "out.csv", "--resume"]) == 2
    assert "another process is scoring" in capsys.readouterr().err


def test_what_cannot_be_is_said_at_once(capsys: Any) -> None:
    assert main(["predict", "r", "rows.csv", "--processes", "2"]) == 2
    assert "--output OUT.csv" in capsys.readouterr().err
    assert main(["predict", "r", "rows.csv", "--output", "out.csv", "--processes", "0"]) == 2
    Path("other.csv").write_text("c\n1\n")
    assert main(["predict", "r", "other.csv", "--output", "out.csv", "--processes", "1"]) == 2
    assert "none of the Run's input columns" in capsys.readouterr().err


def test_a_batch_without_an_answer_has_all_columns() -> None:
    Path("bad.csv").write_text("a,b\n" + "x,1\n" * 9_000 + "1,2\n")
    lines = alone("bad.csv", "one.csv").decode().splitlines()
    assert len(lines) == 9_002
    assert lines[0] == "a,b,prediction,probability_u,probability_v,probability_w"
    assert {line.count(",") for line in lines} == {5}
