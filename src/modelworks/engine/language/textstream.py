"""Text stream: tokens come one by one, text leaves as soon as it is certain.

    stream = TextStream(field.decode, prompt_ids, stop=["\\n\\n"])
    for token in tokens: print(stream.push(token), end="")
    print(stream.flush())

A character whose bytes lie in several tokens waits for the last of them; text that may be the beginning of a stop
string waits until it is or is not. What has left is never taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

HALF = "\ufffd"
"""What decoders write for bytes that are no character, or not yet one."""
_BEHIND = 8
"""Tokens before the new ones that are decoded with them: some decoders write a token by what it follows."""
_LONGEST = 24
"""Tokens that are decoded at a time; a longer text moves on."""


class TextStream:
    """One row's text."""

    def __init__(
        self,
        decode: Callable[[list[list[int]]], list[str]],
        prompt: Sequence[int] = (),
        stop: Sequence[str] = (),
    ) -> None:
        self._decode, self._stop = decode, [text for text in stop if text]
        self._window = list(prompt[-_BEHIND:])
        self._shown = len(self._text()) if self._window else 0
        self._held = ""
        self.stopped = False
        """Whether a stop string has come; nothing follows it."""

    def push(self, token: int) -> str:
        """One more token; the text that became certain."""
        self._window.append(token)
        text = self._text()
        # The last character may be in the making. Tokens that stand for single bytes show up to three halves.
        certain = len(text)
        while certain > max(self._shown, len(text) - 3) and text[certain - 1] == HALF:
            certain -= 1
        new, self._shown = text[self._shown : certain], max(self._shown, certain)
        if certain == len(text) and len(self._window) > _LONGEST:
            self._window = self._window[-_BEHIND:]
            self._shown = len(self._text())
        return self._out(new)

    def flush(self) -> str:
        """The rest, at the end of the row."""
        text = self._out(self._text()[self._shown :]) if self._window else ""
        rest, self._held = self._held, ""
        self._window, self._shown = [], 0
        return text + ("" if self.stopped else rest)

    def _text(self) -> str:
        return self._decode([self._window])[0]

    def _out(self, new: str) -> str:
        if self.stopped:
            return ""
        text = self._held + new
        found = min((at for stop in self._stop if (at := text.find(stop)) >= 0), default=-1)
        if found >= 0:
            self.stopped, self._held = True, ""
            return text[:found]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """How many of the last characters of a text may be the first of the stop string."""
    return next(
        (size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0
    )
