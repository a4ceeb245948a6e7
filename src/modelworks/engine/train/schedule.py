"""Schedule: the learning rate over training, as a factor of each group's peak rate.

    schedule = Schedule(kind="cosine", warmup=0.05)
    set_lr(optimizer, schedule.factor(step, total))      # a pure function: nothing to checkpoint

Only `plateau` remembers something: `Plateau` is updated at each validation and its state is saved.
Lengths (warmup, every, at, decay) are a share of all steps when under 1, else steps.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field as Setting
from pydantic import model_validator

from modelworks.core.settings import Settings
from modelworks.engine.train.choice import as_kind, refuse_foreign, resolved

# Each kind's settings and their defaults.
KINDS: dict[str, dict[str, Any]] = {
    "constant": {"warmup": 0.0},
    "linear": {"warmup": 0.05, "floor": 0.0},
    "polynomial": {"warmup": 0.05, "floor": 0.0, "power": 2.0},
    "cosine": {"warmup": 0.05, "floor": 0.0, "cycles": 1},
    "wsd": {"warmup": 0.05, "floor": 0.0, "decay": 0.2, "shape": "sqrt"},
    "step": {"warmup": 0.0, "floor": 0.0, "every": 0.34, "gamma": 0.1, "at": None},
    "exponential": {"warmup": 0.0, "floor": 0.0, "every": 0.5, "gamma": 0.1},
    "one_cycle": {"peak": 0.3, "start": 1 / 25, "floor": 1 / 25e4},
    "cyclic": {"warmup": 0.0, "floor": 0.1, "every": 0.2, "gamma": 1.0},
    "plateau": {"warmup": 0.0, "floor": 0.0, "gamma": 0.5, "patience": 3, "threshold": 1e-4, "cooldown": 0},
}


class Schedule(Settings):
    """The learning rate's course. A setting left at None takes the kind's own default (see KINDS)."""

    kind: Literal[
        "constant", "linear", "polynomial", "cosine", "wsd", "step", "exponential", "one_cycle", "cyclic",
        "plateau",
    ] = "cosine"  # fmt: skip
    """`wsd` is warm-up, stable, decay; `one_cycle` is Smith & Topin 2018; `cyclic` triangular, Smith 2017."""
    warmup: float | None = Setting(default=None, ge=0)
    """Length of the linear rise from 0."""
    floor: float | None = Setting(default=None, ge=0, lt=1)
    """Smallest factor; where the course ends, or each cycle's low point."""
    power: float | None = Setting(default=None, gt=0)
    """polynomial: (1 − progress)^power."""
    cycles: int | None = Setting(default=None, ge=1)
    """cosine: falls, each restarting at the peak (Loshchilov & Hutter 2017)."""
    decay: float | None = Setting(default=None, gt=0)
    """wsd: length of the fall at the end."""
    shape: Literal["linear", "sqrt", "cosine"] | None = None
    """wsd: how it falls; sqrt is 1 − √progress (Hägele et al. 2024)."""
    every: float | None = Setting(default=None, gt=0)
    """Length between falls (step), over which gamma applies once (exponential), or of one cycle (cyclic)."""
    gamma: float | None = Setting(default=None, gt=0, le=1)
    """Factor of a fall; cyclic: of the height, each cycle."""
    at: list[float] | None = None
    """step: when to fall, instead of `every`."""
    peak: float | None = Setting(default=None, gt=0, lt=1)
    """one_cycle: where the peak is, as a share of all steps."""
    start: float | None = Setting(default=None, gt=0, le=1)
    """one_cycle: the first factor."""
    patience: int | None = Setting(default=None, ge=0)
    """plateau: validations without improvement that are waited out."""
    threshold: float | None = Setting(default=None, ge=0, lt=1)
    """plateau: the smallest relative improvement that counts."""
    cooldown: int | None = Setting(default=None, ge=0)
    """plateau: validations after a fall that are not counted."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return as_kind(value)

    @model_validator(mode="after")
    def _fits_kind(self) -> Schedule:
        refuse_foreign(self, self.kind, KINDS)
        if self.at is not None and self.every is not None:
            raise ValueError("give either `at` or `every`, not both")
        if self.at is not None and any(point <= 0 for point in self.at):
            raise ValueError(f"at wants shares or steps over 0, got {self.at}")
        return self

    def factor(self, step: int, total: int) -> float:
        """The multiplier of every peak rate at a step (from 0) of `total`; beyond the end, the last one."""
        own = resolved(self, self.kind, KINDS)
        total = max(total, 1)
        if self.kind == "one_cycle":
            return _one_cycle(step, total, own["peak"], own["start"], own["floor"])
        warmup = min(round(_length(own["warmup"], total)), total)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        since, span = step - warmup, max(total - warmup, 1)
        progress = min(since / span, 1.0)
        floor = own.get("floor", 0.0)
        if self.kind in ("linear", "polynomial"):
            return _between(floor, (1 - progress) ** own.get("power", 1.0))
        if self.kind == "cosine":
            round_, inside = divmod(progress * own["cycles"], 1.0)
            return _between(floor, _cosine(1.0 if round_ == own["cycles"] else inside))
        if self.kind == "wsd":
            length = min(_length(own["decay"], total), span)
            fallen = min(max((step - (total - length)) / length, 0.0), 1.0)
            return _between(
                floor,
                {"linear": 1 - fallen, "sqrt": 1 - math.sqrt(fallen), "cosine": _cosine(fallen)}[
                    own["shape"]
                ],
            )
        if self.kind == "step":
            if own["at"] is not None:
                falls = sum(step >= round(_length(point, total)) for point in own["at"])
            else:
                falls = since // max(round(_length(own["every"], total)), 1)
            return max(own["gamma"] ** falls, floor)
        if self.kind == "exponential":
            return max(own["gamma"] ** (since / _length(own["every"], total)), floor)
        if self.kind == "cyclic":
            cycle, inside = divmod(since / max(_length(own["every"], total), 2.0), 1.0)
            return _between(floor, (1 - abs(2 * inside - 1)) * own["gamma"] ** cycle)
        return 1.0  # constant; plateau, whose own factor comes on top


class Plateau:
    """The factor that falls when the validation metric stops improving, as torch's ReduceLROnPlateau."""

    def __init__(self, schedule: Schedule, minimise: bool) -> None:
        self._own = resolved(schedule, "plateau", KINDS)
        self._minimise = minimise
        self._best: float | None = None
        self._bad = self._resting = 0
        self.factor = 1.0
        """Multiply `Schedule.factor` by this."""

    def update(self, value: float) -> bool:
        """Take one validation's metric; whether the rate falls."""
        if self._improved(value):
            self._best, self._bad = value, 0
        else:
            self._bad += 1
        if self._resting:
            self._resting, self._bad = self._resting - 1, 0
        if self._bad <= self._own["patience"]:
            return False
        self._bad, self._resting = 0, self._own["cooldown"]
        before, self.factor = self.factor, max(self.factor * self._own["gamma"], self._own["floor"])
        return self.factor < before

    def _improved(self, value: float) -> bool:
        if math.isnan(value):
            return False
        if self._best is None:
            return True
        margin = self._own["threshold"] * abs(self._best)
        return value < self._best - margin if self._minimise else value > self._best + margin

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint stores, JSON-able."""
        return {"best": self._best, "bad": self._bad, "resting": self._resting, "factor": self.factor}

    def load(self, state: dict[str, Any]) -> None:
        """Restore `state`."""
        self._best, self._bad = state["best"], state["bad"]
        self._resting, self.factor = state["resting"], state["factor"]


def _length(value: float, total: int) -> float:
    return value * total if value < 1 else value


def _between(floor: float, height: float) -> float:
    return floor + (1 - floor) * height


def _cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


def _one_cycle(step: int, total: int, peak: float, start: float, floor: float) -> float:
    top, end = max(peak * total - 1, 0.0), total - 1
    if step < top:
        return 1 + (start - 1) * _cosine(step / top)
    return _between(floor, _cosine(min((step - top) / (end - top), 1.0) if end > top else 0.0))
