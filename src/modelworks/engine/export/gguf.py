"""gguf: one file that llama.cpp runs.

about = write(run, predictor, model, folder, dtype=torch.float16)      # {"for": "llama.cpp", …}
opened = open_(folder, graph, steps=128)                               # as llama.cpp computes it
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from modelworks.core.run import RunFolder
from modelworks.engine.export._tokens import common

RUNTIME, PACKAGE = "llama_cpp", "llama-cpp-python"
SHARE = 1e-3
"""Of the largest number: its tables of SiLU and its sums are coarser than torch's."""
TASKS = ("instruct", "language", "prefer")
"""Those that go on with a text."""


def need_runtime() -> None:
    """Nothing more is needed to write."""


def write(run: RunFolder, predictor: Any, model: Any, folder: Path, dtype: Any) -> dict[str, Any]:
    """The file; the program that it is for, and what its README tells."""
    from modelworks.core.settings import to_tree
    from modelworks.engine.exchange import gguf_write

    told = common(run, predictor)
    path = folder / f"{run.name}.gguf"
    gguf_write.write(path, predictor.network, model, to_tree(predictor.task), dtype=dtype, **told)
    return {"for": "llama.cpp", "length": told["length"]}


def open_(folder: Path, graph: Any, steps: int) -> Opened:
    """The file as llama.cpp reads it; `steps`: most tokens of a row."""
    return Opened(next(folder.glob("*.gguf")), graph, steps)


class Opened:
    """llama.cpp's scores of rows of tokens."""

    def __init__(self, path: Path, graph: Any, steps: int) -> None:
        import llama_cpp
        import torch

        self.graph = graph
        self.llama = llama_cpp.Llama(
            str(path),
            n_ctx=steps,
            n_batch=steps,
            n_threads=torch.get_num_threads(),
            logits_all=True,
            type_k=llama_cpp.GGML_TYPE_F32,  # float16 is its default, and would be what differs
            type_v=llama_cpp.GGML_TYPE_F32,
            verbose=False,
        )

    def predict(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Tokens (B, T) → logits (B, T, V), row by row."""
        (ids_BT,) = self.graph.prepared(feeds).values()
        rows = []
        for ids_T in ids_BT.tolist():
            self.llama.reset()
            self.llama.eval(ids_T)
            rows.append(self.llama.scores[: len(ids_T)].copy())
        return {"logits": np.stack(rows)}

    def encoded(self, raw: Any, length: int) -> np.ndarray | None:
        """A text's tokens; None of a conversation, whose template llama.cpp fills in by rules of its own."""
        if not isinstance(raw, str):
            return None
        return np.asarray(self.llama.tokenize(raw.encode(), add_bos=True, special=True)[:length])
