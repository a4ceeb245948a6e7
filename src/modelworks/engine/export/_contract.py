"""contract.json: what goes into an export and comes out, and how raw values become that: for programs without us.

tree = contract(graph, outputs, predictor, name)
proved(tree, rows, graph)                   # encodes the rows by the contract alone, compares with what is stored
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from modelworks.core.field import Field
from modelworks.engine.export import _encode
from modelworks.engine.export._graph import Graph, Port
from modelworks.engine.export._rows import Rows
from modelworks.engine.predictor import Predictor

VERSION = 1
CLOSE = 1e-5
"""Most that a number encoded by the contract may differ: it is stored as float32."""


def contract(graph: Graph, outputs: tuple[Port, ...], predictor: Predictor, name: str) -> dict[str, Any]:
    """The tree of contract.json."""
    names = {id(field): name for name, field in reversed(predictor.fields.items())}
    inputs = []
    for port in graph.inputs:
        entry: dict[str, Any] = _port(port)
        field = graph.fields.get(port.name)
        if field is not None:
            column = field.column or names.get(id(field), port.name)
            entry |= {
                "ragged": field.layout.ragged,
                "longest": field.layout.length,
                "field": _field(field, column),
            }
        inputs.append(entry)
    target = predictor.fields.get(predictor.task.target)
    return {
        "contract": VERSION,
        "name": name,
        "task": predictor.task.kind,
        "inputs": inputs,
        "outputs": [_port(port) for port in outputs],
        "target": _field(target, target.column or predictor.task.target) if target is not None else {},
        "padding": 0,
    }


def _port(port: Port) -> dict[str, Any]:
    return {"name": port.name, "dtype": port.dtype, "shape": list(port.shape)}


def _field(field: Field, column: str) -> dict[str, Any]:
    return {"kind": field.kind, "column": column, "encoding": field.contract()}


def write(folder: Path, tree: dict[str, Any]) -> None:
    """contract.json, and encode.py, which reads it."""
    text = json.dumps(tree, ensure_ascii=False, indent=1, allow_nan=False)
    (folder / "contract.json").write_text(text + "\n", "utf-8")
    (folder / "encode.py").write_text(Path(_encode.__file__).read_text("utf-8"), "utf-8")


def proved(folder: Path, rows: Rows, graph: Graph) -> dict[str, Any] | None:
    """How many of the rows encode.py encodes as the fields do; None where the contract says nothing of a field."""
    tree = _encode.Contract(folder / "contract.json")
    fields = [port["field"] for port in tree.inputs.values() if "field" in port]
    if not fields or any(field["encoding"] is None or field["kind"] == "chat" for field in fields):
        return None
    same, apart, refused = 0, 0.0, 0
    for at, raw in enumerate(rows.raw):
        if not raw:
            continue  # a window of a longer text
        stored = graph.feeds(rows.batch([at], whole=True))
        try:
            made = tree.encode([raw])
        except (_encode.Refused, OSError, FileNotFoundError):
            refused += 1
            continue
        gaps = [_gap(made[name], array) for name, array in stored.items()]
        apart = max(apart, *(gap for gap in gaps if math.isfinite(gap)), 0.0)
        same += all(gap <= CLOSE for gap in gaps)
    return {"rows": sum(map(bool, rows.raw)), "equal": same, "refused": refused, "max_difference": apart}


def _gap(mine: np.ndarray, stored: np.ndarray) -> float:
    if mine.shape != stored.shape:
        return math.inf
    return float(np.abs(mine.astype(np.float64) - stored).max(initial=0.0))
