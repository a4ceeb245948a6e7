"""Faults under load: hot reloads, killed workers, SIGTERM, a Run that cannot be loaded.

    python benchmarks/faults.py [--quick] [--reloads 50] [--kills 20] [--run MODEL=RUN]

Closed-loop clients ask all the while. Asserted: no request fails over a reload or a kill, a worker is back within 5 s,
a broken Run leaves the old one answering, and at SIGTERM every request that was sent is answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import _peers
import _results
from _serving import RUNS, free_port, serve, server
from load import bodies

CLIENTS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three reloads, two kills")
    parser.add_argument("--reloads", type=int, default=50)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--model", choices=tuple(RUNS), default="MNIST MLP")
    parser.add_argument("--run", help="a Run of this model, instead of the one that mnist_speed.py leaves")
    args = parser.parse_args()
    reloads, kills = (3, 2) if args.quick else (args.reloads, args.kills)
    shelf = _peers.CACHE / "work" / "faults"
    shutil.rmtree(shelf, ignore_errors=True)
    shelf.mkdir(parents=True)
    run = Path(args.run or _peers.CACHE / "work" / RUNS[args.model])
    for name in ("one", "two", "broken"):
        shutil.copytree(run, shelf / name, ignore=shutil.ignore_patterns("checkpoints"))
    with (shelf / "broken" / "model.safetensors").open("r+b") as file:
        file.write(b"not what the manifest says")
    asked = bodies(args.model)
    rows = [
        ["hot reloads", *reloaded(shelf, asked, reloads)],
        ["broken Runs refused", *refused(shelf, asked)],
        ["workers killed", *killed(shelf, asked, kills)],
        ["SIGTERM", *ended(shelf, asked)],
    ]
    _results.publish(
        "faults", "Faults under load",
        [_results.table(["fault", "times", "requests meanwhile", "failed", "seconds, worst"], rows)],
        notes=[f"{CLIENTS} closed-loop clients, {args.model}; seconds: a reload's; until /v2/health/ready says 200 again after a kill; from SIGTERM to the end."],
        raw=rows, quick=args.quick,
    )  # fmt: skip


class Clients:
    """Clients that go on until they are told to stop."""

    def __init__(self, port: int, asked: Path) -> None:
        command = [sys.executable, _peers.ROOT / "_clients.py", "--port", port, "--bodies", asked]
        command += ["--clients", CLIENTS, "--seconds", 600, "--warm", 0]
        self.process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
        time.sleep(1.5)

    def stop(self) -> tuple[int, int, dict]:
        """(requests, failed, statuses)."""
        self.process.send_signal(signal.SIGINT)
        found = json.loads(self.process.communicate(timeout=30)[0].splitlines()[-1])
        statuses = found["statuses"]
        failed = found["failures"] + sum(count for status, count in statuses.items() if status != "200")
        return sum(statuses.values()), failed, found


def post(port: int, path: str, value: dict) -> tuple[int, dict]:
    """(status, JSON) of an answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(value).encode())
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def get(port: int, path: str) -> int:
    """Status."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def started(shelf: Path, port: int):
    """Our server of the Run `one`."""
    return server(serve({"m": shelf / "one"}, port, "--log", "events"), port, "/v2/health/ready")


def reloaded(shelf: Path, asked: Path, times: int) -> list:
    """New Runs while clients ask."""
    port, worst = free_port(), 0.0
    with started(shelf, port):
        clients = Clients(port, asked)
        for number in range(times):
            begun = time.monotonic()
            status, told = post(port, "/admin/reload", {"model": "m", "run": ("two", "one")[number % 2]})
            assert status == 200, told
            worst = max(worst, time.monotonic() - begun)
        requests, failed, found = clients.stop()
    assert not failed, found
    return [times, f"{requests:,}", failed, f"{worst:.2f}"]


def refused(shelf: Path, asked: Path) -> list:
    """A Run whose weights are not those of its manifest, and one that is not there."""
    port = free_port()
    with started(shelf, port):
        clients = Clients(port, asked)
        for name in ("broken", "no such Run", "../../../../etc"):
            status, told = post(port, "/admin/reload", {"model": "m", "run": name})
            assert status == 422 and "error" in told, (status, told)
            assert get(port, "/v2/health/ready") == 200
        requests, failed, found = clients.stop()
    assert not failed, found
    return [3, f"{requests:,}", failed, "–"]


def killed(shelf: Path, asked: Path, times: int) -> list:
    """SIGKILL to the worker while clients ask."""
    port, worst = free_port(), 0.0
    with started(shelf, port) as process:
        clients = Clients(port, asked)
        for _ in range(times):
            os.kill(worker(process.pid), signal.SIGKILL)
            begun = time.monotonic()
            time.sleep(0.01)
            while get(port, "/v2/health/ready") != 200:
                time.sleep(0.02)
            worst = max(worst, time.monotonic() - begun)
            time.sleep(0.3)
        requests, failed, found = clients.stop()
    assert not failed, found
    assert worst <= 5, worst
    return [times, f"{requests:,}", failed, f"{worst:.2f}"]


def worker(front: int) -> int:
    """The worker: the front's child is the nursery, and the worker is its child."""
    (nursery,) = children(front)
    (found,) = children(nursery)
    return found


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    return [
        int(each)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for each in (task / "children").read_text().split()
    ]


def ended(shelf: Path, asked: Path) -> list:
    """SIGTERM while requests are being answered: each has its answer, and the server ends with 0."""
    port = free_port()
    requests = asked.read_bytes().splitlines()[:50]
    with started(shelf, port) as process:
        statuses = asyncio.run(asked_then_ended(port, requests, process))
        begun = time.monotonic()
        code = process.wait(30)
        seconds = time.monotonic() - begun
    failed = sum(status != 200 for status in statuses)
    assert not failed and code == 0, (statuses, code)
    return [1, f"{len(statuses):,}", failed, f"{seconds:.2f}"]


async def asked_then_ended(port: int, requests: list[bytes], process: subprocess.Popen) -> list[int]:
    """The statuses of requests that were all sent before the signal."""
    sent = []
    for body in requests:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        sent.append((reader, writer))
    await asyncio.gather(*(writer.drain() for _, writer in sent))
    # The server has read them by then; what lies unread in a socket nobody can answer.
    await asyncio.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    statuses = []
    for reader, writer in sent:
        line = await asyncio.wait_for(reader.readline(), 30)
        statuses.append(int(line.split()[1]) if line else 0)
        writer.close()
    return statuses


if __name__ == "__main__":
    main()
