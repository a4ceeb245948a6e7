"""A column of conversations, as tokens that know which of them are the assistant's: those are what is learned.

    fields: {messages: {kind: chat, parts: {instruction: user, input: user, output: assistant}}}

Each row is a list of messages or JSON of one (see _messages.py), or is put together from several columns (`parts`).
A chat template turns it into text. What is said cannot pass itself off as a special token: those of the template
count, the same words in a message are read as plain text.
Stored are ids, and ~id (which is below zero) for the assistant's tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import torch
from pydantic import PositiveInt, PrivateAttr

from modelworks.core.errors import UserError
from modelworks.core.field import Encoded, Field, Layout
from modelworks.fields._cells import is_text, plain
from modelworks.fields._chat_template import NAMED, Message, render
from modelworks.fields._messages import NoConversation, messages

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from modelworks.core.profile import ColumnProfile
    from modelworks.fields.corpus import Corpus

_SAFE = 0xE000  # private-use characters stand for special tokens within messages while a template runs
_OWN = ("tokens", "vocabulary", "length", "end", "specials", "tokenizer")


class Chat(Field):
    """Conversations."""

    adopts: ClassVar[tuple[str, ...]] = ("corpus",)
    lends: ClassVar[str] = "corpus"

    parts: dict[str, Literal["system", "user", "assistant", "messages"]] = {}
    """Columns that together are a row: column → who says it, in that order; what two user columns say is one message.
    Empty: the field's own column holds whole conversations."""
    template: str | None = None
    """A Jinja chat template, `chatml` or `plain`; None: the tokenizer's own, else plain."""
    answers: Literal["all", "last"] = "all"
    """Which of the assistant's messages are learned."""
    tokens: Literal["char", "byte", "bpe", "wordpiece", "unigram", "file"] = "bpe"
    """What a token is, as in `kind: corpus`; a model that training starts from brings its own."""
    vocabulary: PositiveInt = 8192
    """Most tokens, special ones included."""
    length: PositiveInt = 1024
    """Most tokens of a conversation; what is beyond is cut and counted."""
    end: bool | str = True
    """Whether an end-of-document token follows the last answer where the template writes none."""
    specials: list[str] = []
    """More special tokens, such as <|im_start|>."""
    tokenizer: Path | None = None
    """tokens: file only: a tokenizer.json."""

    _corpus: Any = PrivateAttr(default=None)

    @classmethod
    def recognise(cls, profile: ColumnProfile) -> float:
        # No other field reads them; a text that merely quotes such JSON is not begun by it.
        said = [text.lstrip("[ '\"\\") for text in profile.examples if text.lstrip()[:1] in "[{"]
        known = sum(one.startswith("{") and ("role" in one or "from" in one) for one in said)
        return 0.95 if profile.examples and known == len(profile.examples) else 0.0

    # ------------------------------------------------------------------ learning
    def fit(self, chunks: Iterable[pa.Array], root: Path | None = None) -> Chat:
        from modelworks.fields.corpus import Corpus

        def texts() -> Iterator[pa.Array]:
            for chunk in chunks:
                for value in _values(chunk):
                    try:
                        yield pa.array([one["content"] for one in messages(value, self.parts)], pa.string())
                    except NoConversation:
                        continue  # encode tells of it

        learned = Corpus(**{name: getattr(self, name) for name in _OWN}).fit(texts())
        return self.adopt(learned)

    def adopt(self, other: Field) -> Chat:
        return self.with_state({**other.state, "template": self._template(other.state)})

    def _template(self, state: Mapping[str, Any]) -> str:
        if self.template is None:
            return state.get("template") or NAMED["plain"]
        return NAMED.get(self.template, self.template)

    def with_state(self, state: Mapping[str, Any]) -> Chat:
        copy = super().with_state(state)
        copy._corpus = None
        return copy

    @property
    def corpus(self) -> Corpus:
        """The same tokens, for plain text."""
        if self._corpus is None:
            from modelworks.fields.corpus import Corpus

            self._corpus = Corpus(**{name: getattr(self, name) for name in _OWN}).with_state(self._state)
        return self._corpus

    # ------------------------------------------------------------------ the modality
    @property
    def layout(self) -> Layout:
        return Layout("tokens", size=len(self._state["bytes"]), length=self.length)

    @property
    def special_ids(self) -> dict[str, int]:
        """Special tokens by name."""
        return self.corpus.special_ids

    def ids(self, text: str, special: bool = False) -> list[int]:
        """The tokens of a plain text."""
        return self.corpus.ids(text, special)

    def prompt(self, said: Sequence[Message]) -> list[int]:
        """The tokens of a conversation, up to where the assistant is to speak."""
        return self._tokens(
            render(self._state["template"], self._masked(said), prompt=True, tokens=self._named)
        )

    def encode(self, column: pa.Array, root: Path | None = None) -> Encoded:
        rows: list[np.ndarray] = []
        bad: dict[int, str] = {}
        changed: dict[str, list[int]] = {}
        for row, value in enumerate(_values(column)):
            try:
                ids, notes = self._row(messages(value, self.parts))
            except (NoConversation, UserError) as error:
                bad[row], ids, notes = str(error)[:200], np.ones(2, np.int32), []
            rows.append(ids)
            for note in notes:
                changed.setdefault(note, []).append(row)
        lengths = np.array([len(row) for row in rows], np.int64)
        values = np.concatenate(rows) if rows else np.zeros(0, np.int32)
        return Encoded(values, lengths, bad, {note: np.array(where) for note, where in changed.items()})

    def _row(self, said: Sequence[Message]) -> tuple[np.ndarray, list[str]]:
        """(ids, with ~id for what the assistant says; what was changed)."""
        notes = []
        pieces, alone = self._pieces(said)
        if alone:
            notes.append("only the last answer is learned: the template rewrites earlier ones")
        found = [
            ~np.array(ids, np.int32) if answer else np.array(ids, np.int32)
            for text, answer in pieces
            for ids in [self._tokens(text)]
        ]
        end = self._state["end"]
        ids = np.concatenate(found)
        # A template that closes answers by a special token (and perhaps a line's end) needs no other.
        if end >= 0 and not any(int(~code) in self._special_codes for code in ids[-2:]):
            ids = np.append(ids, np.int32(~end))
        if len(ids) > self.length:
            notes.append("truncated")
            ids = ids[: self.length]
        if not (ids[1:] < 0).any():
            raise NoConversation(f"has no answer within {self.length:,} tokens")
        return ids, notes

    def _pieces(self, said: Sequence[Message]) -> tuple[list[tuple[str, bool]], bool]:
        """Consecutive pieces of text and whether the assistant says them; whether only the last could be told apart."""
        spoken = [at for at, one in enumerate(said) if one["role"] == "assistant" and one["content"].strip()]
        if not spoken:
            raise NoConversation("has no answer")
        shown = self._masked(said)
        template = self._state["template"]
        done, pieces = "", []
        for at in spoken if self.answers == "all" else spoken[-1:]:
            before = render(template, shown[:at], prompt=True, tokens=self._named)
            after = render(template, shown[: at + 1], tokens=self._named)
            if not (before.startswith(done) and after.startswith(before)):
                break
            pieces += [(before[len(done) :], False), (after[len(before) :], True)]
            done = after
        else:
            return [piece for piece in pieces if piece[0]], False
        before = render(template, shown[: spoken[-1]], prompt=True, tokens=self._named)
        after = render(template, shown[: spoken[-1] + 1], tokens=self._named)
        if not after.startswith(before):
            raise NoConversation("the template writes an answer otherwise than it asks for one")
        return [(before, False), (after[len(before) :], True)], True

    # ------------------------------------------------------------------ special tokens
    @property
    def _named(self) -> dict[str, str]:
        """What templates call bos_token and eos_token."""
        names = {code: name for name, code in self._state["specials"].items()}
        end = names.get(self._state["end"], "")
        return {"eos_token": end, **self._state.get("named", {})}

    @property
    def _special_codes(self) -> set[int]:
        return set(self._state["specials"].values())

    def _masked(self, said: Sequence[Message]) -> list[Message]:
        """Messages in which the names of special tokens are other characters, until the template has run."""
        names = sorted(self._state["specials"], key=len, reverse=True)
        masked = []
        for one in said:
            content = one["content"]
            for at, name in enumerate(names):
                content = content.replace(name, chr(_SAFE + at)) if name else content
            masked.append({**one, "content": content})
        return masked

    def _tokens(self, text: str) -> list[int]:
        """The tokens of a rendered text; masked names are plain text again."""
        names = sorted(self._state["specials"], key=len, reverse=True)
        masks = {chr(_SAFE + at): name for at, name in enumerate(names)}
        if not any(mask in text for mask in masks):
            return self.corpus.ids(text, special=True)
        found: list[int] = []
        for part, special in _cut(text, names):
            if special:
                found.append(self._state["specials"][part])
            else:
                found += self.corpus.ids("".join(masks.get(letter, letter) for letter in part))
        return found

    def contract(self) -> dict[str, Any]:
        told = self.corpus.contract()
        # A prompt is what the template makes of the messages; special tokens that it writes count as such.
        return {
            **told,
            "template": self._state["template"],
            "named": self._named,
            "written_specials": True,
            "end": -1,
        }

    def decode(self, values: np.ndarray | Sequence[Any], special: bool = False) -> list[str]:
        """Rows of ids → texts."""
        rows = [np.asarray(row, np.int64).reshape(-1) for row in values]
        return self.corpus.decode([np.where(row < 0, ~row, row) for row in rows], special)

    def prepare(self, values: Tensor) -> Tensor:
        values = values.to(torch.int64)
        return torch.where(values < 0, ~values, values)


def _values(column: pa.Array) -> list[Any]:
    """Conversations as Python has them; 0 for what cannot be one."""
    column = plain(column)
    kind = column.type
    if is_text(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_struct(kind):
        return column.to_pylist()
    return [0 if there else None for there in column.is_valid().to_pylist()]


def _cut(text: str, names: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Pieces of a text and whether each is a special token."""
    for part in re.split("(" + "|".join(map(re.escape, names)) + ")", text):
        if part:
            yield part, part in names
