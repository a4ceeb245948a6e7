"""Trust: what is looked at before anything of a Run is read by a server.

A Run may come from anywhere, and a request may name one. Weights and settings are read by formats that run no code;
what is left are files that are no files (pipes block, links lead elsewhere) and code that a Run names.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from modelworks.core.errors import UserError
from modelworks.core.run import RunFolder
from modelworks.engine import usercode

LARGEST_TEXT = 256 << 20
"""Bytes of a JSON or YAML file of a Run: they are read whole."""


def check(run: RunFolder, code: bool) -> None:
    """Refuse a Run with links, pipes or devices in it, endless settings, or, unless `code`, code of its own."""
    for folder, folders, files in os.walk(run.path):
        for name in (*folders, *files):
            _look(Path(folder) / name)
        folders[:] = [name for name in folders if name != "checkpoints"]
    if not run.complete:
        raise UserError(f"{run.path}: is unfinished", f"modelworks train --resume --name {run.name}")
    own = usercode.files([run.recipe_tree(), run.json("fields/fields.json")])
    if own and not code:
        raise UserError(f"{run.path}: names code of its own ({own[0]})", "--trust-code, where you trust it")


def _look(path: Path) -> None:
    found = path.lstat()
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise UserError(f"{path}: is neither a file nor a folder", "a served Run holds nothing else")
    if path.suffix in (".json", ".yaml") and found.st_size > LARGEST_TEXT:
        raise UserError(f"{path}: is larger than {LARGEST_TEXT >> 20} MB")
