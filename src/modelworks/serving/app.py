"""App: the HTTP side of the server, one ASGI application. It imports no torch and parses no body.

    application = App(models, guard, Front(), log)
    uvicorn.Server(uvicorn.Config(application)).run()

What is asked most (/predict, /v2/models/M/infer) is answered by this class itself; all else is FastAPI's: the routes
are declared there once, so that /openapi.json tells everything and any other way to a route works too.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI

from modelworks.serving import openapi, routes
from modelworks.serving.guard import Guard
from modelworks.serving.jobs import Answer
from modelworks.serving.limits import Refused
from modelworks.serving.logs import Log
from modelworks.serving.metrics import Metrics
from modelworks.serving.model import Model
from modelworks.serving.telemetry import Tracer

JSON = "application/json"
_REQUEST_ID = re.compile(rb"[!-~]{1,128}")
_TYPE, _LENGTH, _ID = b"content-type", b"content-length", b"x-request-id"
_ENCODINGS = (b"gzip", b"deflate", b"x-gzip")


@dataclass(frozen=True)
class Front:
    """Bounds of what comes in."""

    body: int = 32 << 20
    """Most bytes of a body."""
    held: int = 512 << 20
    """Most bytes of bodies that are being received or wait, all together; beyond: 429."""
    seconds: float = 30.0
    """Longest that a body may take to come."""


class App:
    """The ASGI application."""

    def __init__(self, models: Mapping[str, Model], guard: Guard, front: Front, log: Log) -> None:
        self.models, self.guard, self.front, self.log = models, guard, front, log
        self.metrics = Metrics(models)
        self.held = 0
        self.draining = False
        self.trace: Tracer | None = None
        self.shelves = {Path(model.path).resolve().parent for model in models.values()}
        """Folders whose Runs a request may name (routes.py)."""
        self.fastapi: FastAPI = routes.fastapi(self)
        self._number = 0
        self._prefix = os.urandom(6).hex()
        self._hot: dict[str, tuple[str, str]] = {}
        for name in models:
            self._hot[f"/predict/{name}"] = (name, "plain")
            self._hot[f"/v2/models/{name}/infer"] = (name, "oip")
            self._hot[f"/v2/models/{name}/versions/1/infer"] = (name, "oip")
        if len(models) == 1:
            self._hot["/predict"] = (next(iter(models)), "plain")

    # ------------------------------------------------------------------ every request
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI's entry."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.fastapi(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})
            return
        started = time.perf_counter()
        self.metrics.in_flight += 1
        number = self._request_id(scope["headers"])
        scope["state"]["request_id"] = number.decode()
        status, model, route = 500, "", "other"
        ended = self.trace(scope) if self.trace is not None else None
        told = False

        async def answer(message: Any) -> None:
            nonlocal status, told
            if message["type"] == "http.response.start":
                status, told = message["status"], True
                message["headers"] = [*message.get("headers", ()), (_ID, number), *_SAFE]
            await send(message)

        try:
            refusal = self.guard.look(scope)
            if refusal is not None:
                await reply(answer, refusal[0], _error(scope["path"], refusal[0], refusal[1]), refusal[2])
            elif scope["method"] == "POST" and scope["path"] in self._hot:
                model, form = self._hot[scope["path"]]
                route = "infer" if form == "oip" else "predict"
                found = await self.predict(self.models[model], form, scope, receive)
                await reply(answer, found.status, found.body, found.more, found.content_type)
            else:
                route = scope["path"].split("/")[1][:20] if scope["path"] in self._told else "other"
                await self.fastapi(scope, receive, answer)
        except asyncio.CancelledError:
            status = 499
            raise
        except Exception as error:
            self.log("bug", id=number.decode(), error=f"{type(error).__name__}: {error}")
            if not told:
                await reply(
                    answer, 500, _error(scope["path"], 500, "a bug in modelworks; the log has it"), {}
                )
        finally:
            seconds = time.perf_counter() - started
            self.metrics.in_flight -= 1
            self.metrics.request(model, route, status, seconds)
            if ended is not None:
                ended(model, route, status)
            if self.log.level != "events":
                client = scope.get("client") or ("", 0)
                self.log.request(
                    status, id=number.decode(), method=scope["method"], path=scope["path"][:200], model=model,
                    ms=round(1000 * seconds, 2), client=client[0],
                )  # fmt: skip

    @functools.cached_property
    def _told(self) -> frozenset[str]:
        """Paths without a parameter: the only ones whose name goes into a metric, which must stay few."""
        return frozenset(getattr(route, "path", "") for route in self.fastapi.routes)

    def _request_id(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The client's own, or a new one."""
        for name, value in headers:
            if name == _ID and _REQUEST_ID.fullmatch(value):
                return value
        self._number += 1
        return f"{self._prefix}-{self._number:x}".encode()

    # ------------------------------------------------------------------ models
    def found(self, name: str) -> Model:
        """A served model; raises Refused."""
        if name not in self.models:
            raise Refused(404, f"there is no model {name[:80]!r}; there are: {', '.join(self.models)}")
        return self.models[name]

    def known(self, name: str) -> Model:
        """A model that has told what it is; raises Refused."""
        model = self.found(name)
        if not model.metadata:
            raise Refused(503, f"{name} is not ready", {"Retry-After": "1"})
        return model

    # ------------------------------------------------------------------ predict and infer
    async def predict(self, model: Model, form: str, scope: Any, receive: Any) -> Answer:
        """The worker's answer to a body, or a refusal as an answer."""
        headers = scope["headers"]
        content_type, encoding, head, announced = b"", b"", None, 0
        for name, value in headers:
            if name == _TYPE:
                content_type = value
            elif name == b"content-encoding":
                encoding = value.strip().lower()
            elif name == b"inference-header-content-length":
                head = value
            elif name == _LENGTH:
                announced = int(value) if value.isdigit() and len(value) < 20 else 1 << 62
        body = b""
        try:
            more: dict[str, Any] = {}
            if encoding and encoding != b"identity":
                if encoding not in _ENCODINGS:
                    raise Refused(415, "content encodings are gzip and deflate")
                more["encoding"] = encoding.decode().removeprefix("x-")
            if head is not None:
                if not head.isdigit() or len(head) > 12:
                    raise Refused(400, "Inference-Header-Content-Length wants a number")
                more["head"] = int(head)
            if model.metadata and model.metadata.get("kind") != "rows":
                raise Refused(400, f"{model.name} writes text: ask /v1/completions or /v1/chat/completions")
            body = await self.body(receive, announced)
            asked = content_type.decode("latin-1")[:1000]
            return await model.ask(form, asked, body, more, gone_of(receive))
        except Refused as refused:
            text = orjson.dumps({"error": refused.message})
            return Answer(refused.status, JSON, text, {"headers": refused.headers})
        finally:
            self.held -= len(body)

    async def body(self, receive: Any, announced: int = 0) -> bytes:
        """A whole body within the limits; raises Refused. What it holds is counted in `held` until taken off again."""
        most = self.front.body
        if announced > most:
            if announced <= 4 * most:
                await self._unread(receive)
            raise Refused(413, f"a body of {announced:,} bytes; the most is {most:,}")
        if self.held + announced > self.front.held:
            raise Refused(429, "too many bodies wait already", {"Retry-After": "1"})
        message = await receive()
        if message["type"] == "http.disconnect":
            raise asyncio.CancelledError
        if not message.get("more_body"):
            body = message.get("body", b"")
            if len(body) > most:
                raise Refused(413, f"a body of more than {most:,} bytes")
            self.held += len(body)
            return body
        parts, size = [message.get("body", b"")], len(message.get("body", b""))
        self.held += size
        try:
            async with asyncio.timeout(self.front.seconds):
                while message.get("more_body"):
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise asyncio.CancelledError
                    part = message.get("body", b"")
                    parts.append(part)
                    size += len(part)
                    self.held += len(part)
                    if size > most:
                        raise Refused(413, f"a body of more than {most:,} bytes")
                    if self.held > self.front.held:
                        raise Refused(429, "too many bodies wait already", {"Retry-After": "1"})
        except TimeoutError:
            self.held -= size
            raise Refused(408, "the body did not come in time", {"Connection": "close"}) from None
        except BaseException:
            self.held -= size
            raise
        return b"".join(parts)

    async def _unread(self, receive: Any) -> None:
        """Let a body go by: a client that still sends when the connection is closed does not see the answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.front.seconds):
                while (await receive()).get("more_body"):
                    pass


_SAFE = [(b"x-content-type-options", b"nosniff")]


def gone_of(receive: Any) -> Callable[[], bool] | None:
    """Tells whether the client has hung up, where the server lets itself be asked: uvicorn's `receive` is a method of
    what it keeps of the request. Waiting for `http.disconnect` would cost a task a request."""
    cycle = getattr(receive, "__self__", None)
    return None if not hasattr(cycle, "disconnected") else lambda: cycle.disconnected  # type: ignore[union-attr]


async def reply(
    send: Any, status: int, body: bytes | memoryview, more: Mapping[str, Any], content_type: str = JSON
) -> None:
    """A whole answer. `more`: headers, or a worker's `head` (OIP's binary form) and `headers`."""
    headers = [(_TYPE, content_type.encode()), (_LENGTH, str(len(body)).encode())]
    if more:
        if "head" in more:
            headers.append((b"inference-header-content-length", str(more["head"]).encode()))
        extra = more.get("headers", {}) if "headers" in more or "head" in more else more
        headers += [(name.lower().encode(), str(value).encode("latin-1")) for name, value in extra.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": bytes(body)})


def _error(path: str, status: int, message: str) -> bytes:
    return orjson.dumps(openapi.error(path, status, message))
