"""Resume: what is asked for now beside the recipe that a Run began with. All differences are found, none is ignored.

    tree, notes = resumed(run, draft(...), changes)

What is left out is as the Run has it. What can change safely while a Run goes on (limits, logging, checkpoints) is
taken and told; everything else would make another model than the one half trained, and is refused all at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelworks.core.errors import Problem, RecipeError
from modelworks.core.run import RunFolder
from modelworks.core.settings import Kinded, Settings, merge, to_tree
from modelworks.engine import usercode
from modelworks.engine.recipe import IGNORE, STAND_IN, Recipe, compose, load_tree

LIMITS = ("train.epochs", "train.steps", "train.minutes")
"""The schedule of the learning rate ends with these."""
ROUNDING = ("train.threads", "train.device", "train.micro_batch", "evaluate.batch_size")
"""These add the same numbers in another order."""
SAFE = (
    *LIMITS, *ROUNDING, "train.patience", "train.target_metric", "train.target_loss", "train.log_every",
    "train.checkpoint_seconds", "train.checkpoint_steps", "train.keep_checkpoints", "train.tensorboard",
    "train.guard", "evaluate.bootstrap", "evaluate.gallery",
)  # fmt: skip
"""What may change when a Run is resumed, with all below."""
REMEDY = "leave it out, or train under another --name"
_NOTHING = object()

Difference = tuple[str, Any, Any]
"""(dotted path, what the Run has, what is asked for)."""


def resumed(
    run: RunFolder, tree: Mapping[str, Any], changes: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The stored recipe with what may change of `tree`, a checked draft; and a note for each change.

    `changes`: settings given beside a recipe file; among them `null` means none, in a file "decide for me"."""
    usercode.check(run)
    stored = load_tree(run.path / "recipe.yaml")
    asked, found = _asked(tree, changes, stored)
    # The data may be gone, and what was in memory is in no recipe: sources are compared by themselves.
    origin = f"{run.path}/recipe.yaml"
    before, after = (
        to_tree(Recipe.check({**each, "data": {**each["data"], **STAND_IN}}, origin))
        for each in (stored, compose(stored, asked))
    )
    found += differences(before, after)
    source, moved = _source(run, tree["data"].source, stored["data"]["source"])
    found += moved
    refused = [entry for entry in found if not _safe(entry[0])]
    if refused:
        head = Problem("", f"{run.path}: a Run goes on with its own recipe, and what is asked for differs")
        raise RecipeError(
            [head]
            + [
                Problem(where, f"the Run has {_told(old)}, asked for is {_told(new)}", REMEDY)
                for where, old, new in refused
            ]
        )
    taken = {
        part: {name: value for name, value in after[part].items() if _safe(f"{part}.{name}")}
        for part in ("train", "evaluate")
    }
    changed = compose(stored, taken) if found else dict(stored)
    if source is not None:
        changed["data"] = {**changed["data"], "source": source}
    ending = before["train"]["schedule"].get("kind") not in (None, "constant", "plateau")
    return changed, [_note(*entry, ending) for entry in found]


def differences(stored: Any, asked: Any, path: str = "") -> list[Difference]:
    """Where two trees of settings differ. Of two kinds only the kinds are told: their settings are others."""
    if not (isinstance(stored, Mapping) and isinstance(asked, Mapping)):
        return [] if stored == asked else [(path, stored, asked)]
    kinds = stored.get("kind"), asked.get("kind")
    if kinds[0] != kinds[1] and not _same_file(*kinds):
        return [(path, *kinds)]
    found: list[Difference] = []
    for name in [n for n in {**stored, **asked} if n != "kind"]:
        below = f"{path}.{name}" if path else name
        found += differences(stored.get(name, _NOTHING), asked.get(name, _NOTHING), below)
    return found


def _asked(
    tree: Mapping[str, Any], changes: Mapping[str, Any], stored: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Difference]]:
    """What the user wrote, in the form in which a Run stores it; and the differences that this form cannot hold."""
    asked = {key: value for key, value in tree.items() if key not in ("name", "version", "data")}
    asked["data"] = {key: value for key, value in _given(tree["data"]).items() if key != "source"}
    train, flags = dict(tree.get("train") or {}), changes.get("train") or {}
    if train.get("find_lr"):  # measured when the Run began; its recipe holds what came of it
        del train["find_lr"]
        if isinstance(train.get("optimizer"), Mapping):
            train["optimizer"] = {k: v for k, v in train["optimizer"].items() if k != "lr"}
    if train.get("batch_size") == "auto":
        del train["batch_size"]
    asked["train"] = {name: value for name, value in train.items() if value is not None or name in flags}
    for part in ("task", "model"):  # a kind alone: its settings are as the Run has them
        if isinstance(asked.get(part), str):
            asked[part] = {"kind": asked[part]}
    fields: Mapping[str, Any] = stored.get("fields") or {}
    columns = {entry.get("column"): name for name, entry in fields.items() if isinstance(entry, Mapping)}

    def own(name: Any) -> Any:
        """The Run's name for a field: a column may have had to be called otherwise."""
        return name if name in fields else columns.get(name, name)

    found: list[Difference] = []
    asked["fields"] = {}
    for name, entry in (tree.get("fields") or {}).items():
        if own(name) in fields and entry not in IGNORE:
            asked["fields"][own(name)] = entry
        elif own(name) in fields:
            found.append((f"fields.{name}", fields[own(name)].get("kind"), "ignore"))
        elif entry not in IGNORE and entry:
            found.append((f"fields.{name}", "ignore", entry))
    if tree.get("target"):
        asked["target"] = own(tree["target"])
    else:
        asked.pop("target", None)
    if isinstance(tree.get("task"), Mapping) and tree["task"].get("target"):
        asked["task"] = {**tree["task"], "target": own(tree["task"]["target"])}
    return {name: value for name, value in asked.items() if value not in (None, {})}, found


def _given(value: Any) -> Any:
    """Settings as plain data without the defaults that nobody wrote."""
    if isinstance(value, Settings):
        tree: dict[str, Any] = {"kind": value.kind} if isinstance(value, Kinded) else {}
        return tree | {name: _given(getattr(value, name)) for name in sorted(value.model_fields_set)}
    return to_tree(value)


def _source(run: RunFolder, asked: Any, stored: Any) -> tuple[Any, list[Difference]]:
    """The source to read where it is not to be made from the stored recipe; and how it differs, if it does.

    Rows elsewhere are welcome where they are the same ones: files are moved, and tables in memory given again."""
    merged = merge(stored, _given(asked))
    apart = differences(_placed(stored), _placed(merged), "data.source")
    if not apart:
        return (asked if "data" in type(asked).model_fields else None), []
    try:
        same = type(asked)(**{name: merged[name] for name in type(asked).model_fields if name in merged})
    except RecipeError:  # a table in memory is no setting
        same = asked
    if same.fingerprint() == run.json("data.json").get("hashes", {}).get("source"):
        return same, []
    return None, apart


def _placed(tree: Any) -> Any:
    """A source's settings with its path from the root, so that `a.csv` and `./a.csv` are one."""
    if isinstance(tree, Mapping) and isinstance(tree.get("path"), str):
        return {**tree, "path": str(Path(tree["path"]).expanduser().resolve())}
    return tree


def _same_file(*kinds: Any) -> bool:
    """Whether two kinds are one user's own file."""
    paths = [Path(kind).resolve() for kind in kinds if isinstance(kind, str) and kind.endswith(".py")]
    return len(paths) == 2 and paths[0] == paths[1]


def _safe(path: str) -> bool:
    return any(path == safe or path.startswith(f"{safe}.") for safe in SAFE)


def _note(path: str, old: Any, new: Any, ending: bool) -> str:
    text = f"{path}: {_told(old)} → {_told(new)}"
    if path in LIMITS and ending:
        text += "; the learning rate now falls towards the new end"
    if path in ROUNDING:
        text += "; sums are added in another order from here on, so the last digits are not those of one go"
    return text


def _told(value: Any) -> str:
    if value is _NOTHING or value is None:
        return "none"
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
