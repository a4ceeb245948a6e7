"""OpenAI's routes, so that its clients work unmodified: /v1/models, completions, chat/completions, embeddings.

client = openai.OpenAI(base_url="http://127.0.0.1:8080/v1", api_key="…")
client.chat.completions.create(model="poems", messages=[{"role": "user", "content": "春"}], stream=True)

Language models write; embeddings are of Runs of task embed. What of OpenAI's requests says nothing here is left
unread (user, metadata, store …); what would change the answer and is not known here is refused (tools, audio).
"""

from __future__ import annotations

import asyncio
import base64
import struct
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from modelworks.serving import openai_forms as forms
from modelworks.serving.limits import Refused, of_json
from modelworks.serving.openapi import error

if TYPE_CHECKING:
    from modelworks.serving.app import App
    from modelworks.serving.model import Model

JSON = "application/json"
REASONS = {"end": "stop", "stop": "stop", "grammar": "stop", "length": "length"}
DONE = b"data: [DONE]\n\n"


def router(app: App) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1", tags=["OpenAI"])

    @routes.get("/models", responses=forms.told(forms.MODELS) | forms.REFUSALS)
    async def models() -> Response:
        """The models' names."""
        return _reply({"object": "list", "data": [_model(model) for model in app.models.values()]})

    @routes.get("/models/{model}", responses=forms.told(forms.MODEL) | forms.refusals(404))
    async def model(model: str) -> Response:
        """One of them."""
        try:
            return _reply(_model(app.found(model)))
        except Refused as refused:
            return _refusal(refused)

    @routes.post("/completions", **forms.route(forms.Completion, forms.COMPLETION))
    async def completions(request: Request) -> Response:
        """Go on with a text, or with each of several. With `stream`, server-sent events."""
        return _Written(app, request, forms.Completion)

    @routes.post("/chat/completions", **forms.route(forms.Chat, forms.CHAT))
    async def chat(request: Request) -> Response:
        """Answer a conversation. With `stream`, server-sent events."""
        return _Written(app, request, forms.Chat)

    @routes.post("/embeddings", **forms.route(forms.Embeddings, forms.EMBEDDINGS))
    async def embeddings(request: Request) -> Response:
        """A vector for each text, of a Run of task embed."""
        try:
            asked = await _asked(app, request, forms.Embeddings)
            return _reply(await _embedded(app.known(asked.model), asked))
        except Refused as refused:
            return _refusal(refused)

    return routes


def _model(model: Model) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": 0, "owned_by": "modelworks"}


def _reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, dict(headers or {}), JSON)


def _refusal(refused: Refused) -> Response:
    return _reply(error("/v1/", refused.status, refused.message), refused.status, refused.headers)


async def _asked(app: App, request: Request, form: type[forms.Form]) -> Any:
    """The body, read and checked; raises Refused."""
    body = await app.body(request.receive)
    try:
        of_json(body, 8 * app.front.body)
        return form.model_validate(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"the body is no JSON: {error}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise Refused(400, f"{where}: {fault['msg']}" if where else fault["msg"]) from None
    finally:
        app.held -= len(body)


# ------------------------------------------------------------------------------------------- embeddings
async def _embedded(model: Model, asked: forms.Embeddings) -> dict[str, Any]:
    if model.metadata.get("task") != "embed":
        raise Refused(400, f"{model.name} gives no embeddings: its task is not embed")
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    column = model.metadata["inputs"][0]["name"]
    body = orjson.dumps([{column: text} for text in texts])
    answer = await model.ask("counted", JSON, body, {})
    found = orjson.loads(bytes(answer.body))
    if answer.status != 200:
        raise Refused(answer.status, str(found.get("error", "cannot be answered")))
    data = []
    for index, row in enumerate(found):
        vector = row["prediction"]
        if vector is None:
            raise Refused(400, f"input {index}: {row.get('error', 'no answer')}")
        if asked.dimensions not in (None, len(vector)):
            raise Refused(400, f"dimensions: this model's vectors have {len(vector)}")
        packed: Any = vector
        if asked.encoding_format == "base64":
            packed = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": packed})
    tokens = answer.more["tokens"]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model.name, "usage": usage}


# ------------------------------------------------------------------------------------------- texts
class _Written(Response):
    """Answers a request for text, whole or piece by piece; a client that hangs up ends it at once."""

    def __init__(self, app: App, request: Request, form: type[forms.Form]) -> None:
        super().__init__()
        self._app, self._request, self._form = app, request, form

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            asked = await _asked(self._app, self._request, self._form)
            model = self._app.known(asked.model)
            if model.metadata.get("kind") != "language":
                raise Refused(
                    400, f"{model.name} does not write text: its task is {model.metadata.get('task')}"
                )
            meta = asked.meta(model.metadata)
        except Refused as refused:
            await _refusal(refused)(scope, receive, send)
            return
        writing = asyncio.ensure_future(self._write(model, asked, meta, scope, receive, send))
        leaving = asyncio.ensure_future(_left(self._request.receive))
        try:
            await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not writing.done():
                writing.cancel()
            await asyncio.gather(writing, leaving, return_exceptions=True)
        if not writing.cancelled() and writing.exception() is not None:
            raise writing.exception()  # type: ignore[misc]

    async def _write(
        self, model: Model, asked: forms.Text, meta: dict[str, Any], scope: Any, receive: Any, send: Any
    ) -> None:
        stream: Any = model.stream("generate", meta)
        async with aclosing(stream) as frames:
            if not asked.stream:
                try:
                    found = await _whole(frames, asked)
                except Refused as refused:
                    await _refusal(refused)(scope, receive, send)
                else:
                    await _reply(found)(scope, receive, send)
                return
            begun = False
            try:
                async for event in _events(frames, asked):
                    if not begun:
                        begun = True
                        await send(_HEAD)
                    await send({"type": "http.response.body", "body": event, "more_body": True})
            except Refused as refused:
                if not begun:
                    await _refusal(refused)(scope, receive, send)
                    return
                told = b"data: " + orjson.dumps(error("/v1/", refused.status, refused.message)) + b"\n\n"
                await send({"type": "http.response.body", "body": told, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


_HEAD = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")],
}


async def _left(receive: Any) -> None:
    """Returns when the client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _first(asked: forms.Text) -> dict[str, Any]:
    """What every piece of an answer begins with."""
    chat = isinstance(asked, forms.Chat)
    kind = ("chat.completion.chunk" if asked.stream else "chat.completion") if chat else "text_completion"
    number = f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}"
    return {"id": number, "object": kind, "created": int(time.time()), "model": asked.model}


def _usage(meta: Mapping[str, Any]) -> dict[str, Any]:
    read, written = meta["prompt_tokens"], meta["completion_tokens"]
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


async def _events(frames: AsyncIterator[Any], asked: forms.Text) -> AsyncIterator[bytes]:
    """An answer as server-sent events."""
    first = _first(asked)
    chat, tells = isinstance(asked, forms.Chat), asked.tells_usage
    empty: dict[str, Any] = {"usage": None} if tells else {}
    begun: set[int] = set()
    async for frame in frames:
        meta = frame.meta
        if frame.kind == "answer":
            if tells:
                yield _event({**first, "choices": [], "usage": _usage(meta)})
            yield DONE
            return
        index, reason = meta["index"], REASONS.get(meta["reason"])
        logprobs = forms.logprobs_of(asked, meta.get("logprobs"))
        choice: dict[str, Any] = {"index": index, "logprobs": logprobs, "finish_reason": reason}
        if chat:
            if index not in begun:
                begun.add(index)
                start = {"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
                yield _event({**first, "choices": [start], **empty})
            choice["delta"] = {"content": meta["text"]} if meta["text"] else {}
        else:
            choice["text"] = meta["text"]
            if asked.echo and index not in begun:
                begun.add(index)
                choice["text"] = asked.prompts[index // (asked.n or 1)] + meta["text"]
        yield _event({**first, "choices": [choice], **empty})


def _event(value: Any) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


async def _whole(frames: AsyncIterator[Any], asked: forms.Text) -> dict[str, Any]:
    """An answer at once."""
    texts: dict[int, list[str]] = {}
    logprobs: dict[int, list[Any]] = {}
    reasons: dict[int, str] = {}
    usage: dict[str, Any] = {}
    async for frame in frames:
        meta = frame.meta
        if frame.kind == "answer":
            usage = _usage(meta)
            break
        index = meta["index"]
        texts.setdefault(index, []).append(meta["text"])
        logprobs.setdefault(index, []).extend(meta.get("logprobs", []))
        if meta["reason"]:
            reasons[index] = REASONS[meta["reason"]]
    choices = []
    for index in sorted(texts):
        text = "".join(texts[index])
        told = forms.logprobs_of(asked, logprobs[index] or None)
        choice: dict[str, Any] = {"index": index, "finish_reason": reasons.get(index), "logprobs": told}
        if isinstance(asked, forms.Chat):
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        else:
            choice["text"] = asked.prompts[index // (asked.n or 1)] + text if asked.echo else text
        choices.append(choice)
    return {**_first(asked), "choices": choices, "usage": usage}
