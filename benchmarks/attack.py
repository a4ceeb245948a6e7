"""Attacks on the server: routes without a key, hostile Runs and requests, decompression bombs.

    python benchmarks/attack.py [--quick] [--show]

Keys: every route of the application by every method, and paths that are none: 401 but for /v2/health/*. Artefacts: each
hostile Run is named to /admin/reload, each hostile request sent; it must be refused (or, where the table says
harmless, answered), the old Run must go on answering, no canary may appear, no secret be told. Bombs: peak resident
memory of the server's processes over the level before, which must stay below twice --max-decoded.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import io
import json
import os
import shutil
import socket
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import _peers
import _results
from _serving import RUNS, free_port, serve, server
from damage import artefacts

from modelworks.core.sealed import seal

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND")
DECODED = 32
"""MB, of --max-decoded."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few Runs")
    parser.add_argument("--show", action="store_true", help="each case with its answer")
    parser.add_argument("--run", help="a Run of MNIST, instead of the one that mnist_speed.py leaves")
    args = parser.parse_args()
    run = Path(args.run or _peers.CACHE / "work" / RUNS["MNIST MLP"])
    with tempfile.TemporaryDirectory() as folder:
        shelf = Path(folder) / "runs"
        sound(run, shelf / "sound")
        rows = [
            ["routes × methods without a key", *keys(shelf, Path(folder))],
            ["hostile Runs", *hostile_runs(shelf, Path(folder), args.quick, args.show)],
            ["hostile requests", *hostile_requests(shelf, Path(folder), args.show)],
            ["decompression bombs", *bombs(shelf, args.show)],
        ]
    _results.publish(
        "attack", "Attacks on the server", [_results.table(["attack", "cases", "refused", "told"], rows)],
        notes=[f"bombs: --max-body 8, --max-decoded {DECODED}; memory: sum over the server's processes of the peak resident size over that before."],
        raw=rows, quick=args.quick,
    )  # fmt: skip
    if any(row[1] != row[2] for row in rows):
        raise SystemExit("not all were refused")


def sound(run: Path, to: Path) -> None:
    """A copy of a Run."""
    shutil.copytree(run, to, ignore=shutil.ignore_patterns("checkpoints", "gallery"))
    seal(to, ("checkpoints",))


# ------------------------------------------------------------------------------------------- keys
def keys(shelf: Path, folder: Path) -> list:
    """401 everywhere but health."""
    (folder / "keys").write_text("the-key-of-this-benchmark\n")
    port, wrong = free_port(), []
    with server(
        serve({"m": shelf / "sound"}, port, "--api-key-file", folder / "keys", "--log", "events"),
        port,
        "/v2/health/ready",
    ):
        paths = sorted(routes(port))
        paths += [
            "/nothing",
            "//models",
            "/%2e%2e/models",
            "/v2/health",
            "/v2/healthy",
            "/V2/HEALTH/LIVE",
            "/docs/",
            "/models?x=1",
            "/;/models",
        ]
        cases = [(method, path) for path in paths for method in METHODS]
        for method, path in cases:
            status = asked(port, method, path)
            open_ = path.startswith("/v2/health/")
            if not (status in (200, 405, 503, 404) if open_ else status == 401):
                wrong.append((method, path, status))
    return [
        len(cases),
        len(cases) - len(wrong),
        ", ".join(map(str, wrong[:5])) or f"{len(paths)} paths, {len(METHODS)} methods: 401",
    ]


def routes(port: int) -> set[str]:
    """Every path of the application itself, in the documentation or not, with its parameters filled."""
    from modelworks.serving.app import App, Front
    from modelworks.serving.engine import Options
    from modelworks.serving.guard import Guard
    from modelworks.serving.jobs import Limits
    from modelworks.serving.logs import Log
    from modelworks.serving.model import Model

    models = {"m": Model("m", "m", Options("m"), Limits(), Log("events"), None)}  # type: ignore[arg-type]
    app = App(models, Guard({"localhost"}), Front(), Log("events"))
    filled = {"{model}": "m", "{version}": "1", "{name}": "app.js"}
    found = set()
    for route in app.fastapi.routes:
        path = getattr(route, "path", "")
        for name, value in filled.items():
            path = path.replace(name, value)
        found.add(path)
    return {path for path in found | set(app.fastapi.openapi()["paths"]) if path and "{" not in path}


def asked(port: int, method: str, path: str) -> int:
    """The status of an answer; 0 where the connection is closed without one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.putrequest(method, path)
        connection.putheader("Content-Length", "2")
        connection.endheaders(b"{}")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


# ------------------------------------------------------------------------------------------- artefacts
def hostile_runs(shelf: Path, folder: Path, quick: bool, show: bool) -> list:
    """Each named to a running server."""
    canary, secret = folder / "canary", folder / "secret" / "recipe.yaml"
    secret.parent.mkdir()
    secret.write_text("a secret of this benchmark")
    damages = artefacts.runs(canary, secret)
    names = list(damages)[:: 7 if quick else 1]
    port, wrong = free_port(), []
    with server(
        serve({"m": shelf / "sound"}, port, "--log", "events", "--timeout", 60), port, "/v2/health/ready"
    ) as process:
        before = prediction(port)
        for number, name in enumerate(names):
            evil = shelf / f"evil{number}"
            sound(shelf / "sound", evil)
            damages[name](evil)
            if "manifest" not in name and "pipe" not in name:
                seal(evil, ("checkpoints",))
            status, told = post(port, "/admin/reload", json.dumps({"run": evil.name}).encode())
            harm = (
                canary.exists()
                or b"a secret of" in told
                or prediction(port) != before
                or process.poll() is not None
            )
            if show or harm or status != 422:
                print(f"{status} {name}: {told[:200]!r}{' HARM' if harm else ''}", flush=True)
            if harm or status != 422:
                wrong.append(name)
            shutil.rmtree(evil)
    return [
        len(names),
        len(names) - len(wrong),
        ", ".join(wrong[:5]) or "the old Run went on, no code ran, nothing was told",
    ]


def prediction(port: int) -> bytes:
    """What the sound Run says of a black picture."""
    status, body = post(port, "/predict", json.dumps({"image": [[0] * 28] * 28}).encode())
    return body if status == 200 else b""


def post(
    port: int, path: str, body: bytes, kind: str = "application/json", **headers: str
) -> tuple[int, bytes]:
    """(status, body)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=150)
    try:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", path, body, {"Content-Type": kind, **given})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def hostile_requests(shelf: Path, folder: Path, show: bool) -> list:
    """Each over a connection of its own."""
    canary, secret = folder / "canary", folder / "secret" / "recipe.yaml"
    found, wrong = artefacts.requests(canary, secret), []
    port = free_port()
    with server(serve({"m": shelf / "sound"}, port, "--log", "events"), port, "/v2/health/ready") as process:
        before = prediction(port)
        for name, sent in found.items():
            answer = exchanged(port, sent)
            line = answer.split(b"\r\n", 1)[0]
            refused = not answer or line[9:12] in (b"400", b"403", b"404", b"413", b"415", b"422", b"431")
            refused = (
                refused or b'[{"prediction":null,"error":' in answer
            )  # a table's row, refused in its place
            harm = (
                canary.exists()
                or b"a secret of" in answer
                or b"root:" in answer
                or b"set-cookie" in answer.lower()
            )
            harm = harm or prediction(port) != before or process.poll() is not None
            if show or harm or not refused:
                print(
                    f"{line.decode('latin-1')} {name}: {answer[-150:]!r}{' HARM' if harm else ''}", flush=True
                )
            if harm or not refused:
                wrong.append(name)
    return [len(found), len(found) - len(wrong), ", ".join(wrong[:5]) or "no code ran, nothing was told"]


def exchanged(port: int, sent: bytes) -> bytes:
    """All that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        answer = b""
        try:
            connection.sendall(sent)
            while part := connection.recv(1 << 16):
                answer += part
        except OSError:
            pass
        return answer


# ------------------------------------------------------------------------------------------- bombs
def bombs(shelf: Path, show: bool) -> list:
    """Each alone, with the memory that it took."""
    port, wrong, worst = free_port(), [], 0.0
    flags = ["--max-body", 8, "--max-decoded", DECODED, "--log", "events"]
    with server(serve({"m": shelf / "sound"}, port, *flags), port, "/v2/health/ready") as process:
        found = list(all_bombs())
        for _ in range(3):
            prediction(port)
        for name, body, kind, encoding in found:
            pids = processes(process.pid)
            for pid in pids:
                Path(f"/proc/{pid}/clear_refs").write_text("5")
            before = {pid: resident(pid, "VmRSS") for pid in pids}
            status, told = post(
                port, "/predict", body, kind, **({"Content_Encoding": encoding} if encoding else {})
            )
            grown = sum(max(0.0, resident(pid, "VmHWM") - before[pid]) for pid in pids)
            worst = max(worst, grown)
            refused = status in (400, 413, 422) and grown < 2 * DECODED and processes(process.pid) == pids
            if show or not refused:
                print(f"{status} {grown:.0f} MB {name}, {len(body):,} bytes: {told[:120]!r}", flush=True)
            if not refused:
                wrong.append(f"{name} ({status}, {grown:.0f} MB)")
        assert prediction(port)
    return [
        len(found),
        len(found) - len(wrong),
        ", ".join(wrong[:5]) or f"worst: {worst:.0f} MB over the level before, limit {DECODED}",
    ]


def processes(pid: int) -> list[int]:
    """A process and all below it."""
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        for task in Path(f"/proc/{found[-1]}/task").glob("*/children"):
            waiting += map(int, task.read_text().split())
    return found


def resident(pid: int, field: str) -> float:
    """MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def all_bombs() -> Iterator[tuple[str, bytes, str, str]]:
    """(name, body, content type, content encoding); each unfolds to gigabytes, or to far over the limit."""
    from PIL import Image

    zeros = zlib_of(512 << 20)
    yield "gzip of zeros", gzip_of(512 << 20), "application/json", "gzip"
    yield "gzip of gzip", gzip.compress(gzip_of(512 << 20)), "application/json", "gzip"
    yield "many gzip members", gzip.compress(bytes(20 << 20)) * 50, "application/json", "gzip"
    yield (
        "gzip of JSON",
        gzip.compress(b"[" + b"[]," * (100 << 20 >> 2) + b"[]]", 9),
        "application/json",
        "gzip",
    )
    yield "gzip of CSV", gzip.compress(b"image\n" + b"1\n" * (100 << 20 >> 1), 9), "text/csv", "gzip"
    yield "deflate of zeros", zeros, "application/json", "deflate"
    raw = zlib.compressobj(9, wbits=-15)
    yield "raw deflate", raw.compress(bytes(200 << 20)) + raw.flush(), "application/json", "deflate"
    for kind, mode, side in (
        ("PNG", "1", 30_000),
        ("PNG", "L", 8000),
        ("GIF", "P", 12_000),
        ("TIFF", "1", 20_000),
        ("WEBP", "RGB", 4000),
        ("JPEG", "L", 10_000),
    ):
        file = io.BytesIO()
        more = (
            {"compression": "group4"}
            if kind == "TIFF"
            else {"quality": 1}
            if kind in ("JPEG", "WEBP")
            else {}
        )
        Image.new(mode, (side, side)).save(file, kind, **more)
        yield f"{kind} of {side}²", file.getvalue(), f"image/{kind.lower()}", ""
    claim = struct.pack(">II5B", 60_000, 60_000, 16, 6, 0, 0, 0)
    yield (
        "PNG that claims 60,000²",
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", claim)
        + chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
        + chunk(b"IEND", b""),
        "image/png",
        "",
    )
    head = struct.pack(">II5B", 28, 28, 8, 0, 0, 0, 0)
    text = chunk(b"zTXt", b"k\0\0" + zlib_of(256 << 20))
    profile = chunk(b"iCCP", b"k\0\0" + zlib_of(256 << 20))
    for name, extra in (("a zTXt", text), ("an iCCP", profile)):
        yield (
            f"PNG with {name} of 256 MB",
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IEND", b""),
            "image/png",
            "",
        )
    yield "JSON of empty lists", b"[" + b"[]," * 2_000_000 + b"[]]", "application/json", ""
    yield "JSON of numbers", b'{"image": [[' + b"1.5," * 1_800_000 + b"1]]}", "application/json", ""
    yield (
        "JSON of one wide character",
        ('{"image": "' + "a" * 7_800_000 + '😀"}').encode(),
        "application/json",
        "",
    )
    yield (
        "a multipart of many parts",
        b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n\r\n' * 100_000 + b"--x--\r\n",
        "multipart/form-data; boundary=x",
        "",
    )


def zlib_of(size: int) -> bytes:
    """So many zeros, compressed."""
    out, zip_ = [], zlib.compressobj(9)
    for _ in range(size >> 24):
        out.append(zip_.compress(bytes(1 << 24)))
    return b"".join([*out, zip_.flush()])


def gzip_of(size: int) -> bytes:
    """So many zeros, as gzip."""
    out, zip_ = [], zlib.compressobj(9, wbits=31)
    for _ in range(size >> 24):
        out.append(zip_.compress(bytes(1 << 24)))
    return b"".join([*out, zip_.flush()])


def chunk(name: bytes, body: bytes) -> bytes:
    """A PNG's chunk."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
