"""gguf: one file that llama.cpp runs.

named = write(run, predictor, model, folder, dtype=torch.float16)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelworks.core.run import RunFolder
from modelworks.engine.export._tokens import common

EXTRA = ""
TASKS = ("instruct", "language", "prefer")
"""Those that go on with a text."""


def need_runtime() -> None:
    """Nothing more is needed."""


def write(run: RunFolder, predictor: Any, model: Any, folder: Path, dtype: Any) -> str:
    """The file; for which program it is."""
    from modelworks.core.settings import to_tree
    from modelworks.engine.exchange import gguf_write

    told = common(run, predictor)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run.name}.gguf"
    gguf_write.write(path, predictor.network, model, to_tree(predictor.task), dtype=dtype, **told)
    return f"{path} for llama.cpp"
