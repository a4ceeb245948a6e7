"""A tiny Run and a server of it, started as a user starts it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra serve")

KEY = "a-key-of-tests"


class Server:
    """A running server."""

    def __init__(
        self, process: subprocess.Popen, port: int, log: Path, trust: ssl.SSLContext | None = None
    ) -> None:
        self.process, self.port, self.log, self.trust = process, port, log, trust
        self.url = f"{'https' if trust else 'http'}://127.0.0.1:{port}"

    def ask(
        self, path: str, body: Any = None, method: str | None = None, **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """(status, JSON or text, headers); headers are given with _ for -."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        given.setdefault("Authorization", f"Bearer {KEY}")
        given = {name: value for name, value in given.items() if value}
        if data is not None:
            given.setdefault("Content-Type", "application/json")
        request = urllib.request.Request(self.url + path, data, given, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60, context=self.trust) as answer:
                return answer.status, _read(answer), dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, _read(error), dict(error.headers)

    def wait_ready(self, seconds: float = 150) -> float:
        """Seconds until it is ready."""
        begun = time.monotonic()
        while time.monotonic() < begun + seconds:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if self.ask("/v2/health/ready")[0] == 200:
                    return time.monotonic() - begun
            except OSError:
                pass
            time.sleep(0.02)
        raise AssertionError(self.log.read_text()[-3000:])

    def worker(self) -> int:
        """The worker's process: the server's child is the nursery, and the worker is its child."""
        (nursery,) = _children(self.process.pid)
        (worker,) = _children(nursery)
        return worker

    def events(self, name: str) -> list[dict[str, Any]]:
        """What the log says of an event."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]


def _children(pid: int) -> list[int]:
    found = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(each) for some in found for each in some]


def _read(answer: Any) -> Any:
    body = answer.read()
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the Run `tiny`: a, b and a text → u or v."""
    folder = tmp_path_factory.mktemp("serving")
    rows = "".join(f"{n * 0.37 % 5:.2f},{n % 7},{'uv'[n % 2]}\n" for n in range(60))
    (folder / "rows.csv").write_text("a,b,y\n" + rows)
    flags = ["--train.steps=2", "--evaluate.bootstrap=0", "--fields.b=category", "--quiet"]
    command = [
        sys.executable,
        "-m",
        "modelworks.cli",
        "train",
        "rows.csv",
        "--target=y",
        "--model=mlp",
        "--name=tiny",
    ]
    subprocess.run([*command, *flags], cwd=folder, check=True, env=environment())
    return folder / "runs"


def environment() -> dict[str, str]:
    """One thread, our sources."""
    source = str(Path(__file__).parents[2] / "src")
    return {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def server(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of `tiny`, with a key."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "keys").write_text(f"# for tests\n{KEY}\n")
    with serving(shelf / "tiny", folder, "--api-key-file", str(folder / "keys")) as found:
        yield found


@pytest.fixture(scope="session")
def start() -> Any:
    """Starts another server: `with start(run, folder, *flags) as server`; several Runs as a tuple."""
    return serving


@contextlib.contextmanager
def serving(
    run: Path | tuple[Path, ...], folder: Path, *flags: str, trust: ssl.SSLContext | None = None
) -> Iterator[Server]:
    """A server until the test is over. `trust`: what its certificate is checked with."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "modelworks.cli",
        "serve",
        *map(str, run if isinstance(run, tuple) else (run,)),
        "--port",
        str(port),
        "--threads",
        "1",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, *flags], stderr=log, env=environment(), cwd=folder)
        found = Server(process, port, folder / "log", trust)
        try:
            found.wait_ready()
            yield found
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(90)
