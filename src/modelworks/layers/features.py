"""What a model gives: a vector a row, or a vector a step for the tasks that want one."""

from __future__ import annotations

from modelworks.core.errors import UserError
from modelworks.core.model import Features


def one_a_row(kind: str, features: Features) -> None:
    """Refuse to give a vector a step where the architecture has none."""
    if features == "token":
        raise UserError(
            f"model {kind} gives one vector a row, and the task wants one a step",
            "choose `kind: transformer` or `kind: rnn`",
        )
    if features == "next":
        raise UserError(
            f"model {kind} gives one vector a row, and the task wants one a step that sees only the steps before it",
            "choose `kind: transformer`, or `kind: rnn` with `bidirectional: false`",
        )
