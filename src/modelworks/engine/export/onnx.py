"""onnx: a graph for ONNX Runtime, Triton, KServe and whatever else reads ONNX.

about = write(graph, program, folder); session = open_(folder); session.predict(feeds)
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelworks.core.errors import UserError, need

EXTRA = "onnx"
FILE = "model.onnx"
OPSET = 20
LARGE = 1_800_000_000
"""Bytes of weights from which they go into a file beside the graph: one file may have 2 GiB."""


def need_runtime() -> None:
    """Say in one line what is missing, before anything is loaded."""
    for module in ("onnx", "onnxscript", "onnxruntime"):
        need(module, EXTRA, "--format onnx")


def write(graph: Any, program: Any, outputs: Any, folder: Path) -> dict[str, Any]:
    """model.onnx; returns the versions and the opset."""
    import onnx
    import onnxruntime
    import onnxscript
    import torch

    try:
        with _quiet():
            made = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=[port.name for port in graph.inputs],
                output_names=[port.name for port in outputs],
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        cause = error.__cause__ or error
        reason = str(cause).strip().splitlines()[0][:300]
        raise UserError(f"this network cannot be written as ONNX: {reason}") from error
    assert made is not None
    model = made.model_proto
    _name_sizes(model, [*graph.inputs, *outputs])
    large = sum(tensor.ByteSize() for tensor in model.graph.initializer) > LARGE
    onnx.save_model(model, str(folder / FILE), save_as_external_data=large, location="model.onnx.data")
    onnx.checker.check_model(str(folder / FILE))
    return {
        "opset": {one.domain or "ai.onnx": one.version for one in model.opset_import},
        "ir_version": model.ir_version,
        "versions": {
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "onnxscript": onnxscript.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
    }


def _name_sizes(model: Any, ports: list[Any]) -> None:
    """Sizes that may differ are called `batch` and `NAME.steps`, not s4 and s41."""
    values = {value.name: value for value in [*model.graph.input, *model.graph.output]}
    named: dict[str, str] = {}
    for port in ports:
        for size, dim in zip(port.shape, values[port.name].type.tensor_type.shape.dim, strict=True):
            if isinstance(size, str) and dim.dim_param:
                named[dim.dim_param] = size
    for value in [*values.values(), *model.graph.value_info]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in named:
                dim.dim_param = named[dim.dim_param]


@contextlib.contextmanager
def _quiet() -> Any:
    """The exporter tells of its steps and of packages that it does without."""
    logger = logging.getLogger("torch.onnx")
    before, out = logger.level, io.StringIO()
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            yield
    finally:
        logger.setLevel(before)


class Session:
    """The file in ONNX Runtime."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or int(os.environ.get("OMP_NUM_THREADS") or 0)
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.version = onnxruntime.__version__
        self.names = [output.name for output in self.session.get_outputs()]

    def predict(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """A batch of stored arrays → the outputs."""
        return dict(zip(self.names, self.session.run(None, dict(feeds)), strict=True))


def open_(folder: Path, threads: int | None = None) -> Session:
    """The export in its runtime."""
    return Session(folder / FILE, threads)
