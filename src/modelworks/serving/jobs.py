"""Jobs: what waits for a model, and the bounds of waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from modelworks.serving.limits import Refused
from modelworks.serving.wire import Frame


@dataclass(frozen=True)
class Limits:
    """Bounds of what waits."""

    queue: int = 256
    """Most requests that wait for one model or are being answered by it; beyond: 429. A request that is taken waits
    for no more than so many others."""
    seconds: float = 30.0
    """Longest that a request waits for its answer, or a stream for its next piece; beyond: 504."""
    gather: float = 0.0
    """Longest that a request waits for others to share its batch while the worker is idle, in seconds."""
    held: int = 512 << 20
    """Most bytes of bodies that wait, all together; beyond: 429."""


class Answer(NamedTuple):
    """A finished answer."""

    status: int
    content_type: str
    body: bytes | memoryview
    more: dict[str, Any]


class Job:
    """One request that waits or is being answered."""

    __slots__ = (
        "attempts",
        "body",
        "content_type",
        "deadline",
        "form",
        "frames",
        "future",
        "gone",
        "meta",
        "more",
        "number",
    )

    def __init__(
        self, form: str, content_type: str, body: bytes, more: dict[str, Any], deadline: float
    ) -> None:
        self.form, self.content_type, self.body, self.more = form, content_type, body, more
        self.deadline = deadline
        self.attempts = 0
        self.number = 0
        self.future: asyncio.Future[Answer] | None = None
        self.gone: Callable[[], bool] | None = None
        """Tells whether the client has hung up."""
        self.frames: asyncio.Queue[Frame | Refused] | None = None
        """A stream's pieces; None for a request answered at once."""
        self.meta: dict[str, Any] = {}

    @property
    def over(self) -> bool:
        return self.future is not None and self.future.done()

    def refuse(self, refused: Refused) -> None:
        """End it with a reason."""
        if self.frames is not None:
            self.frames.put_nowait(refused)
        elif self.future is not None and not self.future.done():
            self.future.set_exception(refused)
