"""A Triton model repository and a KServe InferenceService for an ONNX export; both speak the Open Inference Protocol.

    write(folder, "titanic", tree)      # triton/titanic/config.pbtxt, triton/titanic/1/model.onnx, kserve.yaml

tritonserver --model-repository=DIR/triton
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROWS = 64
"""Most rows that Triton joins to one batch."""
_TYPES = {"uint8": "UINT8", "int16": "INT16", "int64": "INT64", "float32": "FP32", "bool": "BOOL"}


def write(folder: Path, name: str, tree: Mapping[str, Any]) -> None:
    """The repository holds the model as a hard link where the file system has them."""
    served = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "model"
    version = folder / "triton" / served / "1"
    version.mkdir(parents=True)
    for file in sorted(folder.glob("model.onnx*")):
        try:
            os.link(file, version / file.name)
        except OSError:
            shutil.copyfile(file, version / file.name)
    (folder / "triton" / served / "config.pbtxt").write_text(config(served, tree), "utf-8")
    (folder / "kserve.yaml").write_text(service(served), "utf-8")


def config(name: str, tree: Mapping[str, Any]) -> str:
    """config.pbtxt in protobuf's text format; sizes are without the batch."""
    ports = []
    for side in ("input", "output"):
        entries = []
        for port in tree[f"{side}s"]:
            sizes = [-1 if isinstance(size, str) else size for size in port["shape"][1:]]
            shape = ", ".join(map(str, sizes or [1]))
            # Triton has no empty shape: what is one value a row has one axis of 1, and is told to drop it.
            drop = "" if sizes else "\n    reshape { shape: [ ] }"
            entries.append(
                f'  {{\n    name: "{_quoted(port["name"])}"\n    data_type: TYPE_{_TYPES[port["dtype"]]}\n'
                f"    dims: [ {shape} ]{drop}\n  }}"
            )
        ports.append(f"{side} [\n" + ",\n".join(entries) + "\n]\n")
    ragged = any(isinstance(size, str) for port in tree["inputs"] for size in port["shape"][1:])
    # Requests of unequal lengths cannot be joined; Triton waits for others of the same shape.
    batching = "dynamic_batching { max_queue_delay_microseconds: 2000 }\n" + (
        "# Requests of equal lengths are joined: pad yours to a few lengths.\n" if ragged else ""
    )
    return (
        f'name: "{_quoted(name)}"\nbackend: "onnxruntime"\ndefault_model_filename: "model.onnx"\n'
        f"max_batch_size: {ROWS}\n{''.join(ports)}{batching}"
    )


def service(name: str) -> str:
    """An InferenceService whose storage is the folder `triton`, copied to a volume or bucket."""
    host = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-") or "model"
    runtime = {"modelFormat": {"name": "onnx"}, "protocolVersion": "v2", "runtime": "kserve-tritonserver"}
    return yaml.safe_dump(
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": host},
            "spec": {
                "predictor": {
                    "model": {
                        **runtime,
                        "storageUri": "pvc://models/triton",
                        "resources": {"limits": {"cpu": "2", "memory": "2Gi"}},
                    }
                }
            },
        },
        sort_keys=False,
    )


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
