"""Process: the front's end of one worker process: started, told, heard, ended.

process = await Process.start("titanic", "runs/titanic", Options("titanic"), on_frame, on_lost)
process.metadata; process.send(Frame("predict", 1, …), bodies)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any

from modelworks.core.errors import UserError
from modelworks.serving.engine import Options
from modelworks.serving.nursery import Nursery
from modelworks.serving.wire import Broken, Frame, Parser, pack

START_SECONDS = 120.0
"""Longest that a worker may take to be ready."""


class Process(asyncio.Protocol):
    """One worker."""

    def __init__(
        self, on_frame: Callable[[Process, Frame], None], on_lost: Callable[[Process], None]
    ) -> None:
        self.on_frame, self.on_lost = on_frame, on_lost
        self.metadata: dict[str, Any] = {}
        self.pid = 0
        self.lost = False
        self.flight: dict[int, Any] = {}
        """What was sent and not yet answered, by the id of its frame: kept for model.py."""
        self.stats: dict[str, Any] = {}
        """The last figures that it told."""
        self._ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._parser = Parser()
        self._transport: asyncio.WriteTransport | None = None
        self._handle = -1
        self._ended = asyncio.Event()

    @classmethod
    async def start(
        cls,
        nursery: Nursery,
        path: str,
        options: Options,
        on_frame: Callable[[Process, Frame], None],
        on_lost: Callable[[Process], None],
    ) -> Process:
        """A worker that is ready; raises UserError with its reason where it is not to be."""
        process = cls(on_frame, on_lost)
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process.pid = await nursery.fork(theirs, options, path)
        except BaseException:
            ours.close()
            raise
        with contextlib.suppress(OSError):  # it may have ended already
            process._handle = os.pidfd_open(process.pid)
        await asyncio.get_running_loop().create_connection(lambda: process, sock=ours)
        try:
            process.metadata = await asyncio.wait_for(asyncio.shield(process._ready), START_SECONDS)
        except TimeoutError:
            process.kill()
            raise UserError(f"{path}: not ready after {START_SECONDS:.0f} s") from None
        except BaseException:
            process.kill()
            raise
        return process

    def send(self, frame: Frame, bodies: Sequence[bytes | memoryview] | None = None) -> None:
        """Write a frame; one to a lost worker is dropped, since `on_lost` tells what was in flight."""
        if self._transport is not None and not self.lost:
            self._transport.writelines(pack(frame, bodies))

    def kill(self) -> None:
        """End it now. By a handle: its number may be another's by now."""
        if self._handle >= 0 and not self.lost:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    async def end(self, seconds: float) -> None:
        """Let it finish what it has, for so long at the most."""
        self.send(Frame("drain"))
        try:
            await asyncio.wait_for(self._ended.wait(), seconds)
        except TimeoutError:
            self.kill()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), 5)

    # ------------------------------------------------------------------ asyncio's side
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._parser.feed(data):
                if self._ready.done():
                    self.on_frame(self, frame)
                elif frame.kind == "ready":
                    self._ready.set_result(frame.meta)
                elif frame.kind == "error":
                    self._ready.set_exception(UserError(frame.meta.get("message", "no reason told")))
        except Broken:
            self.kill()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._ended.set()
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        if not self._ready.done():
            self._ready.set_exception(UserError("the worker ended before it was ready"))
            self._ready.exception()  # heard, whoever waits
            return
        self.on_lost(self)
