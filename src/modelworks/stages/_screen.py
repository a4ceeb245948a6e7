"""What verbs print and where they write: tables as wide as they need be, files only into folders that are there."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from modelworks.core.errors import UserError

_UNBOUNDED = 1 << 16  # columns; no line is as long


def show(renderable: Any) -> None:
    """On a terminal within its width; to a file or another program as wide as it is, nothing wrapped or cut."""
    from rich.console import Console

    if sys.stdout.isatty():
        Console().print(renderable)
        return
    text = io.StringIO()
    Console(width=_UNBOUNDED, file=text, color_system=None).print(renderable)
    for line in text.getvalue().splitlines():
        print(line.rstrip())


def output_file(text: str | None) -> Path | None:
    """The file that --output names, before any work is done for it. Folders are not made: a slip would make one."""
    if text is None:
        return None
    path = Path(text)
    if path.is_dir():
        raise UserError(f"--output {text}: is a folder, and a file is wanted")
    if not path.parent.is_dir():
        what = "is not a folder" if path.parent.exists() else "there is no such folder"
        raise UserError(f"--output {text}: {path.parent}: {what}", f"mkdir -p {path.parent}")
    return path
