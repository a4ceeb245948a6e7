"""Distillation: a small network learns what a large one says of the rows, besides their labels (Hinton et al. 2015,
arXiv:1503.02531).

    train: {distil: {teacher: runs/large, temperature: 4, weight: 0.9}}

The student is the recipe's own model; the Run is one like any other and does not need its teacher again. The work is
done by teacher.py, and what a task's answers teach is said by the task: `Task.lesson` and `Task.imitate`.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field as Setting
from pydantic import model_validator

from modelworks.core.settings import Settings


class Distil(Settings):
    """What to learn from a teacher."""

    teacher: str
    """A Run of the same kind of task, by name or folder."""
    temperature: float = Setting(default=2.0, gt=0)
    """Divides both logits before they are compared: above 1, what the teacher thinks of the less likely classes counts
    for more. Its square multiplies the loss, so that the balance with the labels stays as it is."""
    weight: float = Setting(default=0.9, gt=0, le=1)
    """Share of the loss that is the teacher's; the rest is the labels'."""
    live: bool = False
    """Ask the teacher about each batch as the student sees it, augmented and mixed (Beyer et al. 2022,
    arXiv:2106.05237), for its price in every step; else it answers each training row once, as it is. Texts that are
    cut into windows are always asked about live."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"teacher": value} if isinstance(value, str) else value
