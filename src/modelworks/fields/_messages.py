"""Conversations as data sets write them → messages: [{"role": "user", "content": "…"}, …].

Known forms: lists of {role, content} (OpenAI) or {from, value} (ShareGPT); rows of instruction, input, output
(Alpaca), prompt and completion, conversations with chosen and rejected; each as values or as JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

PARTS = {
    "system": "system", "system_prompt": "system",
    "instruction": "user", "input": "user", "prompt": "user", "question": "user", "query": "user",
    "messages": "messages", "conversations": "messages", "conversation": "messages", "history": "messages",
    "output": "assistant", "completion": "assistant", "response": "assistant", "answer": "assistant",
    "chosen": "assistant", "rejected": "assistant",
}  # fmt: skip
"""What columns of these names hold, in the order in which it is said."""
ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant",
    "gpt": "assistant", "model": "assistant", "bot": "assistant", "chatgpt": "assistant",
    "function_call": "assistant", "tool": "tool", "observation": "tool", "function": "tool", "ipython": "tool",
}  # fmt: skip
Message = dict[str, str]


class NoConversation(Exception):
    """Why a value is none."""


def messages(value: Any, parts: Mapping[str, str] | None = None) -> list[Message]:
    """A row's messages. `parts`: key → what it holds, for objects whose keys are not the known ones."""
    value = _read(value)
    if isinstance(value, Mapping) and not _is_message(value):
        return _of_row(value, parts or PARTS)
    return _listed(value)


def _of_row(row: Mapping[str, Any], parts: Mapping[str, str]) -> list[Message]:
    found: list[Message] = []
    for key, kind in parts.items():
        value = row.get(key)
        if value is None or value == "" or value == []:
            continue
        said = _read(value) if kind == "messages" else _object(value)
        if isinstance(said, str):
            role = "user" if kind == "messages" else kind
            if (
                found and role == "user" and found[-1]["role"] == "user"
            ):  # Alpaca's input follows its instruction
                found[-1] = {"role": "user", "content": f"{found[-1]['content']}\n\n{said}"}
            else:
                found.append({"role": role, "content": said})
        else:
            found += _listed(said)
    if not found:
        raise NoConversation(f"none of {', '.join(parts)} holds a message")
    return found


def _listed(value: Any) -> list[Message]:
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list):
        raise NoConversation(f"wants a list of messages, got {type(value).__name__}")
    return [_message(_read(one)) for one in value]


def _message(one: Any) -> Message:
    if not isinstance(one, Mapping) or not _is_message(one):
        raise NoConversation(f"wants messages of role and content, got {str(one)[:40]!r}")
    role, content = one.get("role") or one.get("from"), one.get("content", one.get("value"))
    if str(role).lower() not in ROLES:
        raise NoConversation(f"there is no role {str(role)[:40]!r}")
    if isinstance(content, list):  # OpenAI's parts
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    if not isinstance(content, str):
        raise NoConversation(f"a message's content is {type(content).__name__}, not text")
    return {"role": ROLES[str(role).lower()], "content": content}


def _is_message(value: Mapping[str, Any]) -> bool:
    return ("role" in value and "content" in value) or ("from" in value and "value" in value)


def _read(value: Any) -> Any:
    """JSON text as what it says."""
    if value is None:
        raise NoConversation("is missing")
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise NoConversation("is text, and no JSON of messages") from None


def _object(value: Any) -> Any:
    """A message or messages written as JSON; other text as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            read = json.loads(value)
        except (ValueError, RecursionError):
            return value
        first = read[0] if isinstance(read, list) and read else read
        if isinstance(first, Mapping) and _is_message(first):
            return read
    return value
