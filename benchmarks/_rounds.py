"""Rounds: contenders run one after another, round by round, so that a slow minute of the machine hits all of them.

results = interleave({"modelworks": run_ours, "keras": run_keras}, seeds=[0, 1, 2])
ratio(results, "modelworks", "keras", "rate")      # median of the rounds' ratios, with lowest and highest
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from _peers import Failed

Result = dict[str, Any]
Results = dict[str, list[Result]]


def interleave(contenders: Mapping[str, Callable[[int], Result]], seeds: Sequence[int]) -> Results:
    """Every contender once per seed; who goes first rotates. A failure is kept as {"failed": reason}."""
    names = list(contenders)
    results: Results = {name: [] for name in names}
    for turn, seed in enumerate(seeds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            try:
                result = contenders[name](seed)
            except Failed as error:
                result = {"failed": str(error)}
            results[name].append(result)
            shown = ", ".join(
                f"{key} {_short(value)}"
                for key, value in result.items()
                if not isinstance(value, (list, dict))
            )
            print(f"  seed {seed}  {name}: {shown}", flush=True)
    return results


def values(results: Results, name: str, key: str) -> list[float]:
    """A figure of every round that has it."""
    return [result[key] for result in results[name] if key in result]


def median(results: Results, name: str, key: str) -> float | None:
    found = values(results, name, key)
    return statistics.median(found) if found else None


def mean(results: Results, name: str, key: str) -> float | None:
    found = values(results, name, key)
    return statistics.fmean(found) if found else None


def ratio(results: Results, name: str, other: str, key: str) -> str:
    """`2.1× (2.0–2.3)`: a figure of `name` over that of `other`, round by round."""
    pairs = [
        (a[key], b[key]) for a, b in zip(results[name], results[other], strict=True) if key in a and key in b
    ]
    if not pairs:
        return "–"
    found = [a / b for a, b in pairs]
    spread = f" ({min(found):.2f}–{max(found):.2f})" if len(found) > 1 else ""
    return f"{statistics.median(found):.2f}×{spread}"


def failure(results: Results, name: str) -> str:
    """Why a contender has no figure; empty when it has one."""
    reasons = [result["failed"] for result in results[name] if "failed" in result]
    return reasons[0] if len(reasons) == len(results[name]) else ""


def _short(value: Any) -> str:
    return (
        f"{value:,.4g}"
        if isinstance(value, float) and abs(value) < 1000
        else f"{value:,.0f}"
        if isinstance(value, float)
        else str(value)
    )
