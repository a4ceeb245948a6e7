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

# Read when torch loads. Threads that wait by spinning for long bring a shared machine to a standstill: beside other
# busy processes, training was ten times slower; threads that never spin cost a quiet machine half its speed
# (docs/experiments.md). Set either variable yourself to choose otherwise.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")

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
