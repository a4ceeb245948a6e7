"""What must answer at once loads no torch: help, listings, a recipe's errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")}
HEAVY = ("torch", "numpy", "pyarrow", "rich", "jinja2", "PIL", "safetensors")
_PROGRAM = """
import sys
from modelworks.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code or 0
print("LOADED", *[name for name in {heavy!r} if name in sys.modules])
print("CODE", code)
"""


def run(*words: str) -> tuple[int, set[str], str]:
    """(exit code, heavy modules that were loaded, all output) of a command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(heavy=HEAVY), *words],
        capture_output=True, text=True, timeout=60, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    loaded = next(line for line in lines if line.startswith("LOADED")).split()[1:]
    code = next(line for line in lines if line.startswith("CODE")).split()[1]
    return int(code), set(loaded), done.stdout + done.stderr


@pytest.mark.parametrize("words", [
    ("--help",), ("--version",), ("train", "--help"), ("predict", "--help"), ("list", "models"),
    ("list", "models", "cnn"), ("completion", "bash"),
], ids=" ".join)  # fmt: skip
def test_help_and_lists_load_nothing_heavy(words: tuple[str, ...]) -> None:
    code, loaded, _ = run(*words)
    assert code == 0
    assert not loaded


def test_a_recipes_errors_come_together_without_torch(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "data: sample:iris\nmodel: {kind: resnet, dept: 3}\ntrain: {epoch: 3, optimizer: {kind: adm}}\n"
    )
    code, loaded, text = run("train", str(recipe))
    assert code == 2
    assert not loaded
    for part in ("model.dept", "did you mean 'depth'?", "train.epoch", "did you mean 'epochs'?", "'adam'"):
        assert part in text


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = f"import sys, modelworks; print(*[n for n in {HEAVY!r} + ('pydantic',) if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=ENVIRONMENT,
    )
    assert done.stdout.strip() == ""


def test_every_kinds_settings_are_read_without_torch() -> None:
    program = (
        "import sys\n"
        "from modelworks.core.kinds import every, lightly\n"
        "from modelworks.stages.list import contracts\n"
        "with lightly(): found = {folder: len(every(contract)) for folder, contract in contracts().items()}\n"
        "print(min(found.values()), *[n for n in ('torch', 'numpy', 'pyarrow') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=ENVIRONMENT,
    )
    least, *loaded = done.stdout.split()
    assert int(least) >= 4
    assert not loaded


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "modelworks", "--version"],
        capture_output=True, text=True, timeout=60, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.strip()
