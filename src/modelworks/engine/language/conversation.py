"""Conversation: messages taken in turns, as one text that a language model goes on with.

    conversation = Conversation(generator, system="Be brief.")
    for text in conversation.ask("Hello"): print(text, end="")

A Run with a chat template, its own field's or one that came with a foreign model, is spoken to by it; any other reads

    User: Hello
    Assistant:
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from modelworks.core.errors import UserError
from modelworks.core.field import Field
from modelworks.core.kinds import find
from modelworks.engine.language.generate import Generator
from modelworks.engine.language.sampling import Sampling

Message = dict[str, str]
"""{"role": "system" | "user" | "assistant", "content": …}"""
ROOM = 4
"""The share of the context, one in so many, that an answer finds free at least."""


class Conversation:
    """A model, and what was said."""

    def __init__(self, generator: Generator, system: str | None = None) -> None:
        self.generator, self.system = generator, system
        self._speaker = speaker(generator.field)
        self._ends = () if self._speaker is None else closing_tokens(self._speaker)
        self.messages: list[Message] = []
        self.forgotten = 0
        """How many of the first messages the last answer did not see: the context has no room for them."""

    def reset(self) -> None:
        """Forget what was said; the system's message stays."""
        self.messages, self.forgotten = [], 0

    def ask(self, text: str, sampling: Sampling | None = None) -> Iterator[str]:
        """The answer, in pieces. What of it was read is part of the conversation, even if it is broken off."""
        sampling = sampling or Sampling()
        ids, self.forgotten = self._prompt([*self.messages, {"role": "user", "content": text}], sampling)
        stream = self.generator.stream([ids], self._stops(sampling))
        self.messages.append({"role": "user", "content": text})
        answer: Message = {"role": "assistant", "content": ""}
        self.messages.append(answer)
        begun = self._speaker is not None
        for chunk in stream:
            # "Assistant:" is followed by a blank that is no part of the answer.
            new = chunk.text if begun else chunk.text.lstrip()
            begun = begun or bool(new)
            answer["content"] += new
            yield new

    def _prompt(self, messages: Sequence[Message], sampling: Sampling) -> tuple[list[int], int]:
        """(ids, messages left out). The oldest go first, a question with its answer."""
        context = self.generator.context
        room = context - min(sampling.max_tokens, context // ROOM)
        system = [{"role": "system", "content": self.system}] if self.system else []
        for first in range(0, len(messages), 2):
            said = [*system, *messages[first:]]
            ids = (
                plain_ids(self.generator.field, said) if self._speaker is None else self._speaker.prompt(said)
            )
            if len(ids) <= room:
                return ids, first
        raise UserError(
            f"the message has {len(ids):,} tokens, and the model's context is {context:,}", "shorten it"
        )

    def _stops(self, sampling: Sampling) -> Sampling:
        """The answer ends where its message does, or where the model would begin to speak for the user."""
        if self._ends:
            return sampling.but(stop_tokens=(*sampling.stop_tokens, *self._ends))
        return sampling.but(stop=(*sampling.stop, "\nUser:", "\nSystem:"))


def speaker(field: Any) -> Any:
    """The field that writes a conversation as tokens, by `prompt`; None: there is no template."""
    if hasattr(field, "prompt"):
        return field
    if not field.state.get("template"):
        return None
    chat = find(Field, "chat")
    shared = set(chat.model_fields) & set(type(field).model_fields) - {"column"}
    return chat(**{name: getattr(field, name) for name in shared}).with_state(field.state)


def closing_tokens(speaker: Any) -> tuple[int, ...]:
    """The special token that the template writes behind an answer, if it writes one."""
    question = {"role": "user", "content": "a"}
    asked = speaker.prompt([question])
    answered = speaker.prompt([question, {"role": "assistant", "content": "a"}, question])
    specials = set(speaker.special_ids.values())
    if answered[: len(asked)] != asked:
        return ()
    return tuple([token for token in answered[len(asked) :] if token in specials][:1])


def plain_ids(field: Any, messages: Sequence[Message]) -> list[int]:
    """A conversation as names and what they say; ends where the assistant is to speak."""
    names = {"system": "System", "user": "User", "assistant": "Assistant"}
    lines = [f"{names[one['role']]}: {one['content'].strip()}\n" for one in messages]
    return field.ids("".join(lines) + "Assistant:")
