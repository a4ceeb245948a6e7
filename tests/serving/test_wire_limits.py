"""Frames survive any cutting; what would unfold to too much is refused before it does, the rest as Python reads it."""

from __future__ import annotations

import gzip
import io
import json
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("orjson", reason="the extra serve")

from modelworks.serving import bodies
from modelworks.serving.engine import Options
from modelworks.serving.guard import Guard, name_of, read_keys
from modelworks.serving.limits import Refused, of_json, unfolded, unzip
from modelworks.serving.wire import Broken, Frame, Parser, pack

OPTIONS = Options("m", decoded=1 << 20, rows=100)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)
frames = st.builds(
    Frame,
    st.text("abc", min_size=1),
    st.integers(0, 2**60),
    st.dictionaries(st.text("xy"), values, max_size=3),
    st.binary(),
)


@settings(deadline=None)
@given(st.lists(frames, max_size=4), st.lists(st.integers(1, 50), min_size=1))
def test_frames_survive_any_cutting(sent: list[Frame], cuts: list[int]) -> None:
    stream = b"".join(bytes(part) for frame in sent for part in pack(frame))
    parser, found, start, number = Parser(), [], 0, 0
    while start < len(stream):
        size = cuts[number % len(cuts)]
        found += parser.feed(stream[start : start + size])
        start, number = start + size, number + 1
    assert found == sent


def test_what_is_no_frame_ends_the_connection() -> None:
    with pytest.raises(Broken):
        list(Parser().feed(b"\xff" * 12))
    with pytest.raises(Broken):
        list(Parser().feed(b"\1\0\0\0" + bytes(8) + b"{"))


@settings(deadline=None)
@given(st.binary(max_size=2000), st.sampled_from(["gzip", "deflate", "raw"]))
def test_bodies_are_unzipped_as_zlib_zips_them(body: bytes, form: str) -> None:
    raw = zlib.compressobj(wbits=-15)
    zipped = {
        "gzip": gzip.compress(body),
        "deflate": zlib.compress(body),
        "raw": raw.compress(body) + raw.flush(),
    }[form]
    assert unzip(zipped, "gzip" if form == "gzip" else "deflate", 1 << 20) == body
    if len(zipped) > 8:
        with pytest.raises(Refused):
            unzip(zipped[: len(zipped) // 2], "gzip" if form == "gzip" else "deflate", 1 << 20)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_bombs_are_refused(encoding: str) -> None:
    zip_ = gzip.compress if encoding == "gzip" else zlib.compress
    with pytest.raises(Refused) as refused:
        unzip(zip_(bytes(64 << 20)), encoding, 1 << 20)
    assert refused.value.status == 413
    with pytest.raises(Refused):
        unzip(gzip.compress(bytes(600 << 10)) * 3, "gzip", 1 << 20)


def test_json_that_would_take_too_much_is_refused() -> None:
    for body in (
        b"[" + b"[]," * 200_000 + b"[]]",
        b"[" + b"1.5," * 200_000 + b"1]",
        ('["' + "好" * 200_000 + '"]').encode(),
    ):
        with pytest.raises(Refused):
            of_json(body, 1 << 20)
        of_json(body, 1 << 28)


def test_pictures_are_judged_by_their_header() -> None:
    file = io.BytesIO()
    Image.new("1", (6000, 6000)).save(file, "PNG")
    assert len(file.getvalue()) < 20_000
    with pytest.raises(ValueError, match="unfolds to about"):
        unfolded(file.getvalue(), "image", 64 << 20)
    assert unfolded(b"no picture", "image", 1) == 0


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 255), min_size=3, max_size=3), min_size=1, max_size=4))
def test_pixels_are_numpys(rows: list[list[int]]) -> None:
    assert np.array_equal(bodies.pixels_of(rows), np.array(rows, np.uint8))
    assert np.array_equal(bodies.pixels_of([rows, rows]), np.array([rows, rows], np.uint8))


@pytest.mark.parametrize(
    "pixels", [[[256]], [[-1]], [[0.5]], [["a"]], [[1], [1, 2]], [10**9], [[None]], [], [{}]]
)
def test_what_are_no_pixels_are_refused(pixels: list) -> None:
    with pytest.raises(ValueError, match=r"pixels"):
        bodies.pixels_of(pixels)


@pytest.mark.parametrize(
    "value", ["/etc/passwd", "../x.png", "file:///etc/passwd", {"path": "/etc/passwd"}, 7, "data:,x"]
)
def test_a_cell_of_pictures_is_never_a_path(value: object) -> None:
    with pytest.raises(ValueError, match="base64"):
        bodies.cell("image", value)


@pytest.mark.parametrize(
    ("kind", "body", "columns"),
    [
        ("application/json", b'{"text": "a"}', {"text": ["a"]}),
        ("application/json; charset=utf-8", b'["a", "b"]', {"text": ["a", "b"]}),
        ("application/json", b'"a"', {"text": ["a"]}),
        ("application/x-ndjson", b'{"text": "a"}\n{"text": "b"}\n', {"text": ["a", "b"]}),
        ("text/plain; charset=gb18030", "好".encode("gb18030"), {"text": ["好"]}),
        ("", "好".encode(), {"text": ["好"]}),
        ("", b'{"text": "a"}', {"text": ["a"]}),
        ("text/tab-separated-values", b"text\tn\na\t1\nb\t2\n", {"text": ["a", "b"], "n": ["1", "2"]}),
    ],
)
def test_bodies_of_every_kind(kind: str, body: bytes, columns: dict) -> None:
    assert bodies.read({"text": "text"}, kind, body, OPTIONS).columns == columns


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", json.dumps([{"text": "a"}] * 101).encode(), 413),
        ("text/csv", b"text\n" + b"a\n" * 101, 413),
        ("text/csv", b"text,n\na,1\nb\n", 422),
        ("text/plain; charset=zip", b"a", 422),
        ("text/plain", b"\xff\xfe", 422),
        ("image/png", b"a", 415),
        ("multipart/form-data", b"a", 400),
        ("multipart/form-data; boundary=x", b"a", 400),
        ("application/json", b"[1]", 422),
        ("application/json", b"", 400),
    ],
)
def test_other_bodies_are_refused_with_their_status(kind: str, body: bytes, status: int) -> None:
    with pytest.raises(Refused) as refused:
        bodies.read({"text": "text"}, kind, body, OPTIONS)
    assert refused.value.status == status


def test_hosts_are_read_as_clients_write_them() -> None:
    assert [name_of(host) for host in (b"LocalHost:80", b"[::1]:80", b"::1", b"", b"a.b")] == [
        "localhost",
        "::1",
        "::1",
        "",
        "a.b",
    ]
    guard = Guard({"localhost"}, ["secret-key"])
    scope = {
        "path": "/models",
        "scheme": "http",
        "headers": [(b"host", b"localhost"), (b"x-api-key", b"secret-key")],
    }
    assert guard.look(scope) is None
    for headers in (
        [],
        scope["headers"][:1],
        [*scope["headers"], scope["headers"][1]],
        [(b"host", b"x"), scope["headers"][1]],
    ):
        assert guard.look({**scope, "headers": headers}) is not None


def test_keys_are_read_with_a_reason(tmp_path) -> None:
    file = tmp_path / "keys"
    for text in ("", "short\n", "with ünlaut\n"):
        file.write_text(text, "utf-8")
        with pytest.raises(ValueError, match="8 or more"):
            read_keys(str(file))
    file.write_text("# one\nlong-enough\n\nanother-one\n")
    assert read_keys(str(file)) == ["long-enough", "another-one"]
