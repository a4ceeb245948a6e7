"""Closed-loop HTTP clients on raw sockets: cheap enough to leave the machine to the server. A process of its own.

    python _clients.py --port 8080 --path /predict --bodies bodies.jsonl --clients 50 --seconds 10

Each of `--clients` connections sends a body, waits for the whole answer, sends the next. 127.0.0.1 alone, a bounded
number of clients and seconds. After 429 a client waits `--pause` seconds. The result is one line of JSON: answers by
status, requests a second, milliseconds of the accepted (200) at p50, p90, p99, failures (no answer at all).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import time
from pathlib import Path

MOST_CLIENTS, MOST_SECONDS = 1000, 600


class Client(asyncio.Protocol):
    """One connection after another, one request at a time."""

    def __init__(self, load: Load, start: int) -> None:
        self.load, self.next = load, start
        self.transport: asyncio.Transport | None = None
        self.buffer = bytearray()
        self.sent = 0.0
        self.waiting = False

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        if self.load.over:
            self.transport.close()
            return
        self.next = (self.next + 1) % len(self.load.requests)
        self.sent, self.waiting = time.perf_counter(), True
        self.transport.write(self.load.requests[self.next])

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        at = head.find(b"content-length:")
        if at < 0:
            raise RuntimeError(f"an answer without a length: {bytes(head[:200])!r}")
        stop = head.find(b"\r", at)
        length = int(head[at + 15 : stop if stop > 0 else len(head)])
        if len(self.buffer) < end + 4 + length:
            return
        status = int(head[9:12])
        self.waiting = False
        self.load.answered(status, time.perf_counter() - self.sent, bytes(self.buffer[end + 4 : end + 204]))
        del self.buffer[: end + 4 + length]
        if b"connection: close" in head:
            self.transport.close()
        elif status == 429 and self.load.pause:
            self.load.loop.call_later(self.load.pause, self.ask)
        else:
            self.ask()

    def connection_lost(self, exc) -> None:
        if self.waiting and not self.load.over:
            self.load.failures += 1
        self.buffer.clear()
        self.waiting = False
        self.load.lost(self)


class Load:
    """All clients together."""

    def __init__(self, args: argparse.Namespace, bodies: list[bytes]) -> None:
        self.port, self.pause, self.over, self.failures, self.refused = args.port, args.pause, False, 0, 0
        head = f"POST {args.path} HTTP/1.1\r\nHost: 127.0.0.1:{args.port}\r\nContent-Type: {args.type}\r\n"
        head += "".join(f"{line}\r\n" for line in args.header)
        self.requests = [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
        self.statuses: dict[int, int] = {}
        self.seconds: list[float] = []
        self.samples: dict[int, str] = {}
        self.counting = False

    def answered(self, status: int, seconds: float, body: bytes) -> None:
        if not self.counting or self.over:
            return
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == 200:
            self.seconds.append(seconds)
        if status not in self.samples:
            self.samples[status] = body.decode("utf-8", "replace")

    def lost(self, client: Client) -> None:
        if not self.over:
            self.loop.create_task(self.connect(client.next))

    async def connect(self, start: int) -> None:
        while not self.over:
            try:
                await self.loop.create_connection(lambda: Client(self, start), "127.0.0.1", self.port)
                return
            except OSError:
                self.refused += 1
                await asyncio.sleep(0.05)

    async def run(self, clients: int, warm: float, seconds: float) -> dict:
        self.loop = asyncio.get_running_loop()
        self.told_to_stop = asyncio.Event()
        self.loop.add_signal_handler(signal.SIGINT, self.told_to_stop.set)
        await asyncio.gather(*(self.connect(random.randrange(len(self.requests))) for _ in range(clients)))
        await asyncio.sleep(warm)
        self.counting, started = True, time.perf_counter()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.told_to_stop.wait(), seconds)
        self.over, passed = True, time.perf_counter() - started
        ordered = sorted(self.seconds)
        at = {
            f"p{share}": round(1000 * ordered[min(len(ordered) - 1, int(share / 100 * len(ordered)))], 2) if ordered else None
            for share in (50, 90, 99)
        }  # fmt: skip
        return {
            "per_second": round(self.statuses.get(200, 0) / passed, 1),
            "all_per_second": round(sum(self.statuses.values()) / passed, 1),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "failures": self.failures, "connects_refused": self.refused, "seconds": round(passed, 2), **at,
            "samples": {str(status): text for status, text in self.samples.items()},
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/predict")
    parser.add_argument("--bodies", type=Path, required=True, help="a body a line")
    parser.add_argument("--type", default="application/json")
    parser.add_argument("--header", action="append", default=[])
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--warm", type=float, default=1.0)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds that a client waits after 429")
    args = parser.parse_args()
    if args.clients > MOST_CLIENTS or args.seconds > MOST_SECONDS:
        parser.error(f"at most {MOST_CLIENTS} clients for {MOST_SECONDS} seconds")
    bodies = [line for line in args.bodies.read_bytes().split(b"\n") if line]
    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:
        runner = asyncio.Runner()
    with runner:
        print(
            json.dumps(runner.run(Load(args, bodies).run(args.clients, args.warm, args.seconds))), flush=True
        )


if __name__ == "__main__":
    main()
