"""Infer: what the recipe left out, from the data. Intent, never magic: all of it is printed, stored and editable.

Two moments: `fields` before anything is fitted (each column's modality from its profile), `architecture` after
(task and model from the fitted layouts). Kinds propose themselves through `recognise`; nothing here names one,
so a new kind takes part without a change.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from modelworks.core.dataset import Dataset
from modelworks.core.errors import Problem, RecipeError, UserError, did_you_mean
from modelworks.core.field import Field, Layout
from modelworks.core.kinds import every, find
from modelworks.core.model import Features, Model
from modelworks.core.profile import ColumnProfile
from modelworks.core.settings import merge
from modelworks.core.task import Task
from modelworks.engine.data.given import names_a_split
from modelworks.engine.recipe import IGNORE

SURE = 0.1
"""A column that no field recognises better than this is left out, and said so."""
_USUAL_TARGETS = ("label", "target", "class", "y")


def fields(tree: Mapping[str, Any], dataset: Dataset) -> tuple[dict[str, Any], list[str]]:
    """The recipe's tree with `target`, `task.target` and every field filled in; and notes of what was left out."""
    tree, notes = dict(tree), []
    profiles = dataset.profile()
    task = tree.get("task")
    task = {"kind": task} if isinstance(task, str) else dict(task) if isinstance(task, Mapping) else {}
    task_kind = find(Task, task["kind"]) if task.get("kind") else None
    target = tree.get("target") or task.get("target") or _target(dataset, task_kind)
    if target and task.get("target") not in (None, "", target):
        said = f"is {task['target']!r}, and target is {target!r}"
        raise RecipeError([Problem("task.target", said, "leave one of them out")])
    if target and target not in profiles and target not in (tree.get("fields") or {}):
        raise UserError(f"{dataset.name}: no column {target!r} to learn; {did_you_mean(target, profiles)}")
    given = dict(tree.get("fields") or {})
    unknown = [
        n
        for n, f in given.items()
        if f not in IGNORE
        and n not in profiles
        and not (isinstance(f, Mapping) and f.get("column") in profiles)
    ]
    if unknown:
        raise RecipeError(
            [
                Problem(f"fields.{n}", f"the data has no column {n!r}", did_you_mean(n, profiles))
                for n in unknown
            ]
        )
    found: dict[str, Any] = {}
    alone = task_kind is not None and task_kind.self_supervised
    for name in [*profiles, *(n for n in given if n not in profiles)]:
        entry = given.get(name, {})
        if alone and name != target and name not in given:
            continue
        if name in given and entry in IGNORE:
            continue
        if name == "split" and name not in given and name != target and names_a_split(profiles[name]):
            continue  # given splits are not an input
        entry = {"kind": entry} if isinstance(entry, str) else dict(entry)
        profile = profiles[entry.get("column") or name]
        kind = entry.get("kind")
        if kind is None:
            wanted = task_kind.target_kind if task_kind is not None and name == target else ""
            kind, score = (wanted, 1.0) if wanted else recognise(profile, name == target)
            if score <= SURE and name != target:
                notes.append(f"column {name!r} is left out: {_why(profile)}")
                continue
        proposed = find(Field, kind).propose(profile, name == target)
        found[name] = merge({"kind": kind, **proposed}, {**entry, "kind": kind})
    if (
        task_kind is not None
        and not task_kind.target_kind
        and target
        and "target" not in task
        and not tree.get("target")
    ):
        target = ""
    renamed = {name: _unreserved(name, {*profiles, *found}) for name in found}
    for name, new in renamed.items():
        if new != name:
            found[name].setdefault("column", None)
            found[name]["column"] = found[name]["column"] or name
            notes.append(
                f"column {name!r} is called {new!r} here: batches hold something else under its name"
            )
    found = {renamed[name]: entry for name, entry in found.items()}
    target = renamed.get(target, target)
    if target and target not in found:
        raise RecipeError([Problem(f"fields.{target}", "is ignored, and it is what is to be learned")])
    if not alone and not [name for name in found if name != target]:
        raise UserError(f"{dataset.name}: no column is left to learn from", "name one under fields:")
    tree["fields"], tree["target"] = found, target or ""
    if task or target:
        tree["task"] = {**task, "target": target or ""}
    return tree, notes


def proposed(tree: Mapping[str, Any], columns: Collection[str]) -> dict[str, Any]:
    """The tree with target and fields as its task proposes them for these columns, where it says no target."""
    task = tree.get("task")
    task = {"kind": task} if isinstance(task, str) else dict(task or {})
    if not task.get("kind") or tree.get("target") or task.get("target"):
        return dict(tree)
    return merge(find(Task, task["kind"]).propose(list(columns)), tree)


def _unreserved(name: str, taken: Collection[str]) -> str:
    """A field's name that nothing else in a batch goes by: `row` numbers and the `.length` of ragged fields."""
    while name == "row" or (name.endswith(".length") and name.removesuffix(".length") in taken):
        name += "_"
        while name in taken:
            name += "_"
    return name


def recognise(profile: ColumnProfile, target: bool = False) -> tuple[str, float]:
    """The kind of field that a column is, and how sure we are."""
    scores = {name: kind.recognise(profile) for name, kind in every(Field).items()}
    if target and profile.present:
        # What is learned: a few whole numbers or words are classes, other numbers are amounts.
        few = not profile.many and profile.distinct <= max(2, min(20, profile.present // 5))
        numeric = profile.share(profile.numeric) > 0.95
        if "category" in scores and few and (not numeric or profile.share(profile.integer) > 0.99):
            scores["category"] = 1.0
        elif "number" in scores and numeric:
            scores["number"] = 1.0
        elif "category" in scores and scores.get("tags", 0) < 0.5 and not profile.many:
            scores["category"] = 0.9
    best = max(scores, key=lambda name: scores[name])
    return best, scores[best]


def architecture(tree: Mapping[str, Any], fitted: Mapping[str, Field], rows: int) -> dict[str, Any]:
    """The tree with task and model filled in, from the fitted layouts."""
    tree = dict(tree)
    target = tree.get("target", "")
    task = dict(tree.get("task") or {})
    if "kind" not in task:
        layout = fitted[target].layout if target else None
        scores = {name: kind.recognise(layout) for name, kind in every(Task).items()}
        best = max(scores, key=lambda name: scores[name])
        if scores[best] <= 0:
            raise UserError(
                f"no task fits the target {target!r} ({fitted[target].kind if target else 'none'})",
                "say one: --task KIND",
            )
        task = {"kind": best, **task}
    tree["task"] = {**task, "target": target}
    kind = find(Task, task["kind"])
    learns = kind(target=target) if target else None
    read = learns.inputs(fitted) if learns is not None else fitted
    forms = {name: field.layout.form for name, field in read.items()}
    tree["model"] = _model(tree.get("model"), kind, forms, rows)
    return tree


def _model(given: Any, task: type[Task], forms: Mapping[str, str], rows: int) -> dict[str, Any]:
    given = {"kind": given} if isinstance(given, str) else dict(given or {})
    suited = task.architecture()
    if suited and given.get("kind", suited["kind"]) == suited["kind"]:
        named = any(given.get(name) for name in find(Model, suited["kind"]).presets)
        return {"kind": suited["kind"], **given} if named else {**suited, **given}
    if "kind" not in given:
        given = {"kind": default_model(forms, rows, task.features), **given}
    return given


def default_model(forms: Mapping[str, str], rows: int, features: Features = "row") -> str:
    """The architecture that recognises these inputs best, of those that give what the task needs."""
    able = {name: kind for name, kind in every(Model).items() if features in kind.gives}
    scores = {name: kind.recognise(forms, rows) for name, kind in able.items()}
    best = max(scores, key=lambda name: scores[name])
    if scores[best] <= 0:
        listed = ", ".join(f"{name} ({form})" for name, form in forms.items())
        raise UserError(f"no model takes these inputs: {listed}", "say one: --model KIND")
    return best


def _target(dataset: Dataset, task: type[Task] | None) -> str:
    if task is not None and not task.target_kind and task.recognise(None) == 0 and not _wants_target(task):
        return ""
    if task is not None and task.self_supervised:
        return _text(dataset)
    for name in _USUAL_TARGETS:
        if name in dataset.columns:
            return name
    raise UserError(
        f"{dataset.name}: which column is to be learned?",
        f"--target COLUMN, one of: {', '.join(dataset.columns[:30])}",
    )


def _text(dataset: Dataset) -> str:
    """The column of text: `text`, or the one with the longest cells."""
    profiles = dataset.profile()
    if "text" in profiles:
        return "text"
    lengths = {name: p.mean_length for name, p in profiles.items() if "string" in p.type and p.present}
    if not lengths:
        raise UserError(f"{dataset.name}: has no column of text", "name one: --target COLUMN")
    return max(lengths, key=lambda name: lengths[name])


def _wants_target(task: type[Task]) -> bool:
    return any(task.recognise(Layout(form, (1,), 2)) > 0 for form in ("index", "vector", "multihot"))


def _why(profile: ColumnProfile) -> str:
    if not profile.present:
        return "it is empty"
    if profile.distinct == 1 and not profile.many:
        return "it is constant"
    if profile.increasing or profile.distinct >= 0.95 * profile.present or profile.many:
        return "it looks like an id"
    return "no kind of field recognises it"
