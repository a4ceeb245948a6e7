"""The gallery of a Run: its most confident mistakes, or its largest errors, as people see them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from modelworks.core.dataset import Dataset
from modelworks.core.field import Field
from modelworks.core.run import RunFolder
from modelworks.engine import judge
from modelworks.engine.highlight import highlight
from modelworks.engine.predictor import Predictor


def write_gallery(
    run: RunFolder,
    predictor: Predictor,
    dataset: Dataset,
    mistakes: list[judge.Mistake],
) -> None:
    """gallery.json and gallery/: the most confident mistakes, or the largest errors, as people see them."""
    if not mistakes:
        return
    fields, task = predictor.fields, predictor.task
    target = fields[task.target]
    table = dataset.take([mistake.row for mistake in mistakes])
    entries = []
    for index, mistake in enumerate(mistakes):
        inputs = {}
        for name, field in fields.items():
            if name != task.target:
                inputs[name] = _shown(
                    run,
                    f"{index:02d}-{name}",
                    field,
                    table.column(field.column or name)[index].as_py(),
                    table.column(field.column or name).type,
                    dataset,
                )
        said = target.decode(np.asarray([mistake.prediction, mistake.truth]))
        # Numbers are stored in single precision: digits beyond it come from scaling there and back.
        prediction, truth = (float(f"{v:.7g}") if isinstance(v, float) else v for v in said)
        for name, shown in inputs.items():
            if shown["type"] == "text" and mistake.confidence is not None:
                row = table.slice(index, 1).combine_chunks().to_batches()[0]
                column = fields[name].column or name
                shown["weights"] = highlight(predictor, row, column, str(prediction), dataset.root)
        entries.append(
            {
                "row": mistake.row,
                "truth": truth,
                "prediction": prediction,
                "confidence": mistake.confidence,
                "inputs": inputs,
            }
        )
    run.write_bytes("gallery.json", json.dumps(entries, ensure_ascii=False, indent=1, default=str).encode())


def _shown(
    run: RunFolder, stem: str, field: Field, value: Any, kind: pa.DataType, dataset: Dataset
) -> dict[str, Any]:
    """One input as the report shows it: text, a file beside it, or a plain value."""
    safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in stem)
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    form = field.layout.form
    media = "audio" if field.kind == "audio" else "image" if form == "image" else ""
    if not media:
        return {
            "type": "text" if form == "tokens" else "value",
            "value": value if isinstance(value, (int, float)) else str(value)[:2000],
        }
    if isinstance(value, list):
        from modelworks.engine.train.pictures import save_grid

        shape = getattr(kind, "shape", None)
        pixels = np.asarray(value, np.uint8).reshape(shape) if shape else np.asarray(value, np.uint8)
        pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        (run.path / "gallery").mkdir(exist_ok=True)
        save_grid(pixels[None], run.path / "gallery" / f"{safe}.png")
        return {"type": media, "file": f"gallery/{safe}.png"}
    if isinstance(value, str):
        path = (dataset.root or run.path) / value
        ending, data = path.suffix.lower(), path.read_bytes() if path.is_file() else b""
    else:
        ending, data = (".wav" if media == "audio" else ".png"), bytes(value or b"")
    if not data or len(data) > 4 << 20:
        return {
            "type": "value",
            "value": str(value)[:200] if isinstance(value, str) else f"{len(data)} bytes",
        }
    (run.path / "gallery").mkdir(exist_ok=True)
    run.write_bytes(f"gallery/{safe}{ending}", data)
    return {"type": media, "file": f"gallery/{safe}{ending}"}
