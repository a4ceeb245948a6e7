"""Reading the documentation's pages: fenced blocks that say of themselves what they are.

```bash run            is executed          ```python run      is executed
```python file=a.py    is written to a.py   ```yaml file=…     likewise
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    file: str
    """The file that it is, or empty."""
    run: bool
    text: str


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page, in order."""
    found = []
    for language, info, text in _BLOCK.findall(page.read_text("utf-8")):
        words = info.split()
        names = [word.removeprefix("file=") for word in words if word.startswith("file=")]
        assert all(word == "run" or word.startswith("file=") for word in words), (
            f"{page.name}: {language}{info}"
        )
        found.append(Block(language, names[0] if names else "", "run" in words, text))
    return found


def command(folder: Path) -> dict[str, str]:
    """An environment in which `modelworks` is this tree's, and every training stops after a few steps."""
    place = folder / "bin"
    place.mkdir(exist_ok=True)
    tool = place / "modelworks"
    tool.write_text(
        f'#!/bin/sh\nverb=$1; shift\n[ $verb = train ] && set -- "$@" --train.steps=3 --evaluate.bootstrap=5\n'
        f'exec {shlex.quote(sys.executable)} -m modelworks.cli $verb "$@"\n'
    )
    tool.chmod(0o755)
    paths = {"PATH": f"{place}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    return {**os.environ, **paths}


def execute(page: Path, folder: Path) -> int:
    """Write a page's files, run its blocks in order; returns how many ran."""
    environment, ran = command(folder), 0
    for block in blocks(page):
        if block.file:
            (folder / block.file).write_text(block.text, "utf-8")
        if not block.run:
            continue
        line = ["bash", "-eo", "pipefail", "-c"] if block.language == "bash" else [sys.executable, "-c"]
        done = subprocess.run(
            [*line, block.text], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, (
            f"{page.name}:\n{block.text}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        )
        ran += 1
    return ran
