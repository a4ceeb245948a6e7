"""kill -9 at seeded moments, then `train --resume`: every Run must equal the uninterrupted one to the bit.

    python benchmarks/kill.py --points 30 --seed 0
    python benchmarks/kill.py --points 30 --parts pretrain,instruct,prefer --data DIR

Three small trainings take turns: pictures (augmentation, dropout, moving average), a table with text (early stopping)
and sentences of many lengths (a recurrent network). Or those of language models: pretraining on plays (Muon, dropout,
moving average), LoRA on questions with answers, DPO on pairs; DIR has tinyshakespeare/input.txt.gz, alpaca_demo/*.json.gz.
A third of the points lie inside the saving of a checkpoint, at chosen calls; half of those files are also cut in two,
as a power cut may. Others lie in what a Run writes before and after training; the rest are moments of start-up,
preparation, training and evaluation. Every fourth resumed run is killed again, and every fifth finds its prepared data
gone. Exit code 1 unless all are equal.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parent / "src"
DYING = HERE / "_dying.py"
LIMIT = 600
"""Seconds after which a command counts as hanging."""
PHASES = ("start", "prepare", "train", "finish")
PICTURES = [
    "train", "sample:digits", "--target", "label", "--fields.image.rotate=10", "--fields.image.shift=0.1",
    "--fields.image.erase=0.3", "--fields.image.mixup=0.2", "--model.dropout=0.3", "--train.ema=0.95", "--train.epochs=4",
    "--train.checkpoint_steps=17", "--train.optimizer.kind=sgd", "--train.schedule.kind=one_cycle",
]  # fmt: skip
TABLE = [
    "train", "DATA/rows.csv", "--target", "answer", "--train.patience=2", "--train.epochs=8", "--train.checkpoint_steps=11",
    "--train.keep_checkpoints=1", "--train.clip=1", "--train.validate_every=20",
]  # fmt: skip
SENTENCES = [
    "train", "DATA/rows.csv", "--target", "answer", "--model", "rnn", "--fields.age=ignore", "--fields.size=ignore",
    "--fields.colour=ignore", "--train.epochs=3", "--train.checkpoint_steps=20", "--train.schedule.kind=plateau",
]  # fmt: skip
PRETRAIN = [
    "train", "DATA/plays.txt", "--task", "language", "--fields.text.tokens=bpe", "--fields.text.vocabulary=512",
    "--fields.text.length=64", "--model.preset=llama", "--model.width=64", "--model.depth=2", "--model.heads=4",
    "--model.kv_heads=2", "--model.hidden=128", "--model.dropout=0.1", "--train.batch_size=8", "--train.steps=80",
    "--train.checkpoint_steps=9", "--train.ema=0.95", "--train.validate_every=15",
]  # fmt: skip
INSTRUCT = [
    "train", "DATA/chat.json", "--task", "instruct", "--init", "BASE", "--fields.messages.length=128",
    "--train.adapter.kind=lora", "--train.adapter.dropout=0.1", "--train.batch_size=8", "--train.epochs=2",
    "--train.checkpoint_steps=5", "--train.validate_every=8",
]  # fmt: skip
PREFER = [
    "train", "DATA/pairs.json", "--task", "prefer", "--init", "BASE", "--fields.chosen.length=256",
    "--fields.rejected.length=256", "--train.batch_size=4", "--train.epochs=2", "--train.checkpoint_steps=4",
    "--train.optimizer.lr=1e-4", "--train.validate_every=5",
]  # fmt: skip
PLAIN = {"pictures": PICTURES, "table": TABLE, "sentences": SENTENCES}
LANGUAGE = {"pretrain": PRETRAIN, "instruct": INSTRUCT, "prefer": PREFER}
"""The others start from the first's reference."""
WORKLOADS = PLAIN | LANGUAGE
ALWAYS = ["--name", "run", "--train.checkpoint_seconds=0", "--train.threads=1", "--evaluate.bootstrap=20"]
# Moments of saving that must be among the points: (call, what the path ends with, also cut the file in half).
SAVING = (
    ("fsync", "/weights.safetensors", True), ("replace", "/latest.partial", False), ("rename", "", False),
    ("fsync", "/manifest.partial", True), ("unlink", "", False), ("fsync", "/optimizer.safetensors", False),
    ("fsync", "/latest.partial", True), ("replace", "/manifest.partial", False), ("fsync", "/state.json", True),
    ("rmdir", "", False), ("fsync", "/checkpoints", False), ("fsync", "/weights.safetensors", False),
)  # fmt: skip
# The same of what is written before and after training.
WRITING = (
    ("fsync", "/run/manifest.partial", True), ("fsync", "/model.safetensors", True), ("replace", "/recipe.yaml.partial", False),
    ("replace", "/run/manifest.partial", False), ("replace", "/evaluation.json.partial", False), ("fsync", "/data.json.partial", True),
)  # fmt: skip


@dataclass(frozen=True)
class Point:
    """One moment to die at."""

    number: int
    workload: str
    where: str
    """For the table."""
    at: int | None = None
    """Number of the call, for moments of writing."""
    torn: bool = False
    phase: str = ""
    """For moments by the clock: what must have begun …"""
    share: float = 0.0
    """… and how much of its usual time must have passed."""
    again: bool = False
    """Kill the resumed run too."""
    forget: bool = False
    """Remove the prepared data before resuming."""


@dataclass
class Reference:
    """An uninterrupted run."""

    folder: Path
    command: list[str]
    seconds: dict[str, float]
    calls: list[dict[str, Any]] = field(default_factory=list)


def write_rows(path: Path, rows: int = 1000) -> None:
    """A table with numbers, gaps, a category and a note of two to eight words."""
    dice = random.Random(0)
    words = [
        "good", "bad", "fine", "awful", "great", "poor", "nice", "ugly", "red", "blue", "green", "old", "new", "fast",
        "slow", "warm", "cold",
    ]  # fmt: skip
    lines = ["age,size,colour,note,answer"]
    for _ in range(rows):
        age, note = dice.gauss(0, 1), dice.choices(words, k=dice.randrange(2, 9))
        size = "" if dice.random() < 0.05 else f"{dice.random():.3f}"
        answer = "yes" if age + ("good" in note) + dice.gauss(0, 0.5) > 0.5 else "no"
        lines.append(
            f"{age:.4f},{size},{dice.choice(['red', 'blue', 'green', ''])},{' '.join(note)},{answer}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def write_texts(folder: Path, data: Path) -> None:
    """The beginning of the plays, 120 short questions with answers, 60 short pairs."""

    def opened(name: str) -> str:
        return gzip.decompress((data / name).read_bytes()).decode("utf-8")

    (folder / "plays.txt").write_text(opened("tinyshakespeare/input.txt.gz")[:120_000], "utf-8")
    for name, source, longest, rows in (("chat", "alpaca", 400, 120), ("pairs", "dpo", 1_400, 60)):
        found = json.loads(opened(f"alpaca_demo/{source}_en_demo.json.gz"))
        short = [row for row in found if len(json.dumps(row)) <= longest][:rows]
        (folder / f"{name}.json").write_text(json.dumps(short), "utf-8")


# ------------------------------------------------------------------------------------------- running
def start(command: Sequence[str], folder: Path, dying: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """A command in this folder, its Runs and prepared data under it."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(SOURCES), os.environ.get("PYTHONPATH", "")])),
        "MODELWORKS_STORE": str(folder / "store"), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    program = [str(DYING), *dying, "--"] if dying else ["-m", "modelworks.cli"]
    with (folder / "output.txt").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, *program, *command], cwd=folder, env=environment, stdout=output, stderr=output
        )


def started(folder: Path, phase: str) -> bool:
    """Whether a phase has begun, as seen from outside: by what is there."""
    run = folder / "runs" / "run"
    if phase == "prepare":
        return any((folder / "store").glob("*.lock"))
    return (
        run / {"start": "", "train": "recipe.yaml", "finish": "model.safetensors"}[phase]
    ).exists() or phase == "start"


def finish(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait for an uninterrupted end."""
    try:
        code = process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        raise RuntimeError(f"{folder}: hangs") from None
    if code:
        raise RuntimeError(f"{folder}: exit code {code}: {(folder / 'output.txt').read_text()[-2000:]}")


def timed(process: subprocess.Popen[bytes], folder: Path) -> dict[str, float]:
    """Wait for the end; seconds of each phase."""
    began = {"start": time.perf_counter()}
    while process.poll() is None:
        for phase in PHASES[1:]:
            if phase not in began and started(folder, phase):
                began[phase] = time.perf_counter()
        time.sleep(0.002)
    finish(process, folder)
    marks = [*(began[phase] for phase in PHASES), time.perf_counter()]
    return {phase: marks[index + 1] - marks[index] for index, phase in enumerate(PHASES)}


def kill(process: subprocess.Popen[bytes], folder: Path, phase: str, delay: float) -> bool:
    """SIGKILL so many seconds after a phase began; False when the process had ended by itself before."""
    until = time.perf_counter() + LIMIT
    while not started(folder, phase) and process.poll() is None and time.perf_counter() < until:
        time.sleep(0.001)
    try:
        process.wait(delay)
        return False
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True


def reference(workload: str, folder: Path, data: Path) -> Reference:
    """The uninterrupted run, and the moments of its writing."""
    folder.mkdir(parents=True)
    base = str(folder.parent / "reference-pretrain" / "runs" / "run")
    command = [part.replace("DATA", str(data)).replace("BASE", base) for part in WORKLOADS[workload]] + ALWAYS
    log = folder / "calls.jsonl"
    seconds = timed(start(command, folder, ["--log", str(log)]), folder)
    return Reference(folder, command, seconds, [json.loads(line) for line in log.read_text().splitlines()])


def die(point: Point, known: Reference, folder: Path) -> None:
    """Start the command and kill it at the point; try again with less patience where it was faster than that."""
    for attempt in range(6):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if point.at is not None:
            process = start(
                known.command, folder, ["--at", str(point.at), *(["--torn"] if point.torn else [])]
            )
            if process.wait(LIMIT) == -9:
                return
            raise RuntimeError(
                f"{folder}: the moment did not come: {(folder / 'output.txt').read_text()[-2000:]}"
            )
        delay = known.seconds[point.phase] * point.share / 1.5**attempt
        if kill(start(known.command, folder), folder, point.phase, delay):
            return
    raise RuntimeError(f"{folder}: always faster than the kill")


def trial(point: Point, known: Reference, folder: Path, dice: random.Random) -> tuple[str, list[str]]:
    """Kill, resume, compare: what there was to go on from, and the differences."""
    die(point, known, folder)
    left = state_of(folder / "runs" / "run")
    if point.forget:
        shutil.rmtree(folder / "store", ignore_errors=True)
    resume = [*known.command, "--resume"]
    later = 0.8 * (known.seconds["start"] + known.seconds["train"])
    if point.again and kill(start(resume, folder), folder, "train", dice.random() * later):
        left += f", then {state_of(folder / 'runs' / 'run')}"
    finish(start(resume, folder), folder)
    return left, differences(known.folder / "runs" / "run", folder / "runs" / "run")


def state_of(run: Path) -> str:
    """What a killed run left, in a few words."""
    if not (run / "recipe.yaml").exists():
        return "no recipe" if run.exists() else "nothing"
    steps = sorted(path.name for path in (run / "checkpoints").glob("step-*"))
    partial = " + partial" if any((run / "checkpoints").glob(".partial-*")) else ""
    return (f"step {int(steps[-1].split('-')[1])}" if steps else "no checkpoint") + partial


# ------------------------------------------------------------------------------------------- comparing
def differences(one: Path, other: Path) -> list[str]:
    """What differs between two Runs, but for times."""
    sys.path.insert(0, str(SOURCES))
    from modelworks.core.errors import UserError
    from modelworks.core.run import RunFolder

    found = []
    for path in (one, other):
        try:
            RunFolder(path).verify()
        except UserError as error:
            found.append(str(error))
    names = [
        {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
        for run in (one, other)
    ]
    found += [f"{name}: only in one of them" for name in sorted(names[0] ^ names[1])]
    for name in sorted(names[0] & names[1]):
        read = _READERS.get(name.split("/")[-1], Path.read_bytes)
        if read is not None and read(one / name) != read(other / name):
            found.append(f"{name} differs")
    return found


def _timeless(path: Path) -> Any:
    """JSON without its times."""
    return _without_times(json.loads(path.read_text("utf-8")))


def _lines(path: Path) -> Any:
    return [_without_times(json.loads(line)) for line in path.read_text("utf-8").splitlines()]


def _without_times(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without_times(value) for key, value in tree.items() if key != "seconds"}
    return [_without_times(value) for value in tree] if isinstance(tree, list) else tree


# How each file is compared: None is not compared. Pages and manifests hold times; a resumed run notes that it resumed.
_READERS: dict[str, Callable[[Path], Any] | None] = {
    "metrics.jsonl": _lines, "evaluation.json": _timeless, "data.json": _timeless, "state.json": _timeless,
    "events.jsonl": None, "environment.json": None, "report.html": None, "card.md": None, "manifest.json": None,
}  # fmt: skip


# ------------------------------------------------------------------------------------------- points
def points(number: int, dice: random.Random, known: dict[str, Reference]) -> Iterator[Point]:
    """The seeded points: of each six, two inside a save, one in other writing, three by the clock."""
    names = list(known)
    saves, writes = itertools.cycle(SAVING), itertools.cycle(WRITING)
    clocks = itertools.cycle(("train", "prepare", "train", "finish", "train", "start"))
    for index in range(number):
        workload = names[(index + index // 3) % len(names)]
        extra = {"again": index % 4 == 3, "forget": index % 5 == 4}
        if index % 3 == 0 or index % 6 == 4:
            saving = index % 3 == 0
            call, ending, torn = next(saves if saving else writes)
            calls = [c for c in known[workload].calls if (c["call"], c["saving"]) == (call, saving)]
            chosen = dice.choice([c for c in calls if c["path"].endswith(ending)])
            what = "/".join(Path(chosen["path"]).parts[-2:])
            where = f"{'save' if saving else 'write'}: {call} {what}{' (cut)' if torn else ''}"
            yield Point(index, workload, where, at=chosen["number"], torn=torn, **extra)
        else:
            phase, share = next(clocks), dice.uniform(0.05, 0.95)
            yield Point(index, workload, f"{phase} + {share:.0%}", phase=phase, share=share, **extra)


def examine(
    number: int,
    seed: int,
    work: Path,
    workloads: Sequence[str] = tuple(PLAIN),
    data: Path | None = None,
    say: Callable[[str], None] = print,
) -> int:
    """Run all points; how many came out equal. `data`: where the texts of language models are."""
    dice = random.Random(seed)
    write_rows(work / "data" / "rows.csv")
    if data is not None:
        write_texts(work / "data", data)
    known = {name: reference(name, work / f"reference-{name}", work / "data") for name in workloads}
    saves = sum(call["saving"] for one in known.values() for call in one.calls)
    say(
        f"{number} points, seed {seed}; uninterrupted: {', '.join(f'{n} {sum(r.seconds.values()):.1f} s' for n, r in known.items())}; {saves} moments inside saves"
    )
    equal = 0
    for point in points(number, dice, known):
        folder = work / f"point-{point.number:02d}"
        began = time.perf_counter()
        try:
            left, found = trial(point, known[point.workload], folder, dice)
        except RuntimeError as error:
            left, found = "?", [str(error)]
        equal += not found
        marks = f"{' twice' if point.again else ''}{' forgotten' if point.forget else ''}"
        say(
            f"{point.number:>3}  {point.workload:<9}  {point.where + marks:<64}  left: {left:<34}  {'equal' if not found else 'DIFFERS'}  {time.perf_counter() - began:5.1f} s"
        )
        for line in found:
            say(f"       {line}")
        if not found:
            shutil.rmtree(folder)
    say(f"{equal}/{number} bit-identical")
    return equal


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", default=",".join(PLAIN), help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--data", type=Path, metavar="DIR", help="texts, for the parts of language models")
    parser.add_argument("--keep", type=Path, help="work in this folder and keep what differs")
    args = parser.parse_args()
    parts = [name for name in WORKLOADS if name in args.parts.split(",")]
    texts = set(parts) & set(LANGUAGE)
    if not parts or (texts and (args.data is None or "pretrain" not in texts)):
        parser.error(
            "--parts: names as above; those of language models want pretrain among them, and --data DIR"
        )
    with tempfile.TemporaryDirectory(prefix="modelworks-kill-") as folder:
        work = args.keep or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        equal = examine(
            args.points, args.seed, work.resolve(), parts, args.data, lambda text: print(text, flush=True)
        )
        return int(equal != args.points)


if __name__ == "__main__":
    sys.exit(main())
