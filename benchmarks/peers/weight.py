"""How heavy installed packages are: what they need, counted and weighed, in the environment that runs this.

    python weight.py transformers torch accelerate

Prints {"packages": …, "mb": …, "mb_besides": …}; besides: without torch, TensorFlow and the CUDA packages.
"""

from __future__ import annotations

import json
import re
import sys
from importlib import metadata

from pip._vendor.packaging.requirements import Requirement

ENGINES = re.compile(r"^(torch|tensorflow(-cpu)?|triton|nvidia-.*|cuda-.*)$")


def needed(names: list[str]) -> dict[str, metadata.Distribution]:
    """Every distribution that these need here, themselves included."""
    found: dict[str, metadata.Distribution] = {}
    queue = [Requirement(name) for name in names]
    seen = set()
    while queue:
        wanted = queue.pop()
        key = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if (key, frozenset(wanted.extras)) in seen:
            continue
        seen.add((key, frozenset(wanted.extras)))
        try:
            found[key] = metadata.distribution(wanted.name)
        except metadata.PackageNotFoundError:
            continue  # an optional part that is not here
        for text in found[key].requires or []:
            inner = Requirement(text)
            if inner.marker is None or any(
                inner.marker.evaluate({"extra": extra}) for extra in {"", *wanted.extras}
            ):
                queue.append(inner)
    return found


def size(distribution: metadata.Distribution) -> float:
    """Bytes of its files on disk."""
    total = 0
    for file in distribution.files or []:
        path = file.locate()
        if path.is_file():
            total += path.stat().st_size
    return total


sizes = {name: size(distribution) for name, distribution in needed(sys.argv[1:]).items()}
besides = sum(value for name, value in sizes.items() if not ENGINES.match(name))
print(
    json.dumps(
        {
            "packages": len(sizes),
            "mb": sum(sizes.values()) / 1e6,
            "mb_besides": besides / 1e6,
            "names": sorted(sizes),
        }
    )
)
