"""User code: kinds given by path (`kind: ./mine.py`) are the user's own Python files.

A Run stores where such a file lies and its SHA-256, never the code: a folder that came from somewhere else must
not run code by being opened. A Run that names a file inside itself, or one that changed since, is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelworks.core.errors import UserError
from modelworks.core.run import RunFolder
from modelworks.core.sealed import sha256


def files(tree: Any) -> list[str]:
    """Every `kind:` of a recipe that is a path."""
    if isinstance(tree, dict):
        own = [tree["kind"]] if isinstance(tree.get("kind"), str) and tree["kind"].endswith(".py") else []
        return own + [path for value in tree.values() for path in files(value)]
    return [path for value in tree for path in files(value)] if isinstance(tree, list) else []


def hashes(tree: Any) -> dict[str, str]:
    """Path → SHA-256 of the files that a recipe names."""
    return {path: sha256(Path(path)) for path in sorted(set(files(tree)))}


def check(run: RunFolder) -> None:
    """Refuse a Run whose code is missing, changed, or comes with it. Call before its recipe is read."""
    known = run.json("environment.json").get("code", {})
    for name in sorted(set(files(run.recipe_tree())) | set(files(run.json("fields/fields.json")))):
        path = Path(name)
        if path.resolve().is_relative_to(run.path.resolve()):
            raise UserError(
                f"{run.path}: names code inside itself ({name})",
                "a Run brings no code; put the file elsewhere if you trust it",
            )
        if not path.is_file():
            raise UserError(
                f"{run.path}: was trained with {name}, which is not there", "put the file back where it was"
            )
        if run.complete and known.get(name) != sha256(path):
            raise UserError(
                f"{run.path}: {name} is not the file it was trained with", "restore it, or train anew"
            )
