"""Which columns of a data set are conversations, by their usual names."""

from __future__ import annotations

from collections.abc import Sequence

WHOLE = ("messages", "conversations", "conversation", "chat")
ASKED = (
    "system", "system_prompt", "messages", "conversations", "conversation", "history", "instruction", "prompt",
    "question", "query", "input",
)  # fmt: skip
"""What comes before an answer, in the order in which it is said."""
ANSWERED = ("output", "response", "completion", "answer")
_KINDS = {"system": "system", "system_prompt": "system"} | dict.fromkeys((*WHOLE, "history"), "messages")


def found_parts(columns: Sequence[str]) -> tuple[str, dict[str, str]]:
    """(name of the column of conversations, or of the one to be put together; its parts: column → who says it)."""
    asked = asked_parts(columns)
    answered = next((name for name in ANSWERED if name in columns), None)
    if asked and answered:
        return "messages", {**asked, answered: "assistant"}
    whole = next((name for name in WHOLE if name in columns), "")
    system = {name: "system" for name in columns if _KINDS.get(name) == "system"}
    return (whole, {**system, whole: "messages"}) if whole and system else (whole, {})


def asked_parts(columns: Sequence[str]) -> dict[str, str]:
    """The columns that come before an answer."""
    return {name: _KINDS.get(name, "user") for name in ASKED if name in columns}
