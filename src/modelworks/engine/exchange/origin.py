"""Origin: what training starts from: another Run, or a model in Hugging Face's form, with all that it has learned.

start = read("runs/gpt")
start.model, start.task, start.fields, start.weights()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.core.errors import UserError
from modelworks.core.field import Field
from modelworks.core.kinds import find
from modelworks.core.run import RUNS, RunFolder
from modelworks.core.settings import read as read_settings
from modelworks.core.settings import to_tree
from modelworks.core.task import Task
from modelworks.engine.recipe import load_tree, of_run

if TYPE_CHECKING:
    from torch import Tensor

    from modelworks.engine.exchange.foreign import Foreign

TEXT = "text"
"""What the input of a foreign model is called."""
ENCODERS = ("bert",)
"""Kinds of foreign models that see a text as a whole."""


@dataclass
class Start:
    """What training starts from."""

    where: str
    model: dict[str, Any]
    """Its recipe's `model:`."""
    task: Task
    fields: dict[str, Field]
    """Fitted."""
    weights: Callable[[], dict[str, Tensor]]
    """Tensors by the names that our own network gives them."""

    @property
    def inputs(self) -> dict[str, Field]:
        return self.task.inputs(self.fields)


def read(init: str) -> Start:
    """A complete Run by its name or path, or a Hugging Face folder."""
    if _run(init) is None:
        return _foreign(init)
    run = RunFolder.find(init)
    if not run.complete:
        raise UserError(f"init: {run.path} is unfinished", f"modelworks train --resume --name {run.name}")
    from modelworks.engine import usercode

    run.verify()
    usercode.check(run)
    recipe = of_run(run.recipe_tree(), str(run.path / "recipe.yaml"))
    assert recipe.task is not None
    return Start(
        str(run.path),
        to_tree(_model(run, recipe.model)),
        recipe.task,
        run.fields(),
        lambda: _weights(run),
    )


def _model(run: RunFolder, model: Any) -> Any:
    """A Run's model, as it is where it was pruned."""
    if not (run.path / "compression.json").exists():
        return model
    from modelworks.engine.exchange.shapes import as_built
    from modelworks.engine.predictor import Predictor

    return as_built(model, Predictor.load(run).network)


def _weights(run: RunFolder) -> dict[str, Tensor]:
    """A Run's tensors, float32 also where it holds them in fewer bits."""
    from modelworks.engine.checkpoint import read_tensors

    if not (run.path / "compression.json").exists():
        return read_tensors(run.path / "model.safetensors")
    from modelworks.engine.predictor import Predictor

    return Predictor.load(run).network.state_dict()


def _run(init: str) -> Path | None:
    found = [path for path in (Path(init), RUNS / init) if (path / "recipe.yaml").is_file()]
    return found[0] if found else None


def _foreign(init: str) -> Start:
    path = Path(init.removeprefix("hf:")).expanduser()
    if not ((path / "config.json").is_file() or (path.is_file() and path.suffix == ".gguf")):
        raise UserError(
            f"init: {init!r} is neither a Run nor a folder with a config.json",
            "name a Run, or a model's folder",
        )
    from modelworks.engine.exchange.foreign import read as read_foreign

    found = read_foreign(path)
    if found.tokenizer is None:
        raise UserError(f"init: {path} has no tokenizer.json", "put the model's own beside its weights")
    # An encoder's folder may hold its body alone; what it was trained for is told by its kind.
    told = {**_but_kind(found.task or {}), "target": TEXT}
    kind = find(Task, (found.task or {}).get("kind") or ("mask" if found.kind in ENCODERS else "language"))
    if "softcap" in kind.model_fields:
        told.setdefault("softcap", None)  # ours by default, and not theirs
    task = read_settings(kind, told, str(path))
    file = path / "tokenizer.json" if path.is_dir() else path
    said = {"tokens": "file", "tokenizer": file, "length": found.length}
    field = read_settings(find(Field, "corpus"), said, str(path))
    state = _tokenizer_state(found, str(path))
    model = {"kind": "transformer", **found.model}
    return Start(str(path), model, task, {TEXT: field.with_state(state)}, lambda: found.tensors)


def _tokenizer_state(found: Foreign, where: str) -> dict[str, Any]:
    """A corpus's state, of a foreign model's tokenizer."""
    import numpy as np

    from modelworks.fields._tokenizers import Subwords

    assert found.tokenizer is not None
    tool = Subwords(found.tokenizer)
    if tool.size > found.size:
        raise UserError(f"init: {where}: the tokenizer has {tool.size:,} tokens, the model {found.size:,}")
    # A table may have more rows than there are tokens, for the sake of round numbers.
    sizes = np.zeros(found.size, np.int32)
    sizes[: tool.size] = tool.bytes()
    named: dict[str, str] = {}
    for key in ("bos_token", "eos_token"):
        name = found.tokens.get(key)
        name = name.get("content") if isinstance(name, dict) else name
        if isinstance(name, str):
            named[key] = name
    state = {
        "tokenizer": found.tokenizer,
        "specials": tool.specials,
        "bytes": sizes,
        "end": tool.specials.get(named.get("eos_token", ""), -1),
        "begin": _begin(found.tokens.get("add_bos_token"), named, tool),
        "named": named,
    }
    template = found.tokens.get("chat_template")
    return {**state, "template": template} if isinstance(template, str) else state


def _begin(told: Any, named: Mapping[str, str], tool: Any) -> int:
    """The token that the model wants before a text: what its settings say, else what its tokenizer does; −1: none."""
    if isinstance(told, bool):
        return tool.specials.get(named.get("bos_token", ""), -1) if told else -1
    return tool.begin()


def _but_kind(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tree.items() if name != "kind"}


def task_of(init: str) -> dict[str, Any]:
    """The source's task, for a recipe that says neither task nor target: it goes on learning the same.

    A task that learns from a column alone finds that column anew."""
    path = _run(init)
    task = (
        to_tree(read(init).task) if path is None else dict(load_tree(path / "recipe.yaml").get("task") or {})
    )
    if task.get("kind") and find(Task, task["kind"]).self_supervised:
        task.pop("target", None)
    return task
