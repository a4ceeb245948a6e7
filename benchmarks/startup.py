"""Start-up, import and install weight: modelworks beside transformers, Keras, Lightning and Ludwig.

    python benchmarks/startup.py [--quick] [--rounds 9]

modelworks is installed by `pip install .` into a fresh environment of its own. Every command runs once unmeasured
(files come into the cache, byte code is written), then round by round.
"""

from __future__ import annotations

import argparse
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _measure
import _peers
import _results

WRONG = "data: sample:mnist\nmodel: {kind: cnn, chanels: [32]}\ntrain: {epochs: many}\n"
WEIGHED = {
    "modelworks": ("core", ["modelworks"]),
    "transformers + torch + accelerate": ("peers", ["transformers", "torch", "accelerate"]),
    "Keras + TensorFlow": ("peers", ["keras", "tensorflow-cpu"]),
    "Lightning": ("peers", ["lightning"]),
    "Ludwig": ("ludwig", ["ludwig"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two rounds: a check that everything runs")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    rounds = 2 if args.quick else args.rounds
    pythons, missing = environments()
    wrong = _peers.CACHE / "work" / "startup" / "wrong.yaml"
    wrong.parent.mkdir(parents=True, exist_ok=True)
    wrong.write_text(WRONG, "utf-8")
    commands = {
        label: command for label, (name, command) in _commands(pythons, wrong).items() if name in pythons
    }
    seconds = measure(commands, rounds)
    heavy = {label: engines(command) for label, command in commands.items()}
    floor = statistics.median(seconds["python -c pass"])
    rows = [
        [
            label,
            f"{statistics.median(found):.3f}",
            f"{min(found):.3f}",
            f"{statistics.median(found) - floor:.3f}",
            ", ".join(heavy[label]) or "none",
        ]
        for label, found in seconds.items()
    ]
    rows += [[f"{name}: {reason}", *["–"] * 4] for name, reason in missing.items()]
    weights = []
    for label, (name, packages) in WEIGHED.items():
        if name not in pythons:
            weights.append([label, missing[name], "–", "–"])
            continue
        found = _peers.ask(pythons[name], "weight.py", *packages)
        weights.append([label, found["packages"], f"{found['mb']:,.0f}", f"{found['mb_besides']:,.0f}"])
    _results.publish(
        "startup", "Start-up and weight",
        [
            _results.table(["command", "median s", "best s", "besides Python's own", "loads"], rows),
            _results.table(["installed", "packages", "MB", "MB besides torch, TensorFlow, CUDA"], weights),
        ],
        notes=[
            f"{rounds} rounds, commands interleaved, files in the cache; “loads”: torch or TensorFlow, by Python's own list of imports.",
            "Weight: the named packages and all that they need, as installed here; modelworks without extras. With CPU builds of torch, Ludwig excepted if pip chose another.",
        ],
        versions=_versions(pythons), raw={"seconds": seconds, "loads": heavy}, quick=args.quick,
    )  # fmt: skip


def environments() -> tuple[dict[str, Path], dict[str, str]]:
    """Name → interpreter, and name → why there is none."""
    pythons, missing = {}, {}
    wanted: dict[str, Sequence[str] | None] = {
        "core": ["torch==2.13.0", str(_peers.REPOSITORY)],
        "peers": None,
        "ludwig": ["ludwig==0.11.0"],
    }
    for name, requirements in wanted.items():
        try:
            pythons[name] = _peers.environment(name, requirements, timeout=360 if name == "ludwig" else None)
        except _peers.Failed as error:
            missing[name] = str(error)
    if "core" in missing:
        raise SystemExit(f"modelworks itself {missing['core']}")
    # The source may have changed since.
    again = [
        pythons["core"],
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--force-reinstall",
        _peers.REPOSITORY,
    ]
    done = _measure.run(again)
    if done.code:
        raise SystemExit(f"modelworks itself could not be installed: {done.reason()}")
    return pythons, missing


def _commands(pythons: dict[str, Path], wrong: Path) -> dict[str, tuple[str, list[Any]]]:
    """Label → (environment, command)."""

    def tool(name: str, script: str) -> Path | str:
        return pythons[name].parent / script if name in pythons else ""

    def python(name: str) -> Path | str:
        return pythons.get(name, "")

    ours = tool("core", "modelworks")
    return {
        "python -c pass": ("core", [python("core"), "-c", "pass"]),
        "modelworks --help": ("core", [ours, "--help"]),
        "modelworks train --help": ("core", [ours, "train", "--help"]),
        "modelworks train WRONG.yaml (two errors)": ("core", [ours, "train", wrong]),
        "import modelworks": ("core", [python("core"), "-c", "import modelworks"]),
        "transformers --help": ("peers", [tool("peers", "transformers"), "--help"]),
        "import transformers": ("peers", [python("peers"), "-c", "import transformers"]),
        "from transformers import Trainer": (
            "peers",
            [python("peers"), "-c", "from transformers import Trainer"],
        ),
        "import keras": ("peers", [python("peers"), "-c", "import keras"]),
        "import lightning": ("peers", [python("peers"), "-c", "import lightning"]),
        "ludwig --help": ("ludwig", [tool("ludwig", "ludwig"), "--help"]),
        "ludwig train --help": ("ludwig", [tool("ludwig", "ludwig"), "train", "--help"]),
    }


def measure(commands: dict[str, list[Any]], rounds: int) -> dict[str, list[float]]:
    """Label → wall seconds of every round."""
    seconds: dict[str, list[float]] = {label: [] for label in commands}
    for turn in range(rounds + 1):
        for label, command in commands.items():
            done = _measure.run(command, env=_peers.settings(), timeout=120)
            if turn:
                seconds[label].append(done.seconds)
            elif done.code != (2 if "WRONG" in label else 0):
                print(f"  {label}: exit code {done.code}: {done.reason()}", flush=True)
        print(f"  round {turn} of {rounds}", flush=True)
    return seconds


def engines(command: list[Any]) -> list[str]:
    """Which of torch and TensorFlow a command imports."""
    done = _measure.run(command, env={**_peers.settings(), "PYTHONPROFILEIMPORTTIME": "1"}, timeout=120)
    names = {
        line.rsplit("|", 1)[-1].strip() for line in done.err.splitlines() if re.match(r"import time:", line)
    }
    return [name for name in ("torch", "tensorflow") if name in names]


def _versions(pythons: dict[str, Path]) -> str:
    found = (
        [_peers.versions(pythons["peers"], ["transformers", "keras", "lightning"])]
        if "peers" in pythons
        else []
    )
    return ", ".join(
        [*found, *([_peers.versions(pythons["ludwig"], ["ludwig"])] if "ludwig" in pythons else [])]
    )


if __name__ == "__main__":
    main()
