"""Describe: the docstring beneath each setting of a class, for `modelworks list` and `modelworks schema`.

Read from the source when asked for: pydantic would do it at every start, which takes longer than checking a recipe.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path


def descriptions(kind: type) -> dict[str, str]:
    """Setting → its docstring on one line, inherited ones included."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        file = getattr(sys.modules.get(base.__module__), "__file__", None) or getattr(
            base, "__file_of_kind__", None
        )
        if base.__module__.startswith("modelworks") and file:
            found |= dict(_documented(Path(file), base.__name__))
    return found


def _documented(path: Path, name: str) -> Iterator[tuple[str, str]]:
    for node in _classes(path):
        if node.name != name:
            continue
        for line, after in zip(node.body, node.body[1:], strict=False):
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and _text(after):
                yield line.target.id, " ".join(inspect.cleandoc(_text(after)).split())


@functools.cache
def _classes(path: Path) -> list[ast.ClassDef]:
    return [node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.ClassDef)]


def _text(node: ast.stmt) -> str:
    found = (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
    return node.value.value if found else ""  # type: ignore[union-attr, return-value]
