"""Learning-rate finder: raise the rate step by step and watch the loss (Smith 2017, range test).

curve = find_lr(lambda lr: one_training_step(lr), lo=1e-6, hi=10.0, steps=100)
curve.suggestion        # None when the loss never fell
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

_SMOOTH = 0.9  # decay of the moving average that is judged
_DIVERGED = 4.0  # a smoothed loss over this many times the best ends the test


@dataclass(frozen=True)
class Curve:
    """What the range test saw."""

    rates: list[float]
    losses: list[float]
    """The loss before each step, as given."""
    smoothed: list[float]
    """Its bias-corrected moving average."""
    suggestion: float | None
    """A third of the way back from the end of the longest fall, by log rate (the "valley")."""
    steepest: float | None
    """Where the smoothed loss falls fastest by log rate."""
    diverged: bool
    """Whether the loss blew up before the last rate."""


def find_lr(step: Callable[[float], float], lo: float = 1e-6, hi: float = 10.0, steps: int = 100) -> Curve:
    """Take up to `steps` training steps at rates from `lo` to `hi`, evenly by log.

    `step(lr)` takes one step at that rate and returns the loss it had before it. The caller restores the
    weights."""
    if not 0 < lo < hi or steps < 10:
        raise ValueError(f"wants 0 < lo < hi and at least 10 steps, got lo={lo}, hi={hi}, steps={steps}")
    rates: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    average, diverged = 0.0, False
    for index in range(steps):
        rate = lo * (hi / lo) ** (index / (steps - 1))
        loss = float(step(rate))
        if not math.isfinite(loss):
            diverged = True
            break
        average = _SMOOTH * average + (1 - _SMOOTH) * loss
        rates.append(rate)
        losses.append(loss)
        smoothed.append(average / (1 - _SMOOTH ** (index + 1)))
        best = min(smoothed)
        # Measured from the best upwards, by how far it had fallen or its size: a loss may be negative.
        if index > steps // 10 and smoothed[-1] - best > (_DIVERGED - 1) * max(abs(best), smoothed[0] - best):
            diverged = True
            break
    return Curve(rates, losses, smoothed, _valley(rates, smoothed), _steepest(rates, smoothed), diverged)


def _valley(rates: list[float], losses: list[float]) -> float | None:
    """Two thirds into the longest falling run (fastai's "valley")."""
    start, best_start, best_end = 0, 0, 0
    for index in range(1, len(losses) + 1):
        if index == len(losses) or losses[index] >= losses[index - 1]:
            if losses and losses[start] - losses[index - 1] > 0 and index - 1 - start > best_end - best_start:
                best_start, best_end = start, index - 1
            start = index
    if best_end - best_start < 3:
        return None
    return rates[best_start + 2 * (best_end - best_start) // 3]


def _steepest(rates: list[float], losses: list[float]) -> float | None:
    slopes = [losses[i + 1] - losses[i - 1] for i in range(1, len(losses) - 1)]
    if not slopes or min(slopes) >= 0:
        return None
    return rates[slopes.index(min(slopes)) + 1]
