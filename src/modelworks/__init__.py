"""modelworks: one tool for the whole life of a model.

    import modelworks
    run = modelworks.train("reviews.csv", target="stars")
    run.predict("new.csv")

The public names are listed below and loaded on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

# Read when torch loads. Threads that wait by spinning bring a shared machine to a standstill: with one other busy
# process, training was ten times slower (docs/experiments.md). Set it yourself to choose otherwise.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.1.0"

_PUBLIC = dict.fromkeys(
    ("train", "evaluate", "predict", "audit", "load", "open", "Run", "Audit"), "modelworks.api"
) | {
    "Recipe": "modelworks.engine.recipe",
    "Dataset": "modelworks.core.dataset",
    "UserError": "modelworks.core.errors",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(
        f"module 'modelworks' has no attribute {name!r}; public names: {', '.join(sorted(_PUBLIC))}"
    )


def __dir__() -> list[str]:
    return sorted(__all__)
