"""Guard: looks at the loss and the gradient before each step, and keeps a bad one from reaching the weights.

watch = Watch(Guard(action="skip", spike=4.0))
verdict = watch.check(loss, grad_norm, rows, step)
if verdict.action != "ok": report(verdict.reason)   # names the rows
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from pydantic import Field as Setting
from pydantic import model_validator

from modelworks.core.settings import Settings

Action = Literal["ok", "skip", "rewind", "stop"]
_SHOWN = 10


class Guard(Settings):
    """What to do about a step whose loss or gradient is not finite, or spikes."""

    action: Literal["stop", "skip", "rewind"] = "skip"
    """`skip` leaves the step out; `rewind` goes back to the last checkpoint and past the batch; `stop` ends
    training."""
    spike: float | None = Setting(default=None, gt=1)
    """A loss over this many times the recent median is bad. None: only a loss that is not finite is, since in
    small batches the hardest rows stand out for good and would never be learned."""
    gradient_spike: float | None = Setting(default=None, gt=1)
    """The same for the gradient's norm."""
    z: float = Setting(default=6.0, ge=0)
    """A spike must also lie this many standard deviations above the recent mean."""
    window: int = Setting(default=128, ge=8, le=10_000)
    """Good steps that count as recent."""
    warmup: int = Setting(default=50, ge=2)
    """Good steps before spikes are judged."""
    patience: int = Setting(default=10, ge=0)
    """Bad steps in a row that are borne; one more stops training. For `rewind` a row ends after `warmup`
    good steps."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"action": value} if isinstance(value, str) else value


@dataclass(frozen=True)
class Verdict:
    """What to do with a step, and why."""

    action: Action
    reason: str = ""


class Watch:
    """Remembers recent good steps. After a rewind keep the same Watch: it must remember what went wrong."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._losses: deque[float] = deque(maxlen=guard.window)
        self._norms: deque[float] = deque(maxlen=guard.window)
        self._bad = self._calm = self._seen = 0
        self.skipped = 0
        """Bad steps so far."""

    def check(
        self, loss: float, grad_norm: float | None = None, rows: Sequence[int] = (), step: int | None = None
    ) -> Verdict:
        """Judge one step before it is taken. `rows`: the batch's row numbers, for the message."""
        guard = self._guard
        fault = self._fault("loss", loss, self._losses, guard.spike)
        if not fault and grad_norm is not None:
            fault = self._fault("gradient norm", grad_norm, self._norms, guard.gradient_spike)
        if not fault:
            self._losses.append(loss)
            if grad_norm is not None:
                self._norms.append(grad_norm)
            self._seen, self._calm = self._seen + 1, self._calm + 1
            if self._calm >= (guard.warmup if guard.action == "rewind" else 1):
                self._bad = 0
            return Verdict("ok")
        self._bad, self._calm, self.skipped = self._bad + 1, 0, self.skipped + 1
        reason = f"{'' if step is None else f'step {step:,}: '}{fault}{_named(rows)}"
        if guard.action == "stop":
            return Verdict("stop", reason)
        if self._bad > guard.patience:
            return Verdict(
                "stop",
                f"{reason}; {self._bad} bad steps in a row: lower the learning rate or clip the gradient",
            )
        return Verdict(guard.action, reason)

    def _fault(self, what: str, value: float, recent: deque[float], factor: float | None) -> str:
        if not math.isfinite(value):
            return f"the {what} is {'not a number' if math.isnan(value) else 'infinite'}"
        if factor is None or self._seen < self._guard.warmup or not recent:
            return ""
        middle, mean = median(recent), math.fsum(recent) / len(recent)
        deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in recent) / len(recent))
        # A loss may be negative (log-likelihoods of densities): there only the deviation can tell.
        far = value > factor * middle if middle > 0 else value > mean
        if not far or value - mean <= self._guard.z * deviation:
            return ""
        return f"the {what} {value:.4g} spikes over its recent median {middle:.4g}"

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint stores, JSON-able."""
        return {
            "losses": list(self._losses), "norms": list(self._norms), "bad": self._bad, "calm": self._calm,
            "seen": self._seen, "skipped": self.skipped,
        }  # fmt: skip

    def load(self, state: dict[str, Any]) -> None:
        """Restore `state`."""
        self._losses = deque(state["losses"], maxlen=self._guard.window)
        self._norms = deque(state["norms"], maxlen=self._guard.window)
        self._bad, self._calm = state["bad"], state["calm"]
        self._seen, self.skipped = state["seen"], state["skipped"]


def _named(rows: Sequence[int]) -> str:
    if not len(rows):
        return ""
    shown = ", ".join(str(int(row)) for row in list(rows)[:_SHOWN])
    more = f" and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else ""
    return f" (row{'s' if len(rows) > 1 else ''} {shown}{more})"
