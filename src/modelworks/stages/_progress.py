"""One line on a terminal that says what is being done; nothing elsewhere."""

from __future__ import annotations

import sys


class Line:
    """`with Line() as line: line.note("reading")`."""

    def __init__(self, quiet: bool = False) -> None:
        self._on = not quiet and sys.stderr.isatty()

    def __call__(self, what: str, done: int, of: int) -> None:
        self.note(f"{what} {done:,}/{of:,}")

    def note(self, text: str) -> None:
        """Replace the line."""
        if self._on:
            print(f"\r\x1b[K  {text} …", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        if self._on:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def silent(text: str) -> None:
    """Say nothing."""
