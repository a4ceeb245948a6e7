"""executorch: a program for phones and boards (.pte): XNNPACK's kernels, and ExecuTorch's portable ones for the rest.

about = write(graph, program, outputs, folder); opened = open_(folder, names); opened.predict(feeds)
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelworks.core.errors import UserError, need

EXTRA = "executorch"
FILE = "model.pte"
ALONE = True
"""One row a call: a .pte plans its memory ahead, and a free batch costs it kernels (docs/experiments.md)."""


def need_runtime() -> None:
    """Say in one line what is missing, before anything is loaded."""
    with _quiet():
        need("executorch.exir", EXTRA, "--format executorch")


def write(graph: Any, program: Any, outputs: Any, folder: Path) -> dict[str, Any]:
    """model.pte; returns the versions and what XNNPACK took over."""
    from importlib import metadata

    import torch

    from modelworks.engine.export._plain import plain

    # NNPACK is for fewer than 16 rows: a graph that may choose it has no more.
    with _quiet(), torch.backends.nnpack.flags(enabled=False):
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

        written = plain(program)

        def made(partitioners: list[Any]) -> Any:
            edge = to_edge_transform_and_lower(
                written,
                partitioner=partitioners,
                compile_config=EdgeCompileConfig(_check_ir_validity=False),
            )
            return edge, edge.to_executorch()

        try:
            try:
                edge, finished = made([XnnpackPartitioner()])
            except RuntimeError as error:
                if "XNNPACK" not in str(error):
                    raise
                # XNNPACK cannot, for one, reshape what has two free sizes: the portable kernels can.
                edge, finished = made([])
        except Exception as error:  # of any kind: the compiler has no common one
            reason = (str(error).strip().splitlines() or [""])[0][:300]
            raise UserError(
                f"this network cannot be written for ExecuTorch: {type(error).__name__}: {reason}",
                "--format onnx and torch take it",
            ) from error
    (folder / FILE).write_bytes(finished.buffer)
    nodes = [str(n.target) for n in edge.exported_program().graph.nodes if n.op == "call_function"]
    delegated = sum("executorch_call_delegate" in name for name in nodes)
    left = sorted({name for name in nodes if name.startswith("aten.")})
    return {
        "versions": {"torch": torch.__version__, "executorch": metadata.version("executorch")},
        "xnnpack": {"parts": delegated, "left_to_portable_kernels": left},
        "rows_a_call": 1,
    }


class Program:
    """The file in ExecuTorch's runtime."""

    def __init__(self, path: Path, outputs: list[str]) -> None:
        with _quiet():
            from executorch.runtime import Runtime

            try:
                self.program = Runtime.get().load_program(path)
                self.method = self.program.load_method("forward")
            except RuntimeError as error:
                raise UserError(
                    f"ExecuTorch's runtime lacks an operator of this network ({error})",
                    "--format onnx and torch take it",
                ) from error
        self.outputs = outputs

    def predict(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """A batch of stored arrays → the outputs."""
        import numpy as np
        import torch

        assert self.method is not None
        try:
            said = []
            for row in range(len(next(iter(feeds.values())))):
                alone = [torch.from_numpy(np.ascontiguousarray(a[row : row + 1])) for a in feeds.values()]
                said.append([value.numpy().copy() for value in self.method.execute(alone)])
        except RuntimeError as error:
            raise UserError(
                f"ExecuTorch's runtime cannot run this network: {error}", "--format onnx and torch take it"
            ) from error
        return {
            name: np.concatenate(rows)
            for name, rows in zip(self.outputs, zip(*said, strict=True), strict=True)
        }


def open_(folder: Path, outputs: list[str]) -> Program:
    """The export in its runtime."""
    return Program(folder / FILE, outputs)


@contextlib.contextmanager
def _quiet() -> Any:
    """The compiler and packages that it looks for have much to say."""
    before, out = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
