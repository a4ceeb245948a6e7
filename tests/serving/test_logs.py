"""Logs: JSON for programs, lines for a person at a terminal."""

from __future__ import annotations

import os
import pty
from select import select

import orjson

from modelworks.serving.logs import Log

ASKED = {"method": "GET", "path": "/x\x1b[2J\n", "ms": 1.25, "id": "a"}


def test_a_program_reads_an_object_a_line() -> None:
    out, into = os.pipe()
    log = Log(file=into)
    log("ready", model="titanic")
    log.request(404, **ASKED)
    ready, asked = map(orjson.loads, os.read(out, 9999).splitlines())
    assert ready["event"] == "ready" and ready["model"] == "titanic"
    assert asked["status"] == 404 and asked["path"] == ASKED["path"]


def test_a_person_reads_lines_that_no_client_can_steer() -> None:
    out, into = pty.openpty()
    log = Log(file=into)
    log("listening", url="http://127.0.0.1:8080/", models=["a", "b"])
    log.request(404, **ASKED)
    text = ""
    while text.count("\n") < 2 and select([out], [], [], 10)[0]:  # a terminal hands on what has come so far
        text += os.read(out, 9999).decode()
    os.close(into)
    assert "listening http://127.0.0.1:8080/  a, b" in text
    assert "request   404  GET /x" in text and "1.2 ms" in text
    assert "\x1b" not in text and text.count("\n") == 2
