"""Intake: from a draft recipe to data read, cleaned, split and encoded, and a recipe with nothing left open.

    taken = take_in(tree)
    taken.recipe.model.build(...)

`draft` is the part that needs neither data nor torch: it reads what the user typed and reports all its problems.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from modelworks.core.errors import UserError
from modelworks.core.kinds import find, lightly
from modelworks.core.run import RUNS, RunFolder
from modelworks.core.settings import merge, to_tree
from modelworks.core.source import Source
from modelworks.engine.data.open import source_for
from modelworks.engine.recipe import Data, Recipe, compose, load_tree, self_supervised

if TYPE_CHECKING:
    from modelworks.core.dataset import Dataset
    from modelworks.core.field import Field
    from modelworks.engine.data.prepare import Prepared
    from modelworks.engine.data.store import Rows


class Progress(Protocol):
    """Shows what is being done."""

    def __call__(self, what: str, done: int, of: int) -> None: ...

    def note(self, text: str) -> None:
        """What begins now."""
        ...


class Silent:
    """Shows nothing."""

    def __call__(self, what: str, done: int, of: int) -> None:
        """Nothing to show."""

    def note(self, text: str) -> None:
        """Nothing to show."""


@dataclass
class Taken:
    """What training starts from."""

    recipe: Recipe
    dataset: Dataset
    fields: dict[str, Field]
    prepared: Prepared
    cleaning: Any
    split: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    """What was left out or found odd, for the user."""

    def rows(self, split: str) -> Rows:
        """What a split is trained on or judged by."""
        from modelworks.engine.data.windows import rows_of

        assert self.recipe.task is not None
        return rows_of(self.prepared, split, self.recipe.task, self.fields)


def draft(source: Any, changes: Mapping[str, Any], *, resume: bool = False, **flags: Any) -> dict[str, Any]:
    """The recipe's tree as far as the user gave it, checked; nothing is inferred yet, torch is not imported.

    `flags`: target, task, model, name, seed; None means not given. `resume`: without a name, the last Run of this
    source is meant."""
    with lightly():
        return _draft(source, changes, flags, resume)


def _draft(source: Any, changes: Mapping[str, Any], flags: Mapping[str, Any], resume: bool) -> dict[str, Any]:
    origin = "command line"
    if isinstance(source, (str, Path)) and str(source).lower().endswith((".yaml", ".yml")):
        path = Path(source)
        tree, origin = load_tree(path), str(path)
        tree.setdefault("name", path.stem)
    elif isinstance(source, Recipe):
        tree = to_tree(source) | {"data": source.data}
    else:
        tree = {"data": {"source": source_for(source)}}
    flags = {key: value for key, value in flags.items() if value is not None}
    tree = compose(tree, flags, changes)
    if tree.get("init") and not (tree.get("task") or tree.get("target") or resume):
        from modelworks.engine.exchange.origin import task_of

        tree["task"] = task_of(str(tree["init"]))
    checked = Recipe.check(tree, origin)
    tree["data"] = checked.data
    if self_supervised(tree):
        tree["data"] = checked.data.model_copy(update={"source": checked.data.source.as_text()})
    if not tree.get("name"):
        tree["name"] = _name(checked, resume)
    elif not re.fullmatch(r"[\w\-][\w.\-]*", str(tree["name"])):
        raise UserError(f"name {tree['name']!r}: a name is letters, digits, '-', '_' and '.'")
    return tree


def take_in(
    tree: Mapping[str, Any],
    run: RunFolder | None = None,
    progress: Progress | None = None,
    say: Callable[[Dataset], None] | None = None,
) -> Taken:
    """Read, infer, clean, split, fit and encode. `run`: go on with the recipe and the fitted fields of this Run.

    `say` is called with the split dataset before the long work on it begins."""
    from modelworks.core.dataset import Dataset
    from modelworks.engine import infer
    from modelworks.engine.data.clean import clean
    from modelworks.engine.data.joined import joined, parts_of
    from modelworks.engine.data.prepare import fit, prepare
    from modelworks.engine.data.split import split
    from modelworks.engine.data.windows import rows_of
    from modelworks.engine.exchange import origin, transfer
    from modelworks.engine.train.regime import resolve

    progress = progress or Silent()
    source = f"{run.path}/recipe.yaml" if run else "recipe"
    data = _whole(Recipe.check(tree, source).data)
    plain: dict[str, Any] = {key: data if key == "data" else to_tree(value) for key, value in tree.items()}
    progress.note("reading")
    dataset = Dataset.ingest(data.source, name=shown(data.source))
    notes = [dataset.notice] if dataset.notice else []
    if run is None:
        plain = infer.proposed(plain, dataset.columns)
    dataset = joined(dataset, parts_of(plain.get("fields") or {}))
    progress.note("profiling columns")
    start, adopted = None, {}
    if run is None and plain.get("init"):
        start = origin.read(str(plain["init"]))
        plain = transfer.settings(plain, start)
    if run is None:
        given = dict(plain.get("fields") or {})
        plain, left_out = infer.fields(plain, dataset)
        notes += left_out
        if start is not None:
            plain, adopted, left_out = transfer.fields(plain, given, start, dataset.profile())
            notes += left_out
    target = plain.get("target", "")
    columns = {name: entry.get("column") or name for name, entry in plain["fields"].items()}
    inputs, column = [c for name, c in columns.items() if name != target], columns.get(target)
    if self_supervised(plain):  # the text is what goes in, and no row lacks an answer
        inputs, column = [c for name, c in columns.items() if name == target], None
    categorical = plain["fields"][target]["kind"] == "category" if target else None
    progress.note("looking for duplicates, splitting")
    dataset, cleaning = clean(dataset, data.clean, column, inputs)
    dataset, split_notes = split(dataset, data.split, column, inputs, int(plain.get("seed", 0)), categorical)
    if say is not None:
        say(dataset)
    if run is not None:
        before = run.json("data.json").get("hashes", {}).get("source")
        if before and before != dataset.fingerprint:
            raise UserError(
                f"{run.path}: the data has changed since this Run began", "train anew under another --name"
            )
        fitted = run.fields()
    else:
        wanted = Recipe.check({**plain, "task": None, "model": None}, "inferred recipe").fields
        fitted = fit({**wanted, **adopted}, dataset, progress)
        plain = infer.architecture(plain, fitted, dataset.count("train"))
    prepared = prepare(dataset, fitted, progress=progress)
    recipe = Recipe.check(plain, source)
    assert recipe.model is not None
    if run is None:
        assert recipe.task is not None
        rows = len(rows_of(prepared, "train", recipe.task, fitted))
        suggested = merge(recipe.model.regime(rows), recipe.task.regime(rows))
        if start is not None:
            fine = transfer.regime(recipe.model, recipe.task, recipe.train.adapter is not None)
            suggested = merge(suggested, fine)
        recipe = recipe.but(train=resolve(dict(plain.get("train") or {}), suggested, rows))
    return Taken(recipe, dataset, fitted, prepared, cleaning, dict(split_notes), notes)


def _whole(data: Data) -> Data:
    """The same data, with a source that was read for more than its settings."""
    held = data.source
    kind = find(Source, held.kind)
    return data.but(source=kind(**{name: getattr(held, name) for name in kind.model_fields}))


def shown(source: Any) -> str:
    """What to call a source: its path or name, else its kind."""
    tree = to_tree(source)
    return str(tree.get("path") or tree.get("name") or tree["kind"])


def _name(recipe: Recipe, resume: bool) -> str:
    """A name from the source's, with a number when that is taken; to resume, the last one that is."""
    base = re.sub(r"[^\w\-]+", "-", Path(shown(recipe.data.source)).name.split(".")[0]).strip("-") or "run"
    number = 1
    while (RUNS / (base if number == 1 else f"{base}-{number}")).exists():
        number += 1
    if resume and number > 1:
        number -= 1
    return base if number == 1 else f"{base}-{number}"
