"""Settings whose other settings depend on their `kind`: a table says which kind has which.

    TABLE = {"sgd": {"lr": 0.1, "momentum": 0.0}, "adam": {"lr": 1e-3, "betas": (0.9, 0.999)}}

In the settings class such a setting defaults to None, which means "this kind's default"; a setting that was
given but that the kind does not have is refused, naming those it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticCustomError

from modelworks.core.errors import Problem, did_you_mean
from modelworks.core.settings import Settings

Table = Mapping[str, Mapping[str, Any]]


def as_kind(value: Any) -> Any:
    """`adam` → `{"kind": "adam"}`; anything else as it came."""
    return {"kind": value} if isinstance(value, str) else value


def refuse_foreign(settings: Settings, kind: str, table: Table) -> None:
    """Raise for every given setting that some kind has but this one has not."""
    own = table[kind]
    every = {name for names in table.values() for name in names}
    foreign = [name for name in every if name not in own and getattr(settings, name) is not None]
    if not foreign:
        return
    listed = ", ".join(sorted(own)) or "none of its own"
    problems = []
    for name in sorted(foreign):
        others = [other for other, names in table.items() if name in names]
        guess = did_you_mean(name, own)
        remedy = f"it has: {listed}; {name!r} belongs to {', '.join(others)}"
        problems.append(
            Problem(
                name, f"{kind} has no setting {name!r}", f"{guess} {remedy}" if "did you" in guess else remedy
            )
        )
    raise PydanticCustomError("nested", "nested", {"nested": problems})


def resolved(settings: Settings, kind: str, table: Table) -> dict[str, Any]:
    """This kind's settings: the value given, or its default."""
    return {
        name: default if getattr(settings, name) is None else getattr(settings, name)
        for name, default in table[kind].items()
    }
