"""RESULTS.md: one section a benchmark, rewritten whole by the command that measures it.

    publish("startup", "Start-up", tables=[...], notes=[...], versions="torch 2.13.0", quick=args.quick)

Quick runs check that a benchmark works, their figures mean nothing: they go to .cache/RESULTS-quick.md.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _peers

_HEAD = "# Benchmarks: results\n\nWritten by the commands in each section; see README.md beside this file.\n"


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; every column but the first is set to the right."""
    cells = [list(map(_cell, columns)), *(list(map(_cell, row)) for row in rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    lines = [
        "| "
        + " | ".join(
            c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in cells
    ]
    rule = (
        "|"
        + "|".join((":" + "-" * (w + 1)) if i == 0 else ("-" * (w + 1) + ":") for i, w in enumerate(widths))
        + "|"
    )
    return "\n".join([lines[0], rule, *lines[1:]])


def publish(
    name: str,
    title: str,
    tables: Sequence[str],
    *,
    part: str = "",
    notes: Sequence[str] = (),
    versions: str = "",
    raw: Any = None,
    quick: bool = False,
) -> None:
    """Print a section and put it between its markers in RESULTS.md; the raw figures go to .cache/raw/.

    `part`: a benchmark of several parts writes each as soon as it is measured."""
    # Of the reader's machine, not of this one: a path by its last part.
    words = [Path(word).name if os.sep in word else word for word in sys.argv]
    command = f"python benchmarks/{shlex.join(words)}"
    name = f"{name}-{part}" if part else name
    facts = [
        f"`{command}`",
        datetime.date.today().isoformat(),
        machine(),
        f"modelworks {_own_version()}",
        versions,
    ]
    body = "\n\n".join(
        [
            f"## {title}",
            " · ".join(filter(None, facts)),
            *tables,
            *(["\n".join(f"- {note}" for note in notes)] if notes else []),
        ]
    )
    print(f"\n{body}\n", flush=True)
    path = _peers.CACHE / "RESULTS-quick.md" if quick else _peers.ROOT / "RESULTS.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = path.read_text("utf-8") if path.exists() else _HEAD
    section = f"<!-- {name} -->\n{body}\n<!-- /{name} -->"
    pattern = re.compile(rf"<!-- {name} -->.*?<!-- /{name} -->", re.DOTALL)
    text = pattern.sub(lambda _: section, text) if pattern.search(text) else f"{text.rstrip()}\n\n{section}\n"
    path.write_text(text, "utf-8")
    if raw is not None:
        folder = _peers.CACHE / "raw"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}{'-quick' if quick else ''}.json").write_text(json.dumps(raw, indent=1), "utf-8")
    print(f"written to {path}", flush=True)


def machine() -> str:
    """Processor, cores, memory, Python, and how busy it was: figures from a busy machine are to be doubted."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", info.read_text("utf-8"), re.MULTILINE)
        model = found.group(1).strip() if found else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}, load at start {_LOAD:.1f}"


_LOAD = os.getloadavg()[0]


def _own_version() -> str:
    text = (_peers.REPOSITORY / "src" / "modelworks" / "__init__.py").read_text("utf-8")
    found = re.search(r'__version__ = "([^"]+)"', text)
    return found.group(1) if found else "?"


def _cell(value: Any) -> str:
    return "–" if value is None else str(value).replace("|", "\\|").replace("\n", " ")
