"""Ready: what can write text, loaded by its name: a Run, a Hugging Face folder or a GGUF file.

network, field = ready("runs/poet")
network, field = ready("SmolLM2-135M-Instruct.Q4_1.gguf")
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelworks.core.errors import UserError
from modelworks.core.field import Field
from modelworks.core.kinds import find
from modelworks.core.model import Model
from modelworks.core.run import RUNS, RunFolder
from modelworks.core.settings import read as read_settings


def is_foreign(name: str | Path) -> bool:
    """Whether a name is a model of others; Runs come first."""
    path = Path(name).expanduser()
    if any((place / "recipe.yaml").is_file() for place in (path, RUNS / str(name))):
        return False
    return (path / "config.json").is_file() or (path.suffix == ".gguf" and path.is_file())


def ready(name: str | Path) -> tuple[Any, Field]:
    """(network, the field of its texts)."""
    from modelworks.engine.exchange import origin, transfer
    from modelworks.engine.network import build
    from modelworks.engine.predictor import Predictor
    from modelworks.engine.unfilled import Unfilled

    if not is_foreign(name):
        predictor = Predictor.load(RunFolder.find(name))
        field = predictor.fields[predictor.task.target]
        if getattr(predictor.task, "documents", False):  # it has only seen texts that an end token begins
            field = field.with_state({**field.state, "begin": field.state["end"]})
        return predictor.network, field
    start = origin.read(str(name))
    if start.task.features != "next":
        raise UserError(f"{name}: does not generate text: its task is {start.task.kind}")
    settings = {key: value for key, value in start.model.items() if key != "kind"}
    model = read_settings(find(Model, start.model["kind"]), settings, str(name))
    with Unfilled():
        network = build(model, start.task, start.fields, 0)
    report = transfer.load(network, start.task, start.fields, start)
    if lacking := {*report.new, *report.unfit}.intersection(dict(network.named_parameters())):
        raise UserError(f"{name}: has no tensor for {min(lacking)!r}, which it needs to write")
    return network.eval(), start.fields[start.task.target]
