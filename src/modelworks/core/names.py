"""Names: the files of a folder are its kinds. Listing them reads names and first lines, and imports nothing of them."""

from __future__ import annotations

import functools
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


@functools.cache
def own(folder: str) -> tuple[str, ...]:
    """Our own kinds of a folder, sorted; files that begin with an underscore are helpers."""
    return tuple(sorted(path.stem for path in (PACKAGE / folder).glob("[!_]*.py")))


def summary(folder: str, name: str) -> str:
    """The first line of a kind's docstring."""
    path = PACKAGE / folder / f"{name}.py"
    if not path.exists():
        return "(plugin)"
    with path.open(encoding="utf-8") as file:
        return file.readline().strip().strip('"')
