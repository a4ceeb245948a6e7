"""Two servers behind nginx by deploy/nginx.conf: one is stopped, then killed, and no client loses its answer."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
pytestmark = pytest.mark.skipif(nginx is None, reason="nginx is not installed")
CONF = Path(__file__).parents[2] / "deploy" / "nginx.conf"
KEY = "a-key-of-tests"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def proxy(folder: Path, *ports: int) -> Iterator[int]:
    """nginx by our file, before servers at these ports; its own port."""
    text, own = CONF.read_text(), free_port()
    for written, port in zip((8081, 8082, 8080), (*ports, own), strict=True):
        assert f"127.0.0.1:{written}" in text
        text = text.replace(f"127.0.0.1:{written}", f"127.0.0.1:{port}")
    (folder / "nginx.conf").write_text("daemon off;\n" + text)
    with (folder / "nginx.log").open("wb") as log:
        process = subprocess.Popen([str(nginx), "-p", folder, "-c", "nginx.conf"], stderr=log)
        try:
            for _ in range(200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", own), timeout=1):
                    break
                time.sleep(0.05)
            yield own
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def ask(port: int, key: str = KEY) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict",
        json.dumps({"a": 1.0, "b": 3}).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {key}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, None


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["leaves", "dies"])
def test_no_answer_is_lost_when_a_server(
    how: signal.Signals, shelf: Path, tmp_path: Path, start: Any
) -> None:
    folders = [tmp_path / name for name in ("one", "two", "proxy")]
    for folder in folders:
        folder.mkdir()
        (folder / "keys").write_text(KEY)
    found: list[Any] = []
    stop = threading.Event()

    def client(port: int) -> None:
        while not stop.is_set():
            try:
                found.append(ask(port)[0])
            except OSError as error:
                found.append(error)

    def more(count: int) -> None:
        until = time.monotonic() + 60
        for wanted in range(len(found), len(found) + count):
            while len(found) <= wanted and time.monotonic() < until:
                time.sleep(0.01)

    run, flags = shelf / "tiny", ("--api-key-file", "keys")
    with (
        start(run, folders[0], *flags) as one,
        start(run, folders[1], *flags) as two,
        proxy(folders[2], one.port, two.port) as port,
    ):
        assert ask(port)[0] == 200
        assert ask(port, "wrong")[0] == 401
        clients = [threading.Thread(target=client, args=(port,)) for _ in range(4)]
        for each in clients:
            each.start()
        more(100)
        one.process.send_signal(how)
        one.process.wait(60)
        more(100)
        stop.set()
        for each in clients:
            each.join()
        assert set(found) == {200}
        assert len(found) >= 200
