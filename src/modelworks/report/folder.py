"""Folder: a Run's files, read with tolerance; what is missing or broken is noted, to be reported."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelworks.core.errors import UserError
from modelworks.core.settings import parse_yaml


@dataclass
class Files:
    """What a Run folder holds, as plain data; empty where there is nothing."""

    path: Path
    recipe_text: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)
    evaluation: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    gallery: list[dict[str, Any]] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    """File → why it is not shown."""

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def samples(self) -> list[Path]:
        """Picture grids that a generative run saved, in order of step."""
        folder = self.path / "samples"
        return (
            sorted(folder.glob("*.png"), key=lambda path: (step_of(path), path.name))
            if folder.is_dir()
            else []
        )

    def part(self, name: str) -> dict[str, Any]:
        """A mapping of the recipe: `task`, `model`, `train` …"""
        value = self.recipe.get(name)
        return (
            dict(value) if isinstance(value, Mapping) else {"kind": value} if isinstance(value, str) else {}
        )


def read(path: Path | str) -> Files:
    """The files of a Run folder. Raises UserError only when there is no such folder."""
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such Run folder")
    files = Files(path)
    files.recipe_text = _text(files, "recipe.yaml")
    if files.recipe_text:
        try:
            files.recipe = table(parse_yaml(files.recipe_text, "recipe.yaml"))
        except UserError as error:
            files.problems["recipe.yaml"] = str(error)
    for line in _text(files, "metrics.jsonl").splitlines():
        try:
            files.log.append(table(json.loads(line)))
        except ValueError:
            continue  # the last line of a run that was killed
    for name in ("evaluation", "data", "environment"):
        setattr(files, name, table(_json(files, f"{name}.json")))
    gallery = _json(files, "gallery.json")
    files.gallery = tables(
        gallery.get("rows", gallery.get("items")) if isinstance(gallery, Mapping) else gallery
    )
    return files


def _text(files: Files, name: str) -> str:
    try:
        return (files.path / name).read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        files.problems[name] = f"{name} is not in the folder"
    except OSError as error:
        files.problems[name] = f"{name}: {error.strerror}"
    return ""


def _json(files: Files, name: str) -> Any:
    text = _text(files, name)
    if not text:
        return {}
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        files.problems[name] = f"{name} cannot be read as JSON"
        return {}


def table(value: Any) -> dict[str, Any]:
    """The mapping it should be, or an empty one."""
    return {str(key): item for key, item in value.items()} if isinstance(value, Mapping) else {}


def tables(value: Any) -> list[dict[str, Any]]:
    """The list of mappings it should be; other items are left out."""
    return [table(item) for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def items(value: Any) -> list[Any]:
    """The list it should be, or an empty one."""
    return list(value) if isinstance(value, (list, tuple)) else []


def figure(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def step_of(path: Path) -> int:
    """The step in a file's name: `step-00001200.png` → 1200."""
    digits = "".join(c if c.isascii() and c.isdigit() else " " for c in path.stem).split()
    return int(digits[-1][:15]) if digits else 0
