"""hf: a folder that transformers and vLLM open: config.json, safetensors, tokenizer.json.

named = write(run, predictor, model, folder, dtype=torch.float32)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelworks.core.run import RunFolder
from modelworks.engine.export._tokens import common

EXTRA = ""
TASKS = ("classify", "embed", "instruct", "language", "mask", "prefer", "regress", "tag")
"""Those of a network that reads one text; which of them Hugging Face has a class for, the writer knows."""


def need_runtime() -> None:
    """Nothing more is needed."""


def write(run: RunFolder, predictor: Any, model: Any, folder: Path, dtype: Any) -> str:
    """The folder; for which class it is."""
    from modelworks.core.settings import to_tree
    from modelworks.engine.exchange import foreign

    told = common(run, predictor)
    folder.mkdir(parents=True, exist_ok=True)
    name = foreign.write(folder, predictor.network, model, to_tree(predictor.task), dtype=dtype, **told)
    return f"{folder} for transformers' {name}"
