"""Recipe: the whole of what was asked, as one settings tree that is stored, edited and run again.

    recipe = Recipe.load("recipe.yaml", overrides={"model": {"depth": 24}})

Parts left out (fields, task, model, training limits) are inferred from the data by `engine/infer.py`;
a Run stores the tree with nothing left open.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field as Setting

from modelworks.core.errors import Problem, RecipeError, UserError
from modelworks.core.field import Field
from modelworks.core.kinds import find
from modelworks.core.model import Model
from modelworks.core.settings import Settings, load_yaml, merge, read
from modelworks.core.source import Source
from modelworks.core.task import Task
from modelworks.engine.data.clean import Clean
from modelworks.engine.data.open import source_for
from modelworks.engine.data.split import Split
from modelworks.engine.train.regime import Train

VERSION = 1
IGNORE = (None, False, "ignore")
"""`fields: {id: ignore}` leaves a column out."""
# Settings that were renamed: old path → new path. The one place for migrations.
RENAMED: dict[str, str] = {}


class Data(Settings):
    """Where the rows come from, how they are cleaned and split."""

    source: Source
    split: Split = Split()
    clean: Clean = Clean()


class Evaluate(Settings):
    """How the trained model is judged."""

    bootstrap: int = Setting(default=200, ge=0, le=10_000)
    """Bootstrap replicates for the 95 % intervals; 0: none."""
    batch_size: int = Setting(default=512, ge=1)
    gallery: int = Setting(default=12, ge=0, le=200)
    """Most confident mistakes shown in the report."""


class Recipe(Settings):
    """Every setting of a Run."""

    version: int = VERSION
    """Version of this format."""
    name: str = ""
    """The Run's folder under runs/."""
    target: str = ""
    """The column that is learned; also settable as task.target."""
    seed: int = Setting(default=0, ge=0, lt=2**32)
    """Seed of everything random: splits, initialisation, order, augmentation, dropout."""
    init: str = ""
    """A Run, or a folder in Hugging Face's form, that training starts from (engine/exchange/transfer.py)."""
    data: Data
    fields: dict[str, Field] = {}
    """Field name → modality. A column without a field is not used."""
    task: Task | None = None
    model: Model | None = None
    train: Train = Train()
    evaluate: Evaluate = Evaluate()

    @classmethod
    def check(cls, tree: Mapping[str, Any], source: str = "") -> Recipe:
        """A recipe from plain data; raises RecipeError with every problem. Reads no data, imports no torch."""
        tree, problems = _plain(tree)
        fields = tree.get("fields")
        if isinstance(fields, Mapping):
            # What only adjusts an inferred kind is checked once that kind is known.
            tree["fields"] = {
                k: v
                for k, v in fields.items()
                if not (v in IGNORE or (isinstance(v, Mapping) and "kind" not in v))
            }
        for name in ("task", "model"):
            if isinstance(tree.get(name), Mapping) and "kind" not in tree[name]:
                tree[name] = None
        try:
            recipe = read(cls, tree, source)
        except RecipeError as error:
            raise RecipeError([*problems, *error.problems], source) from None
        if problems:
            raise RecipeError(problems, source)
        return recipe

    @property
    def inputs(self) -> dict[str, Field]:
        """The fields that the model reads."""
        if self.task is not None:
            return self.task.inputs(self.fields)
        return {name: field for name, field in self.fields.items() if name != self.target}


def self_supervised(tree: Mapping[str, Any]) -> bool:
    """Whether the recipe's task learns a column from itself."""
    task = tree.get("task")
    kind = task if isinstance(task, str) else getattr(task, "kind", None) or (task or {}).get("kind")
    return kind is not None and find(Task, kind).self_supervised


STAND_IN = {"source": {"kind": "dataframe", "data": {}}}


def of_run(tree: Mapping[str, Any], source: str) -> Recipe:
    """The recipe of a finished Run, which answers without the data it was trained on."""
    return Recipe.check({**tree, "data": STAND_IN}, source)


def load_tree(path: Path) -> dict[str, Any]:
    """The plain tree of a recipe file, older formats brought up to date."""
    tree = load_yaml(path)
    if not isinstance(tree, dict):
        raise UserError(f"{path}: a recipe is a mapping of settings, got {type(tree).__name__}")
    version = tree.get("version", VERSION)
    if isinstance(version, int) and version > VERSION:
        raise UserError(
            f"{path}: format version {version} is newer than this modelworks reads ({VERSION})",
            "upgrade modelworks",
        )
    # A kind or a source given by path is meant relative to the recipe when it is not there from here.
    return _rebase(tree, path.parent)


def _rebase(tree: Any, folder: Path) -> Any:
    if isinstance(tree, dict):
        return {
            key: str(folder / value)
            if key in ("kind", "path", "source", "init", "teacher", "tokenizer")
            and isinstance(value, str)
            and not Path(value).exists()
            and (folder / value).exists()
            else _rebase(value, folder)
            for key, value in tree.items()
        }
    return [_rebase(item, folder) for item in tree] if isinstance(tree, list) else tree


def _plain(tree: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Short forms written out: `data: reviews.csv`, `data: {source: sample:mnist}`."""
    tree = dict(tree)
    for old, new in RENAMED.items():
        if old in tree:
            tree[new] = tree.pop(old)
    problems: list[Problem] = []
    data: Any = tree.get("data")
    data = {"source": data} if isinstance(data, str) else dict(data) if isinstance(data, Mapping) else data
    if isinstance(data, dict) and isinstance(data.get("source"), str):
        try:
            data["source"] = source_for(data["source"])
        except UserError as error:
            problems.append(Problem("data.source", str(error)))
            data = None
    if data is None:
        tree.pop("data", None)
        if not problems:
            problems.append(
                Problem("data", "is needed and was not given", "data: FILE, or data: {source: …}")
            )
        data = STAND_IN  # so that what else is wrong is still found
    tree["data"] = data
    return tree, problems


def compose(*trees: Mapping[str, Any]) -> dict[str, Any]:
    """Later trees laid over earlier ones."""
    total: dict[str, Any] = {}
    for tree in trees:
        total = merge(total, tree)
    return total
