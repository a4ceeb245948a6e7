"""Phrases: small pieces of the audit's sentences, and the form of a finding."""

from __future__ import annotations

from typing import Any

Finding = dict[str, Any]
"""{"severity", "code", "column", "message", "remedy"}; the remedy is a piece of recipe, or empty."""


def finding(severity: str, code: str, message: str, remedy: str = "", column: str | None = None) -> Finding:
    """One finding; `severity` is error, warning or info."""
    return {"severity": severity, "code": code, "column": column, "message": message, "remedy": remedy}


def share_of(part: float, whole: float) -> str:
    """`39 %`, `0.4 %`, `under 0.1 %`."""
    percent = 100 * part / whole if whole else 0.0
    if percent >= 10:
        return f"{percent:.0f} %"
    return f"{percent:.1f} %" if percent >= 0.1 or not part else "under 0.1 %"


def plural(count: int, one: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{count:,} {one}" if count == 1 else f"{count:,} {one}s"


def rows_of(count: int) -> str:
    """`1 row`, `2,000 rows`."""
    return plural(count, "row")


def has(count: int) -> str:
    """The verb that goes with a count."""
    return "has" if count == 1 else "have"


def key_of(name: str) -> str:
    """A column's name as a YAML key."""
    if name.isidentifier():
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
