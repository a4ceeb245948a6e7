"""Transfer: training that starts from what another Run, or a Hugging Face folder, has learned.

    modelworks train reviews.csv --target stars --init runs/gpt

What the recipe does not say is the source's: the architecture and its settings, and the fitted field (tokenizer) of
what goes in. Weights are copied by name; whatever is new, longer, left over or does not fit is told and stored in
the Run's init.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelworks.core.errors import Problem, RecipeError, UserError
from modelworks.core.field import Field
from modelworks.core.kinds import find
from modelworks.core.model import Model
from modelworks.core.settings import merge, to_tree
from modelworks.core.task import Task
from modelworks.engine.exchange.origin import Start

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelworks.core.profile import ColumnProfile
    from modelworks.engine.network import Network

PLACE = ("column", "parts", "answers")
"""Settings that say where a field's values are, which the source's own data says nothing of."""
OWN = (*PLACE, "length", "cut", "template")
"""Settings of an adopted field that a recipe may still say: they do not change what a token is."""
LISTED = 6


@dataclass
class Report:
    """What was copied into a network of `total` tensors."""

    source: str
    total: int
    copied: int = 0
    new: list[str] = field(default_factory=list)
    """Not in the source, or of another task."""
    resized: dict[str, list[int]] = field(default_factory=dict)
    """Table → [rows copied, rows here]."""
    unfit: dict[str, list[list[int]]] = field(default_factory=dict)
    """Of another shape: [shape there, shape here]; as new."""
    unused: list[str] = field(default_factory=list)
    """In the source alone."""

    def __str__(self) -> str:
        resized = [f"{name} ({rows:,} of {of:,} rows)" for name, (rows, of) in self.resized.items()]
        unfit = [
            f"{name} ({_shape(there)} there, {_shape(here)} here)"
            for name, (there, here) in self.unfit.items()
        ]
        parts = [f"{self.copied} of {self.total} tensors from {self.source}"]
        for word, names in (("new", self.new), ("resized", resized), ("does not fit, so new", unfit),
                            ("left over there", self.unused)):  # fmt: skip
            if names:
                more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
                parts.append(f"{word}: {', '.join(names[:LISTED])}{more}")
        return "; ".join(parts)


# ------------------------------------------------------------------------------------------- settings and fields
def settings(tree: Mapping[str, Any], start: Start) -> dict[str, Any]:
    """The tree with the source's architecture, and its settings of a like task, where the recipe says nothing."""
    tree = dict(tree)
    task = tree.get("task")
    task = {"kind": task} if isinstance(task, str) else dict(task or {})
    kind = find(Task, task["kind"]) if task.get("kind") else None
    if kind is not None and (
        kind.features == start.task.features == "next" or task["kind"] == start.task.kind
    ):
        shared = {name: value for name, value in to_tree(start.task).items() if name in kind.model_fields}
        tree["task"] = {**{name: value for name, value in shared.items() if name != "target"}, **task}
    model = dict(start.model)
    # What was learned looking back alone goes on so, whatever is made of it.
    back = start.task.features == "next" and (kind is None or kind.features != "next")
    if back and "causal" in find(Model, model["kind"]).model_fields:
        model["causal"] = True
    tree["model"] = merge(model, tree.get("model") or {})
    return tree


def regime(model: Model, task: Task, adapted: bool) -> dict[str, Any]:
    """`train:` for a network that has learned much already: small steps, smaller the wider it is.

    The rate is 0.04 / width: 5e-5 at BERT's 768 (Devlin et al. 2019), ten times that for adapters (Hu et al. 2021)
    and a tenth for preferences (Rafailov et al. 2023)."""
    rate = 0.04 / (getattr(model, "width", None) or 400)
    rate *= (10 if adapted else 1) * (0.1 if task.view == "pairs" else 1)
    return {
        "optimizer": {"kind": "adamw", "lr": float(f"{rate:.1e}"), "weight_decay": 0.0 if adapted else 0.01},
        "schedule": {"kind": "cosine", "warmup": 0.06},
        "clip": 1.0,
    }


def fields(
    tree: Mapping[str, Any], given: Mapping[str, Any], start: Start, profiles: Mapping[str, ColumnProfile]
) -> tuple[dict[str, Any], dict[str, Field], list[str]]:
    """The tree whose inputs are read by the source's fields; those fields, fitted; and notes of what was left out.

    `given`: the fields that the user named."""
    tree, entries, notes = dict(tree), dict(tree["fields"]), []
    task = dict(tree.get("task") or {})
    kind = find(Task, task["kind"]) if task.get("kind") else None
    alone, packed = bool(kind and kind.self_supervised), bool(kind and kind.packed)
    inputs = [name for name in entries if (name == tree["target"]) == alone]
    adopted: dict[str, Field] = {}
    for name, learned in start.inputs.items():
        chosen = _column(name, learned, inputs, entries, given, profiles) if len(start.inputs) == 1 else name
        if chosen not in inputs:
            raise UserError(
                f"init: {start.where} reads {name!r} ({learned.kind}), and the data has no such column",
                f"name it: --fields.{name}.column=COLUMN",
            )
        # What else is of the target's kind, such as rejected answers, is read in the same words.
        kind_here = entries[chosen]["kind"]
        twins = [one for one in entries if alone and one != chosen and entries[one]["kind"] == kind_here]
        for one in [chosen, *twins]:
            profile = profiles[entries[one].get("column") or one]
            adopted[one] = _adopted(one, entries[one], given.get(one), learned, profile, start, packed)
            entries[one] = to_tree(adopted[one])
    if len(start.inputs) == 1 and not alone:
        for name in [name for name in inputs if name not in adopted and name not in given]:
            del entries[name]
            notes.append(f"column {name!r} is left out: {start.where} reads one input")
    tree["fields"] = entries
    return tree, adopted, notes


def _column(
    name: str,
    learned: Field,
    inputs: list[str],
    entries: Mapping[str, Any],
    given: Mapping[str, Any],
    profiles: Mapping[str, ColumnProfile],
) -> str:
    """Which input the source's only one is."""
    named = [one for one in inputs if one in given]
    if len(named) == 1:
        return named[0]
    if name in inputs or not inputs:
        return name
    form = learned.layout.form
    of = {one: profiles[entries[one].get("column") or one] for one in inputs}
    like = [one for one, profile in of.items() if form != "tokens" or "string" in profile.type]
    return max(like, key=lambda one: of[one].mean_length, default=name)


def _adopted(
    name: str,
    entry: Mapping[str, Any],
    given: Any,
    learned: Field,
    profile: ColumnProfile,
    start: Start,
    packed: bool,
) -> Field:
    """The source's field for this column."""
    given = {"kind": given} if isinstance(given, str) else dict(given or {})
    own = type(learned)
    kind = entry["kind"]
    if learned.kind not in (kind, *find(Field, kind).adopts):
        if given.get("kind"):
            raise RecipeError(
                [
                    Problem(
                        f"fields.{name}.kind",
                        f"is {kind}, and {start.where} reads {learned.kind}",
                        "leave it out",
                    )
                ]
            )
        kind = own.lends if own.lends and own.recognise(profile) == 0 else learned.kind
    new = find(Field, kind)
    theirs = {key: value for key, value in new.inherited(learned, packed).items() if key not in PLACE}
    differ = [
        key
        for key, value in given.items()
        if key in theirs and key not in OWN and to_tree(value) != theirs[key]
    ]
    if differ:
        raise RecipeError(
            [
                Problem(f"fields.{name}.{key}", f"is {theirs[key]!r} in {start.where}", "leave it out")
                for key in differ
            ]
        )
    place = {key: entry[key] for key in PLACE if key in entry and key in new.model_fields}
    said = {**theirs, **place, **given}
    return new(**{key: value for key, value in said.items() if key != "kind"}).adopt(learned)


# ------------------------------------------------------------------------------------------- weights
def load(network: Network, task: Task, fitted: Mapping[str, Field], start: Start) -> Report:
    """Copy the source's tensors into the network, in place. Raises UserError where nothing of its body fits."""
    import torch

    theirs, ours = start.weights(), network.state_dict()
    tables = _tables(network, task, fitted, start)
    report = Report(start.where, len(ours))
    body = 0
    with torch.no_grad():
        for name, here in ours.items():
            there = theirs.get(name)
            if there is None or (name.startswith("head.") and not tables["head"]):
                report.new.append(name)
            elif there.shape == here.shape:
                here.copy_(there)
                report.copied += 1
                body += name.startswith("model.")
            elif _resizable(name, here, there, tables):
                rows = min(len(there), len(here))
                here[:rows] = there[:rows]
                if name in tables["words"]:
                    # New words begin as the average one (Hewitt 2021): neither impossible nor likely.
                    here[rows:] = there.mean(0)
                report.resized[name] = [rows, len(here)]
                report.copied += 1
                body += name.startswith("model.")
            else:
                report.unfit[name] = [list(there.shape), list(here.shape)]
    report.unused = [name for name in theirs if name not in ours or name in report.new]
    if not body:
        raise UserError(
            f"init: no weight of {start.where} fits this model: {report}",
            "leave the model's settings to it",
        )
    return report


def _resizable(name: str, here: Tensor, there: Tensor, tables: Mapping[str, Any]) -> bool:
    """Whether a table may be copied row by row: of positions, or of words to which new ones were added."""
    longer = len(here) > len(there) if here.ndim and there.ndim else False
    return (
        here.ndim == there.ndim == 2
        and here.shape[1] == there.shape[1]
        and (name in tables["positions"] or (name in tables["words"] and longer))
    )


def _tables(network: nn.Module, task: Task, fitted: Mapping[str, Field], start: Start) -> dict[str, Any]:
    """Which tensors may have other numbers of rows, which of those are of words, and whether the head is the same."""
    from torch import nn

    head = _same_words(task, fitted, start) if task.target in fitted else task.kind == start.task.kind
    words = [
        f"{name}.weight"
        for name, module in network.named_modules()
        if isinstance(module, nn.Embedding) and name.startswith("model.")
    ]
    words += [f"head.{name}" for name, _ in network.get_submodule("head").named_parameters()] if head else []
    positions = [name for name, _ in network.named_parameters() if name.endswith("table_TD")]
    return {"head": head, "words": words, "positions": positions}


def _same_words(task: Task, fitted: Mapping[str, Field], start: Start) -> bool:
    """Whether the two heads answer in the same words: the same tokens, or the same classes."""
    if task.features == start.task.features == "next":
        return True
    target = start.fields.get(start.task.target)
    return (
        task.kind == start.task.kind
        and target is not None
        and _plain(target.state) == _plain(fitted[task.target].state)
    )


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in state.items()}


def _shape(shape: list[int]) -> str:
    return "×".join(map(str, shape)) or "()"
