"""Describe: what a served model takes and gives, from its fitted fields: for /models, the playground and OIP.

metadata(predictor, run, forms)
{"kind": "rows", "task": "classify", "metric": {"accuracy": 0.98}, "inputs": [{"name": "age", "kind": "number", …}], …}
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from modelworks.core.errors import UserError
from modelworks.core.field import Field
from modelworks.core.run import RunFolder
from modelworks.engine.predictor import Predictor
from modelworks.serving.bodies import Form

CHOICES = 1000
"""Most choices of a category that are listed."""


def form_of(field: Field) -> Form:
    """What a cell of this field is made of."""
    if field.kind in ("image", "audio"):
        return field.kind
    return "text" if field.kind == "text" else "value"


def metadata(predictor: Predictor, run: RunFolder, forms: Mapping[str, Form]) -> dict[str, Any]:
    """All that the front tells of a model, but `outputs`, which the first answer shows."""
    evaluation = run.evaluation()
    audit = {column.get("name"): column for column in run.json("data.json").get("columns", [])}
    inputs = [
        _input(field.column or name, field, audit.get(field.column or name, {}))
        for name, field in predictor.inputs.items()
    ]
    return {
        "kind": "rows",
        "task": predictor.task.kind,
        "target": predictor.task.target,
        "metric": _metric(evaluation),
        "inputs": inputs,
        "slots": 2,
    }


def _metric(evaluation: dict[str, Any]) -> dict[str, Any]:
    """The primary metric of the split that was kept for the end."""
    name = evaluation.get("primary", "")
    for split in ("test", "valid"):
        value = ((evaluation.get("splits") or {}).get(split) or {}).get(name)
        if isinstance(value, dict):
            return {"name": name, "split": split, **{key: value.get(key) for key in ("value", "low", "high")}}
    return {"name": name}


def _input(column: str, field: Field, audit: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"name": column, "kind": field.kind, "missing_allowed": _takes_missing(field)}
    layout = field.layout
    if field.kind == "category":
        found["choices"] = [value for value in field.decode(np.arange(layout.size)) if value is not None][
            :CHOICES
        ]
    elif field.kind == "image":
        channels, height, width = layout.shape
        found |= {"height": height, "width": width, "channels": channels}
    elif field.kind == "words":
        found["cut"] = field.state["cut"]
    elif field.kind == "audio":
        found |= {"rate": field.state.get("rate"), "seconds": field.state["length"] / field.state["rate"]}
    if isinstance(audit.get("minimum"), (int, float)) and field.kind == "number":
        found |= {"minimum": audit["minimum"], "maximum": audit["maximum"]}
    examples = audit.get("examples") or []
    found["example"] = _example(found, examples)
    return found


def _takes_missing(field: Field) -> bool:
    """Whether a row is answered that has no value here: tried, since each kind has a policy of its own."""
    try:
        return not field.encode(pa.nulls(1, pa.string())).bad
    except UserError:
        return False


def _example(found: dict[str, Any], examples: list[Any]) -> Any:
    kind = found["kind"]
    if kind == "image":
        return base64.b64encode(_picture(found["height"], found["width"], found["channels"])).decode()
    if kind == "audio":
        return base64.b64encode(_silence(int(found["rate"] or 8000))).decode()
    first = next((example for example in examples if example not in (None, "")), None)
    if kind == "number":
        try:
            return float(first) if first is not None and math.isfinite(float(first)) else 0.0
        except (TypeError, ValueError):
            return 0.0
    if kind == "category":
        choices = found.get("choices") or [""]
        return first if first in choices else choices[0]
    return first if first is not None else "example"


def _picture(height: int, width: int, channels: int) -> bytes:
    from PIL import Image

    shade = np.linspace(0, 255, width, dtype=np.uint8)[None].repeat(height, 0)
    file = io.BytesIO()
    Image.fromarray(shade if channels == 1 else np.stack([shade] * 3, -1)).save(file, "PNG")
    return file.getvalue()


def _silence(rate: int) -> bytes:
    import wave

    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(b"\0\0" * (rate // 4))
    return file.getvalue()


def example(described: Mapping[str, Any]) -> dict[str, Any]:
    """A row that the model answers."""
    return {found["name"]: found["example"] for found in described["inputs"]}


def outputs(first: Mapping[str, Any], predictor: Predictor) -> list[dict[str, Any]]:
    """What an answer holds: `prediction` and `probabilities`, with their types as OIP names them."""
    value = first.get("prediction")
    datatype, shape = "BYTES", [-1]
    if isinstance(value, (bool, np.bool_)):
        datatype = "BOOL"
    elif isinstance(value, (int, np.integer)):
        datatype = "INT64"
    elif isinstance(value, (float, np.floating)):
        datatype = "FP64"
    elif _vector(value):
        datatype, shape = "FP32", [-1, len(value)]  # type: ignore[arg-type]
    found: list[dict[str, Any]] = [{"name": "prediction", "datatype": datatype, "shape": shape}]
    if probabilities := first.get("probabilities"):
        found.append(
            {
                "name": "probabilities",
                "datatype": "FP32",
                "shape": [-1, len(probabilities)],
                "labels": list(map(str, probabilities)),
            }
        )
    return found


def _vector(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind == "f"
    return isinstance(value, list) and len(value) > 1 and all(isinstance(each, float) for each in value)


def as_text(value: Any) -> str:
    """A prediction as OIP's BYTES tell it: a text is itself, anything else its JSON."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
