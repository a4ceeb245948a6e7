"""Artefacts made to harm a server: Runs that name code or other files, and requests that carry them.

`runs(canary)` gives name → what is done to a copy of a sound Run; `requests(canary)` name → bytes sent to the server.
The canary is a file that must never come to be, or a secret that must never be told.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

from modelworks.core.sealed import seal, sha256

Damage = Callable[[Path], None]


class Touch:
    """Pickled: touches a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def zip_of(names: dict[str, bytes]) -> bytes:
    """A zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out:
        for name, body in names.items():
            out.writestr(name, body)
    return file.getvalue()


def runs(canary: Path, secret: Path) -> dict[str, Damage]:
    """Name → damage; every Run is sealed anew afterwards, so that its manifest vouches for it."""
    pickled = pickle.dumps(Touch(canary))
    slip = zip_of({"archive/data.pkl": pickled, f"../../..{canary}": b"x", "archive/version": b"3\n"})
    found: dict[str, Damage] = {}

    def written(label: str, name: str, body: bytes) -> None:
        found[label] = lambda run: (run / name).write_bytes(body) and None

    for name in (
        "model.safetensors",
        "fields/arrays.safetensors",
        "fields/fields.json",
        "recipe.yaml",
        "data.json",
        "compression.json",
    ):
        written(f"pickle as {name}", name, pickled)
    written("torch's zip as weights", "model.safetensors", slip)
    written("zip slip as arrays", "fields/arrays.safetensors", slip)
    tags = (
        f'!!python/object/apply:os.system ["touch {canary}"]',
        f'!!python/object/new:os.system ["touch {canary}"]',
        "!!python/name:os.system",
        "!!python/module:os",
        "!!binary x",
    )
    for tag in tags:
        found[f"YAML tag {tag[:30]}"] = lambda run, tag=tag: put(
            run, "recipe.yaml", f"name: {tag}\n" + text(run, "recipe.yaml").split("\n", 2)[2]
        )
    laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
    )
    found["YAML of a billion laughs"] = lambda run: put(run, "recipe.yaml", laughs)
    found["YAML of deep nesting"] = lambda run: put(run, "recipe.yaml", "[" * 50_000)
    found["JSON of deep nesting"] = lambda run: put(run, "fields/fields.json", "[" * 500_000)
    for label, code in (
        ("code beside the Run", "../evil.py"),
        ("code of an absolute path", "/{}/evil.py"),
        ("code in the Run", "evil.py"),
    ):
        found[label] = lambda run, code=code: coded(run, code, canary)
    for kind in ("../../evil", "os", "modelworks.cli", "__init__", "image;touch", "builtins.eval"):
        found[f"a field of kind {kind}"] = lambda run, kind=kind: kinds(run, kind)
        found[f"an edit of kind {kind}"] = lambda run, kind=kind: put(
            run, "compression.json", json.dumps({"edits": [{"kind": kind, "layers": {}}]})
        )
    for name in ("../../secret", str(secret), "..\\..\\secret", "a/../../../secret"):
        found[f"a manifest that names {name[:20]}"] = lambda run, name=name: named(run, name)
    found["weights that are a link"] = lambda run: linked(run, "model.safetensors", secret)
    found["fields that are a link"] = lambda run: linked(run, "fields/fields.json", secret)
    found["a link beside"] = lambda run: (run / "extra.json").symlink_to(secret)
    found["a pipe as fields"] = lambda run: piped(run, "fields/fields.json")
    found["a pipe as manifest"] = lambda run: piped(run, "manifest.json")
    found["a pipe beside"] = lambda run: os.mkfifo(run / "extra.json")
    found["weights whose header is endless"] = lambda run: (
        (run / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}") and None
    )
    huge = json.dumps({"x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    found["weights that claim terabytes"] = lambda run: (
        (run / "model.safetensors").write_bytes(struct.pack("<Q", len(huge)) + huge) and None
    )
    found["a network of terabytes"] = lambda run: put(
        run, "recipe.yaml", re.sub(r"(hidden:\n\s+- )\d+", r"\g<1>400000000", text(run, "recipe.yaml"))
    )
    return found


def text(run: Path, name: str) -> str:
    return (run / name).read_text("utf-8")


def put(run: Path, name: str, body: str) -> None:
    (run / name).write_text(body, "utf-8")


def coded(run: Path, code: str, canary: Path) -> None:
    """A Run that names a Python file, with the right hash of it."""
    path = Path(code.format(run.parent)) if code.startswith("/") else (run / code)
    path = path.resolve()
    path.write_text(f"import os\nos.system('touch {canary}')\n")
    recipe = text(run, "recipe.yaml").replace("kind: mlp", f"kind: {path}")
    put(run, "recipe.yaml", recipe)
    facts = json.loads(text(run, "environment.json"))
    facts["code"] = {str(path): sha256(path)}
    put(run, "environment.json", json.dumps(facts))


def kinds(run: Path, kind: str) -> None:
    fields = json.loads(text(run, "fields/fields.json"))
    for entry in fields.values():
        entry["settings"]["kind"] = kind
    put(run, "fields/fields.json", json.dumps(fields))


def named(run: Path, name: str) -> None:
    seal(run, ("checkpoints",))
    manifest = json.loads(text(run, "manifest.json"))
    manifest["files"][name] = {"sha256": "0" * 64, "bytes": 1}
    put(run, "manifest.json", json.dumps(manifest))


def linked(run: Path, name: str, target: Path) -> None:
    (run / name).unlink()
    (run / name).symlink_to(target)


def piped(run: Path, name: str) -> None:
    (run / name).unlink()
    os.mkfifo(run / name)


def requests(canary: Path, secret: Path) -> dict[str, bytes]:
    """Name → what is sent over a connection; the server must refuse it, or answer without harm."""
    pickled = pickle.dumps(Touch(canary))
    slip = zip_of({f"../../..{canary}": b"x"})

    def post(path: str, body: bytes, kind: str = "application/json", more: str = "") -> bytes:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n{more}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        return head.encode() + body

    def get(path: str, more: str = "") -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}Connection: close\r\n\r\n".encode("latin-1")

    yaml = f'!!python/object/apply:os.system ["touch {canary}"]'.encode()
    svg = f'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY x SYSTEM "file://{secret}">]><svg>&x;</svg>'.encode()
    return {
        "a pickle as a picture": post("/predict", pickled, "image/png"),
        "a pickle as bytes": post("/predict", pickled, "application/octet-stream"),
        "a pickle as pickle": post("/predict", pickled, "application/x-pickle"),
        "a zip as a picture": post("/predict", slip, "image/png"),
        "a zip in multipart": post("/predict", b'--x\r\nContent-Disposition: form-data; name="image"; filename="../../x.zip"\r\n\r\n' + slip + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"),
        "a path as a picture": post("/predict", json.dumps({"image": str(secret)}).encode()),
        "a path in a struct": post("/predict", json.dumps({"image": {"path": str(secret)}}).encode()),
        "a URL as a picture": post("/predict", json.dumps({"image": f"file://{secret}"}).encode()),
        "a path in a CSV": post("/predict", f"image\n{secret}\n".encode(), "text/csv"),
        "SVG with an entity": post("/predict", svg, "image/svg+xml"),
        "PostScript": post("/predict", f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({canary}) (w) file\n".encode(), "image/eps"),
        "YAML": post("/predict", yaml, "application/yaml"),
        "a template": post("/predict", b'{"image": "{{7*7}}${7*7}<%= 7*7 %>"}'),
        "a file's name that climbs": post("/predict", b'--x\r\nContent-Disposition: form-data; name="t"; filename="../../../../tmp/x.csv"\r\n\r\nimage\n1\n\r\n--x--\r\n', "multipart/form-data; boundary=x"),
        "a codec that unzips": post("/predict", gzip.compress(b"x"), "text/plain; charset=zlib_codec"),
        "paths that climb": get("/playground/../../../../../../etc/passwd"),
        "paths that climb, encoded": get("/playground/%2e%2e%2f%2e%2e%2f%2e%2e%2fetc%2fpasswd"),
        "a path with a null": get("/playground/app.js%00.html"),
        "a head that is too long": get("/models", "X-Long: " + "a" * 300_000 + "\r\n"),
        "too many headers": get("/models", "".join(f"X-{n}: {n}\r\n" for n in range(20_000))),
        "a line that is too long": get("/" + "a" * 300_000),
        "a header that is split": get("/models", "X-Request-ID: a\rSet-Cookie: b\r\n"),
        "two lengths": b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nContent-Length: 40\r\nConnection: close\r\n\r\nabcd",
        "length and chunks": b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\nGET /models HTTP/1.1\r\n\r\n",
        "another's name as Host": get("/models").replace(b"localhost", b"evil.example"),
        "a reload that climbs": post("/admin/reload", json.dumps({"run": "../../../../../../etc"}).encode()),
        "a reload of an absolute path": post("/admin/reload", json.dumps({"run": str(secret.parent)}).encode()),
        "a reload with a null": post("/admin/reload", b'{"run": "a\\u0000b"}'),
    }  # fmt: skip
