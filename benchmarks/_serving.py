"""Servers for benchmarks: ours and others', started, loaded, weighed and ended.

with server(ours(run, port), port, "/v2/health/ready") as process:
    load(port, bodies, clients=50, seconds=10)
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import _peers

RUNS = {
    "MNIST MLP": "mnist/runs/mlp",
    "MNIST CNN": "mnist/runs/cnn",
    "sentiment encoder": "sentiment/runs/sentiment",
}
PEERS = [
    "torch==2.13.0",
    "litserve",
    "pyarrow",
    "safetensors",
    "pyyaml",
    "numpy",
    "pillow",
    "fastapi",
    "uvloop",
    "schemathesis",
    "tritonclient[http]",
]
THREADS = 1


@contextlib.contextmanager
def server(
    command: list, port: int, path: str, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen]:
    """A server that answers `path` with 200, ended with all that it started."""
    log = _peers.CACHE / "work" / "load" / "server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**_peers.settings(THREADS), **(env or {})}
    environment["PYTHONPATH"] = os.pathsep.join([str(_peers.REPOSITORY / "src"), str(_peers.ROOT / "peers")])
    with log.open("wb") as file:
        process = subprocess.Popen(
            list(map(str, command)), stdout=file, stderr=file, env=environment, start_new_session=True
        )
        try:
            for _ in range(1200):
                time.sleep(0.1)
                if process.poll() is not None:
                    break
                try:
                    if urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2).status == 200:
                        break
                except OSError:
                    continue
            if process.poll() is not None:
                raise _peers.Failed(log.read_text("utf-8", "replace")[-2000:])
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def serve(runs: Mapping[str, Any], port: int, *flags: Any) -> list:
    """The command of our server of several Runs."""
    named = [f"{name}={run}" for name, run in runs.items()]
    return [
        sys.executable,
        "-m",
        "modelworks.cli",
        "serve",
        *named,
        "--port",
        port,
        "--threads",
        THREADS,
        *flags,
    ]


def ours(run: Path, port: int, *flags: Any) -> list:
    """The command of our server of one Run, called m."""
    return serve({"m": run}, port, *flags)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def load(port: int, bodies: Path, clients: int, seconds: float, path: str = "/predict", *more: str) -> dict:
    """What the clients saw."""
    command = [
        sys.executable,
        _peers.ROOT / "_clients.py",
        "--port",
        port,
        "--path",
        path,
        "--bodies",
        bodies,
    ]
    command += ["--clients", clients, "--seconds", seconds, *more]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise _peers.Failed(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def memory_mb(pid: int) -> float:
    """Proportional set size of a process and its children, in MB of 10⁶ bytes."""
    total, waiting = 0.0, [pid]
    while waiting:
        one = waiting.pop()
        try:
            for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024 / 1e6
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return total
