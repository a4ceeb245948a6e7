"""Wire: what the front and a worker say to each other, frame by frame, over a socket pair. Never pickle.

    channel.send(Frame("predict", 7, {"items": [["application/json", 28]]}, b'{"text": "好"}'))
    for frame in channel.receive(): ...          # a worker: blocks until something came
    for frame in Parser().feed(data): ...        # the front: what asyncio was handed

A frame is 12 bytes (lengths of head and body, little endian), the head as JSON `[kind, id, meta]`, and a raw body.

    front → worker   predict · generate · cancel · drain
    worker → front   ready · answer · chunk · error · stats
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from modelworks.core.errors import need

_LENGTHS = struct.Struct("<IQ")
_CHUNK = 1 << 20
HEAD_MOST = 64 << 20
BODY_MOST = 1 << 32
"""Both ends are ours: beyond these a peer has gone mad and the connection is given up."""


class Frame(NamedTuple):
    """One message."""

    kind: str
    id: int = 0
    """Whom it is about: given by the front, returned by the worker."""
    meta: dict[str, Any] = {}
    """Anything JSON."""
    body: bytes | memoryview = b""


class Broken(ConnectionError):
    """The other end is gone, or speaks no frames."""


def pack(frame: Frame, bodies: Sequence[bytes | memoryview] | None = None) -> list[bytes | memoryview]:
    """A frame as buffers to write one after another; `bodies`: several that make up the body, not joined."""
    head = need("orjson", "serve").dumps([frame.kind, frame.id, frame.meta])
    parts = [frame.body] if bodies is None else list(bodies)
    return [_LENGTHS.pack(len(head), sum(map(len, parts))) + head, *(part for part in parts if len(part))]


class Parser:
    """Bytes in whatever pieces they come → frames."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._wanted = _LENGTHS.size
        self._loads = need("orjson", "serve").loads

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Frame]:
        """The frames that these bytes complete. Bodies are bytes of their own."""
        self._held += data
        # A body of many megabytes comes in many pieces: nothing is looked at before it can be whole.
        while len(self._held) >= self._wanted:
            head, body = _LENGTHS.unpack_from(self._held)
            if head > HEAD_MOST or body > BODY_MOST:
                raise Broken("not a frame")
            start = _LENGTHS.size + head
            self._wanted = start + body
            if len(self._held) < self._wanted:
                return
            try:
                kind, number, meta = self._loads(memoryview(self._held)[_LENGTHS.size : start])
            except ValueError:
                raise Broken("not a frame") from None
            frame = Frame(kind, number, meta, bytes(memoryview(self._held)[start : self._wanted]))
            del self._held[: self._wanted]
            self._wanted = _LENGTHS.size
            yield frame


class Channel:
    """A worker's end: blocking."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._parser = Parser()

    def send(self, frame: Frame, bodies: Sequence[bytes | memoryview] | None = None) -> None:
        """Write a frame; raises Broken when the front is gone."""
        try:
            for part in pack(frame, bodies):
                self.connection.sendall(part)
        except OSError as error:
            raise Broken(str(error)) from None

    def receive(self, seconds: float | None = None) -> list[Frame]:
        """The frames that have come: at least one, or none when `seconds` have passed (0: look and go on)."""
        frames: list[Frame] = []
        while not frames:
            if seconds is not None and not select.select([self.connection], [], [], seconds)[0]:
                return []
            try:
                data = self.connection.recv(_CHUNK)
            except OSError as error:
                raise Broken(str(error)) from None
            if not data:
                raise Broken("the front is gone")
            frames = list(self._parser.feed(data))
        return frames
