"""The server as a whole: who may ask, what is answered, what happens when a worker dies or another Run comes."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import socket
import struct
import time
from pathlib import Path

import pytest

KEY = "a-key-of-tests"
ROW = {"a": 1.5, "b": "3"}


def test_every_route_but_health_wants_a_key(server) -> None:
    paths = server.ask("/openapi.json")[1]["paths"]
    assert len(paths) > 12
    unknown = [
        "/",
        "/nothing",
        "/v1/models",
        "/playground/app.js",
        "/v2/health",
        "/docs",
        "//models",
        "/%2e%2e/models",
    ]
    for path in [*paths, *unknown, "/openapi.json"]:
        filled = path.replace("{model}", "tiny").replace("{version}", "1")
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"):
            status, _, headers = server.ask(filled, method=method, Authorization="")
            if path.startswith("/v2/health/"):
                assert status in (200, 405)
            else:
                assert (status, "WWW-Authenticate".lower() in map(str.lower, headers)) == (401, True), (
                    method,
                    path,
                )


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": "", "X_API_Key": KEY},
        {"Authorization": "Basic dTphLWtleS1vZi10ZXN0cw=="},
    ],
)
def test_a_key_is_taken_in_three_ways(server, headers: dict[str, str]) -> None:
    assert server.ask("/models", **headers)[0] == 200
    wrong = {name: value and value[:-2] + "xx" for name, value in headers.items()}
    assert server.ask("/models", **wrong)[0] == 401


def test_foreign_hosts_and_origins_are_refused(server) -> None:
    assert server.ask("/models", Host="evil.example")[0] == 400
    assert server.ask("/models", Origin="http://evil.example")[0] == 403
    assert server.ask("/models", Origin="null")[0] == 403
    assert server.ask("/models", Origin=f"http://127.0.0.1:{server.port}")[0] == 200
    assert server.ask("/v2/health/live", Host="10.0.0.7:8080")[0] == 200


def test_one_row_is_answered_in_every_form_alike(server) -> None:
    status, row, headers = server.ask("/predict/tiny", ROW, X_Request_ID="mine-1")
    assert status == 200
    assert headers["x-request-id"] == "mine-1"
    assert row["prediction"] == max(row["probabilities"], key=row["probabilities"].get)
    zipped = gzip.compress(json.dumps(ROW).encode())
    others = [
        server.ask("/predict", zipped, Content_Encoding="gzip")[1],
        server.ask("/predict", b"a,b\n1.5,3\n", Content_Type="text/csv")[1][0],
        server.ask("/predict", [ROW])[1][0],
    ]
    part = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1.5\r\n--x\r\nContent-Disposition: form-data; name="b"\r\n\r\n3\r\n--x--\r\n'
    others.append(server.ask("/predict", part, Content_Type="multipart/form-data; boundary=x")[1])
    for other in others:
        assert other["probabilities"] == pytest.approx(row["probabilities"], abs=1e-6)


def test_oip_tensors_raw_and_json(server) -> None:
    about = server.ask("/v2/models/tiny")[1]
    assert about["inputs"] == [
        {"name": "a", "datatype": "FP64", "shape": [-1]},
        {"name": "b", "datatype": "BYTES", "shape": [-1]},
    ]
    row = server.ask("/predict", ROW)[1]
    inputs = [
        {"name": "a", "datatype": "FP32", "shape": [2], "data": [1.5, 4]},
        {"name": "b", "datatype": "BYTES", "shape": [2, 1], "data": [["3"], ["0"]]},
    ]
    status, found, _ = server.ask("/v2/models/tiny/infer", {"id": "7", "inputs": inputs})
    outputs = {each["name"]: each for each in found["outputs"]}
    assert (status, found["id"], outputs["prediction"]["shape"]) == (200, "7", [2])
    assert outputs["probabilities"]["data"][:2] == pytest.approx(
        list(row["probabilities"].values()), abs=1e-6
    )
    raw = struct.pack("<2f", 1.5, 4) + b"".join(struct.pack("<I", 1) + each for each in (b"3", b"0"))
    for each, size in zip(inputs, (8, 10), strict=True):
        each.pop("data")
        each["parameters"] = {"binary_data_size": size}
    head = json.dumps({"inputs": inputs, "outputs": [{"name": "prediction"}]}).encode()
    again = server.ask(
        "/v2/models/tiny/versions/1/infer", head + raw, Inference_Header_Content_Length=str(len(head))
    )
    assert again[1]["outputs"][0]["data"] == outputs["prediction"]["data"]
    wrong = {"inputs": [{"name": "a", "datatype": "FP32", "shape": [3], "data": [1]}]}
    assert server.ask("/v2/models/tiny/infer", wrong)[0] == 400


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[]", {}, 422),
        (b'{"c": 1}', {}, 422),
        (b'{"a": "x"}', {}, 422),
        (b"x", {"Content_Type": "application/zip"}, 415),
        (b"x", {"Content_Encoding": "br"}, 415),
        (b"x", {"Content_Encoding": "gzip"}, 400),
        (b"[" * 100_000, {}, 400),
        (gzip.compress(bytes(300 << 20), 9), {"Content_Encoding": "gzip"}, 413),
        (bytes(33 << 20), {}, 413),
    ],
)
def test_what_cannot_be_answered_says_why(server, body: bytes, headers: dict, status: int) -> None:
    found, told, _ = server.ask("/predict", body, **headers)
    assert (found, list(told)) == (status, ["error"]), told


def test_a_bad_row_spoils_no_other(server) -> None:
    found = server.ask("/predict", [{"a": "x"}, ROW, {"a": [1], "b": {}}, {"a": 1e300, "b": True}])[1]
    assert ["error" in row for row in found] == [True, False, True, True]


def test_long_heads_are_refused(server) -> None:
    for text in (b"GET /%b HTTP/1.1\r\n\r\n" % (b"a" * 200_000), b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(text)
            assert connection.recv(100).split()[1] in (b"431", b"400")


def test_a_killed_worker_is_back_and_nothing_is_lost(server) -> None:
    for _ in range(2):
        os.kill(server.worker(), signal.SIGKILL)
        assert server.ask("/predict", ROW)[0] == 200
        assert server.wait_ready() < 5
    assert len(server.events("worker_lost")) == 2
    figures = server.ask("/metrics")[1]
    assert 'modelworks_worker_restarts_total{model="tiny"} 2.0' in figures
    assert 'modelworks_batch_size_count{model="tiny"}' in figures


def test_another_run_by_request_and_a_broken_one_refused(server, shelf: Path) -> None:
    for name in ("other", "broken"):
        shutil.copytree(shelf / "tiny", shelf / name)
    with (shelf / "broken" / "model.safetensors").open("r+b") as file:
        file.write(b"x")
    assert server.ask("/admin/reload", {"run": "other"})[0] == 200
    assert server.ask("/admin/reload", {"run": "broken"})[0] == 422
    assert server.ask("/admin/reload", {"run": "../../etc"})[0] == 422
    assert server.ask("/predict", ROW)[0] == 200
    assert server.ask("/admin/reload", {"run": "tiny"})[0] == 200


def test_the_document_and_its_page_need_nothing_from_elsewhere(server) -> None:
    _, page, headers = server.ask("/docs")
    assert "/v2/models/{model}/infer" in page
    assert "http://" not in page.replace("http://127.0.0.1", "")
    assert "https://" not in page
    assert "<script" not in page
    assert "default-src 'none'" in headers["content-security-policy"]


def test_sigterm_answers_what_was_asked_and_a_new_manifest_is_noticed(
    shelf: Path, tmp_path: Path, start
) -> None:
    with start(shelf / "tiny", tmp_path, "--watch", "--gather", "300") as server:
        os.utime(shelf / "tiny" / "manifest.json")
        begun = time.monotonic()
        while not server.events("reload"):
            assert time.monotonic() < begun + 20
            time.sleep(0.1)
        body = json.dumps(ROW).encode()
        head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        connections = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(5)]
        for connection in connections:
            connection.sendall(head.encode() + b"\r\n\r\n" + body)
        time.sleep(0.1)  # they wait for company
        server.process.send_signal(signal.SIGTERM)
        for connection in connections:
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
            connection.close()
        assert server.process.wait(60) == 0
