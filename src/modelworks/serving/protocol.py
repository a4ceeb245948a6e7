"""Protocol: uvicorn's HTTP/1.1 with bounds that it does not have: bytes of a head, and seconds that one may take."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_MOST = 64 << 10
"""Bytes of a request's line and headers; beyond: 431."""
HEAD_SECONDS = 20.0
"""Seconds from a head's first byte, or a connection's begin, to the head's end."""


class TooLong(Exception):
    """A head of too many bytes."""


class Protocol(HttpToolsProtocol):
    """A connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._size = 0
        self._heading = self._began = False
        self.since = asyncio.get_running_loop().time()
        """When the head that has not ended began; 0 where there is none."""

    def data_received(self, data: bytes) -> None:
        self._began = False
        super().data_received(data)
        # Of the data in which a head begins it is not known how much is the head's: as much as one read, at most.
        if self._heading and not self._began and self.parser is not None:
            self._size += len(data)
            if self._size > HEAD_MOST:
                self._refuse()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._heading = self._began = True
        self._size = 0
        self.since = self.since or self.loop.time()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > HEAD_MOST:
            raise TooLong

    def on_headers_complete(self) -> None:
        self._heading, self._size, self.since = False, 0, 0.0
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEAD_MOST:
            raise TooLong
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        # httptools tells of any exception in a callback as one of its own.
        self._refuse() if self._long() else super().send_400_response(msg)

    def _long(self) -> bool:
        headers = self.headers or []
        return (
            sum(len(name) + len(value) for name, value in headers) + len(getattr(self, "url", b""))
            > HEAD_MOST
        )

    def _refuse(self) -> None:
        body = b'{"error":"the request\'s line and headers are too long"}'
        head = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n"
        self.transport.write(head + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        self.transport.close()


def close_slow(connections: Any, now: float) -> None:
    """Close the connections whose head does not end."""
    for connection in list(connections):
        if isinstance(connection, Protocol) and connection.since and now - connection.since > HEAD_SECONDS:
            connection.transport.close()
