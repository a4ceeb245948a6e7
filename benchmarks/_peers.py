"""The peers' environments: made by pip on first use, apart from ours.

    python = environment()                       # benchmarks/.env-peers, from peers.txt
    answer = ask(python, "torch_memory.py", "--model", "mlp", "--seed", "0")

MODELWORKS_PEERS=/some/folder (and MODELWORKS_LUDWIG, MODELWORKS_CORE) puts an environment elsewhere.
A peer is a small script in peers/ that prints its result as one line of JSON, the last one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _measure

ROOT = Path(__file__).resolve().parent
REPOSITORY = ROOT.parent
CACHE = ROOT / ".cache"


class Failed(RuntimeError):
    """A contender that did not get to its result; the reason goes into the table."""


def folder(name: str) -> Path:
    """Where the environment of this name is or will be."""
    return Path(os.environ.get(f"MODELWORKS_{name.upper()}") or ROOT / f".env-{name}")


def environment(
    name: str = "peers", requirements: Sequence[str] | None = None, timeout: float | None = None
) -> Path:
    """The interpreter of an environment, which is made or brought up to date when its requirements changed.

    Raises Failed with pip's last line when something cannot be installed."""
    wanted = _pins() if requirements is None else list(requirements)
    place = folder(name)
    python, stamp = place / "bin" / "python", place / "installed.txt"
    text = "\n".join(wanted) + "\n"
    if python.exists() and stamp.exists() and stamp.read_text("utf-8") == text:
        return python
    print(f"installing into {place}: {', '.join(wanted)}", flush=True)
    if not python.exists():
        venv.create(place, with_pip=True)
    # One by one what comes first: the rest must find torch there and not fetch another build of it.
    for part in [wanted[:1], wanted[1:]] if len(wanted) > 1 else [wanted]:
        done = _measure.run(
            [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *part], timeout=timeout
        )
        if done.code:
            raise Failed(f"could not be installed: {done.reason()}")
    stamp.write_text(text, "utf-8")
    return python


def _pins() -> list[str]:
    lines = (ROOT / "peers.txt").read_text("utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def versions(python: Path, names: Sequence[str]) -> str:
    """`torch 2.13.0, keras 3.15.1` as that interpreter has them."""
    code = (
        "import sys; from importlib.metadata import version\n"
        "print(', '.join(f'{n} {version(n)}' for n in sys.argv[1:]))"
    )
    return subprocess.run(
        [python, "-c", code, *names], capture_output=True, text=True, check=True
    ).stdout.strip()


def settings(threads: int | None = None) -> dict[str, str]:
    """The environment variables that every contender runs under: quiet, offline, the same number of threads."""
    count = str(threads or os.cpu_count() or 1)
    return {
        **os.environ,
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "TF_NUM_INTRAOP_THREADS": count,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONWARNINGS": "ignore",
        "PYTHONUTF8": "1",
    }


def ask(
    python: Path, script: str, *arguments: Any, threads: int | None = None, timeout: float | None = None
) -> dict[str, Any]:
    """Run a peer to its end: its JSON line, with `wall` seconds and `peak_mb` added."""
    command = [python, ROOT / "peers" / script, *map(str, arguments)]
    return _answer(_measure.run(command, env=settings(threads), timeout=timeout))


def modelworks(
    *arguments: Any, cwd: Path, threads: int | None = None, timeout: float | None = None
) -> _measure.Finished:
    """Run a `modelworks` command of this repository under our own interpreter, in the folder `cwd`."""
    cwd.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join([str(REPOSITORY / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "modelworks.cli", *map(str, arguments)]
    done = _measure.run(command, env={**settings(threads), "PYTHONPATH": path}, cwd=cwd, timeout=timeout)
    if done.code:
        raise Failed(done.reason())
    return done


def _answer(done: _measure.Finished) -> dict[str, Any]:
    if done.code:
        raise Failed(done.reason())
    lines = [line for line in done.out.splitlines() if line.startswith("{")]
    if not lines:
        raise Failed("printed no result")
    return {**json.loads(lines[-1]), "wall": done.seconds, "peak_mb": done.peak_mb}
