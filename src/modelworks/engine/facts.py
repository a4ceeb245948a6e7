"""Facts: versions, device, seed and command line of a Run, for environment.json."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import Any

from modelworks import __version__


def environment(seed: int, device: str, code: dict[str, str]) -> dict[str, Any]:
    """What a figure depends on besides recipe and data. `code`: path → SHA-256 of the user's own kinds."""
    import os

    import torch

    return {
        "modelworks": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
        "seed": seed,
        "command": sys.argv,
        "code": code,
        "packages": {
            name: _version(name)
            for name in ("torch", "numpy", "pyarrow", "pydantic", "safetensors", "pillow", "tokenizers")
        },
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(
                (line.split(":", 1)[1].strip() for line in file if line.startswith("model name")),
                platform.processor(),
            )
    except OSError:
        return platform.processor()
