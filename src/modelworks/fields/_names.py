"""Names in the order people expect: 2 before 10, "class 2" before "class 10"."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from modelworks.core.profile import as_number


def in_order(names: Iterable[str]) -> list[str]:
    """By value where all are numbers, else by text with the numbers inside compared as numbers."""
    names = list(names)
    numbers = [as_number(name) for name in names]
    if all(number is not None for number in numbers):
        return [name for _, name in sorted(zip(numbers, names, strict=True))]
    return sorted(names, key=_natural)


def _natural(name: str) -> Any:
    parts = re.split(r"([0-9]{1,18})", name)  # odd positions are the digits
    return [(int(part), "") if index % 2 else (-1, part) for index, part in enumerate(parts)], name
