"""Logs: one JSON object a line on standard error, written a few times a second; on a terminal, lines for a person.

log = Log(level="requests"); log("worker_lost", model="titanic")
{"time": "2026-05-01T12:00:00.123Z", "event": "request", "status": 200, "id": "…", "method": "POST", …}
12:00:00  request  200  POST /predict/titanic  23.3 ms
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Mapping
from typing import Any, Literal

import orjson

from modelworks.core.errors import printable

Level = Literal["requests", "errors", "events"]
_EVERY = 0.2


class Log:
    """A log that does not hold up who writes to it."""

    def __init__(self, level: Level = "requests", file: int = 2) -> None:
        self.level, self.file = level, file
        self.plain = os.isatty(file)
        self._lines: list[bytes] = []
        self._due = False
        self._second, self._prefix = 0, ""

    def __call__(self, event: str, **values: Any) -> None:
        """Write an event."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._prefix = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        if self.plain:
            self._lines.append(f"{time.strftime('%H:%M:%S')}  {told(event, values)}".encode())
        else:
            stamp = f"{self._prefix}.{int(now * 1000) % 1000:03d}Z"
            self._lines.append(orjson.dumps({"time": stamp, "event": event, **values}, default=str))
        if not self._due:
            try:
                asyncio.get_running_loop().call_later(_EVERY, self.flush)
                self._due = True
            except RuntimeError:  # before and after the loop
                self.flush()

    def request(self, status: int, **values: Any) -> None:
        """Write an answered request, where the level wants it."""
        if self.level == "requests" or (self.level == "errors" and status >= 400):
            self("request", status=status, **values)

    def flush(self) -> None:
        """Write what is held."""
        self._due = False
        lines, self._lines = self._lines, []
        if lines:
            with contextlib.suppress(OSError):  # nobody reads: the server goes on
                os.write(self.file, b"\n".join(lines) + b"\n")


def told(event: str, values: Mapping[str, Any]) -> str:
    """An event as a line for a terminal: what a client sent cannot steer it."""
    if event == "request":
        text = f"{values['status']}  {values['method']} {values['path']}  {values['ms']:.1f} ms"
    elif event == "listening":
        text = f"{values['url']}  {', '.join(values['models'])}"
    else:
        text = "  ".join(f"{name} {value}" for name, value in values.items())
    return printable(f"{event:<9} {text}").replace("\n", " ")
