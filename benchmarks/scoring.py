"""Scoring a large file: seconds and memory on one and more processes, and the same bytes after kills at random moments.

    python benchmarks/scoring.py
    python benchmarks/scoring.py --rows 5000000 --processes 1,2 --kills 20

A table of made-up rows and an MLP trained on some of them for a moment: it is the scoring that is measured. Memory is
the sum of the resident sets of all its processes, sampled. A kill (SIGKILL, of all processes or of the first alone)
falls after a random share of the time that the scoring takes; then it goes on with --resume.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import _peers
import _results

WORK = _peers.CACHE / "work" / "scoring"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--processes", default="1,2")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="check that it works; the figures mean nothing")
    args = parser.parse_args()
    if args.quick:
        args.rows, args.kills = 60_000, 2
    some = random.Random(args.seed)
    given = made(args.rows, some)
    rows, seconds = [], 0.0
    counts = [int(count) for count in args.processes.split(",")]
    for flags in ([], *(["--processes", str(count)] for count in counts)):
        seconds, peak = measured(["predict", "r", given.name, "--output", "out.csv", *flags])
        (WORK / "out.csv").replace(WORK / ("one.csv" if not flags else "more.csv"))
        same = not flags or filecmp.cmp(WORK / "one.csv", WORK / "more.csv", shallow=False)
        name = f"{flags[1]} worker processes" if flags else "in one process, no parts"
        rows.append(
            [
                name,
                f"{seconds:.1f}",
                f"{args.rows / seconds:,.0f}",
                f"{peak >> 20:,}",
                "yes" if same else "NO",
            ]
        )
    kills = killed(given, counts[-1], args.kills, seconds, some)
    size = given.stat().st_size
    _results.publish(
        "scoring",
        "Scoring a large file",
        [
            _results.table(["", "s", "rows/s", "MB at most, all processes", "same bytes"], rows),
            _results.table(["kills", "bytes after them"], [[kills, "the same"]]),
        ],
        notes=[
            f"{args.rows:,} rows, {size / 1e6:,.0f} MB of CSV, 8 columns; the time includes starting and loading"
        ],
        versions=f"seed {args.seed}",
        quick=args.quick,
    )


def made(rows: int, some: random.Random) -> Path:
    """rows.csv, and a Run `r` that answers it."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    header = ",".join([*(f"x{n}" for n in range(6)), "kind", "y"])
    lines = []
    for _ in range(10_000):
        numbers = [some.gauss(0, 1) for _ in range(6)]
        label = "high" if sum(numbers) > 0 else "low"
        lines.append(",".join([*(f"{number:.4f}" for number in numbers), some.choice("abcd"), label]))
    (WORK / "train.csv").write_text("\n".join([header, *lines]) + "\n")
    block = "\n".join(lines) + "\n"
    with (WORK / "rows.csv").open("w") as file:
        file.write(header + "\n")
        file.writelines(block for _ in range(rows // len(lines)))
    flags = ["--target=y", "--model=mlp", "--name=r", "--train.steps=50", "--quiet", "--evaluate.bootstrap=0"]
    subprocess.run([*TOOL, "train", "train.csv", *flags], cwd=WORK, env=ENVIRONMENT, check=True)
    return WORK / "rows.csv"


TOOL = [sys.executable, "-m", "modelworks.cli"]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(_peers.REPOSITORY / "src"),
    "MODELWORKS_STORE": str(WORK / "store"),
}


def begun(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*TOOL, *command], cwd=WORK, env=ENVIRONMENT, stderr=subprocess.DEVNULL, start_new_session=True
    )


def measured(command: list[str]) -> tuple[float, int]:
    """Seconds, and the most bytes that all processes held together."""
    started, peak = time.monotonic(), 0
    process = begun(command)
    while process.poll() is None:
        peak = max(peak, held(process.pid))
        time.sleep(0.1)
    assert process.returncode == 0, command
    return time.monotonic() - started, peak


def held(session: int) -> int:
    """Resident bytes of the processes of a session."""
    total, page = 0, os.sysconf("SC_PAGE_SIZE")
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                told = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(told[3]) == session:
                    total += int((folder / "statm").read_text().split()[1]) * page
            except (OSError, IndexError):
                continue
    return total


def killed(given: Path, processes: int, kills: int, seconds: float, some: random.Random) -> int:
    """Kill a scoring so often, finish it, and compare; how many kills fell."""
    command = ["predict", "r", given.name, "--output", "out.csv", "--processes", str(processes), "--resume"]
    fell = 0
    for _ in range(kills):
        process = begun(command)
        try:
            process.wait(some.uniform(0.05, 0.9) * seconds)
            (WORK / "out.csv").unlink()  # it was through before the blow: begin anew
        except subprocess.TimeoutExpired:
            fell += 1
            if some.random() < 0.5:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            process.wait()
            assert not (WORK / "out.csv").exists()
    assert begun(command).wait() == 0
    assert filecmp.cmp(WORK / "one.csv", WORK / "out.csv", shallow=False)
    return fell


if __name__ == "__main__":
    main()
