"""OpenAI's requests and answers as types: what is read of a request, what /openapi.json says of an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from modelworks.serving import openapi
from modelworks.serving.limits import Refused
from modelworks.serving.openapi import Responses

JSON = "application/json"
MOST = 128
"""Answers to one request."""
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class Form(BaseModel):
    """A request."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    model: str = Field(max_length=1000)


class StreamOptions(BaseModel):
    """What a stream tells."""

    include_usage: bool = False


class JsonSchema(BaseModel):
    """A schema that an answer obeys."""

    name: str = "answer"
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(BaseModel):
    """What an answer is: free text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _whole(self) -> ResponseFormat:
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("type json_schema wants json_schema")
        return self


class Text(Form):
    """What completions and chats share."""

    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    """Not OpenAI's: only the so many most likely tokens."""
    min_p: float | None = Field(default=None, ge=0, le=1)
    """Not OpenAI's: only tokens at least so likely, as a share of the most likely one."""
    repetition_penalty: float | None = Field(default=None, gt=0, le=100)
    """Not OpenAI's: makes tokens that were there before less likely."""
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[str, float] | None = None
    seed: int | None = Field(default=None, ge=-(1 << 63), le=(1 << 63) - 1)
    stop: str | list[str] | None = None
    n: int | None = Field(default=1, ge=1, le=MOST)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    echo: bool | None = False

    @field_validator("logit_bias")
    @classmethod
    def _codes(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        for code, bias in (value or {}).items():
            if not (code.isascii() and code.isdigit() and len(code) < 10):
                raise ValueError(f"{code[:20]!r} is no token's id")
            if not -100 <= bias <= 100:
                raise ValueError("a bias is −100 to 100")
        return value

    @field_validator("stop")
    @classmethod
    def _few(cls, value: str | list[str] | None) -> str | list[str] | None:
        if isinstance(value, list) and len(value) > 16:
            raise ValueError("at most 16 texts")
        return value

    @field_validator("n", "stream", "echo")
    @classmethod
    def _given(cls, value: Any, info: Any) -> Any:
        return {"n": 1}.get(info.field_name, False) if value is None else value

    @property
    def tells_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def prompts(self) -> list[Any]:
        return []

    def sampling(self, most: int) -> dict[str, Any]:
        """The settings of engine/language/sampling.py."""
        penalties = ("repetition_penalty", "presence_penalty", "frequency_penalty")
        names = ("temperature", "top_p", "top_k", "min_p", *penalties)
        found = {name: value for name in names if (value := getattr(self, name)) is not None}
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if self.response_format is not None and self.response_format.type != "text":
            schema = self.response_format.json_schema
            try:
                found["json_schema"] = json.dumps({"type": "object"} if schema is None else schema.schema_)
            except RecursionError:
                raise Refused(400, "response_format: the schema is nested too deeply") from None
        return found | {
            "max_tokens": most,
            "stop": stop,
            "seed": self.seed,
            "logit_bias": self.logit_bias or {},
        }


class Completion(Text):
    """Go on with a text."""

    prompt: str | list[str] | list[int] | list[list[int]] = ""
    suffix: str | None = None
    best_of: int | None = None
    logprobs: int | None = Field(default=None, ge=0, le=20)

    @model_validator(mode="after")
    def _known(self) -> Completion:
        if self.suffix:
            raise ValueError("suffix: a text cannot be filled in here")
        if self.best_of not in (None, 1, self.n):
            raise ValueError("best_of: wants to be n")
        if not self.prompts or len(self.prompts) * (self.n or 1) > MOST:
            raise ValueError(f"prompt: 1 to {MOST} answers in all")
        if self.echo and not all(isinstance(one, str) for one in self.prompts):
            raise ValueError("echo: wants prompts that are texts")
        return self

    @property
    def prompts(self) -> list[Any]:
        """Each one a text or its tokens."""
        one = isinstance(self.prompt, str) or (self.prompt and isinstance(self.prompt[0], int))
        return [self.prompt] if one else list(self.prompt)

    def meta(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """What the worker is told."""
        most = min(self.max_tokens or 16, model["context"])
        return {"prompts": self.prompts, "n": self.n, "sampling": self.sampling(most), "top": self.logprobs}


class Part(BaseModel):
    """A part of a message."""

    type: str
    text: str = ""


class Message(BaseModel):
    """What someone says."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part] | None = None

    def plain(self) -> dict[str, str]:
        """As templates take it; raises Refused."""
        content = self.content or ""
        if not isinstance(content, str):
            other = next((part.type for part in content if part.type != "text"), None)
            if other is not None:
                raise Refused(400, f"messages: parts are texts here, not {other[:40]!r}")
            content = "".join(part.text for part in content)
        return {"role": ROLES[self.role], "content": content}


class Chat(Text):
    """Answer a conversation."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = False
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    modalities: list[str] | None = None

    @model_validator(mode="after")
    def _known(self) -> Chat:
        if self.tools or self.functions:
            raise ValueError("tools: are not called here")
        if self.modalities not in (None, [], ["text"]):
            raise ValueError("modalities: text alone")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs: wants logprobs: true")
        return self

    def meta(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """What the worker is told."""
        most = self.max_completion_tokens or self.max_tokens or model["context"]
        said = [message.plain() for message in self.messages]
        top = (self.top_logprobs or 0) if self.logprobs else None
        sampling = self.sampling(min(most, model["context"]))
        return {"messages": said, "n": self.n, "sampling": sampling, "top": top}


class Embeddings(Form):
    """A vector for each text."""

    input: str | list[str]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1)

    @field_validator("input")
    @classmethod
    def _some(cls, value: str | list[str]) -> str | list[str]:
        if not value or (isinstance(value, list) and (len(value) > 2048 or not all(value))):
            raise ValueError("wants 1 to 2048 texts, none of them empty")
        return value


def logprobs_of(asked: Text, found: Sequence[Any] | None) -> dict[str, Any] | None:
    """A worker's log-probabilities in OpenAI's form."""
    if not found:
        return None
    if isinstance(asked, Chat):
        content = [
            {**_token(text, data, value), "top_logprobs": [_token(*one) for one in top]}
            for text, data, value, top in found
        ]
        return {"content": content, "refusal": None}
    return {
        "tokens": [text for text, *_ in found],
        "token_logprobs": [value for _, _, value, _ in found],
        "top_logprobs": [{text: value for text, _, value in top} for *_, top in found],
        "text_offset": [sum(len(one[0]) for one in found[:at]) for at in range(len(found))],
    }


def _token(text: str, data: Sequence[int], value: float) -> dict[str, Any]:
    return {"token": text, "logprob": value, "bytes": list(data)}


# ------------------------------------------------------------------------------------------- OpenAPI
_TEXT, _WHOLE = {"type": "string"}, {"type": "integer"}
ASKED = (404, 408, 413, 422, 429, 503, 504)


def _of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


_ERROR = _of(error=_of(message=_TEXT, type=_TEXT))
MODEL = _of(id=_TEXT, object=_TEXT, created=_WHOLE, owned_by=_TEXT)
MODELS = _of(object=_TEXT, data={"type": "array", "items": MODEL})
_CHOICES = {"type": "array", "items": {"type": "object"}}
COMPLETION = _of(
    id=_TEXT, object=_TEXT, created=_WHOLE, model=_TEXT, choices=_CHOICES, usage={"type": "object"}
)
CHAT = COMPLETION
EMBEDDINGS = _of(object=_TEXT, data=_CHOICES, model=_TEXT, usage={"type": "object"})


def refusals(*statuses: int) -> Responses:
    """What a route may be refused with."""
    return openapi.refusals(*statuses, form=_ERROR)


REFUSALS = refusals()


def told(schema: Mapping[str, Any], streams: bool = False) -> Responses:
    """What a route answers."""
    content: dict[str, Any] = {JSON: {"schema": dict(schema)}}
    if streams:
        content["text/event-stream"] = {}  # events: OpenAPI 3.1 has no words for their schema
    return {200: {"description": "The answer", "content": content}}


def route(form: type[Form], answer: Mapping[str, Any]) -> dict[str, Any]:
    """What /openapi.json says of a route."""
    schema = form.model_json_schema(ref_template="#/components/schemas/{model}")
    inner = schema.pop("$defs", {})
    return {
        "responses": told(answer, issubclass(form, Text)) | refusals(*ASKED),
        "openapi_extra": {
            "requestBody": {"required": True, "content": {JSON: {"schema": _inline(schema, inner)}}}
        },
    }


def _inline(value: Any, inner: Mapping[str, Any]) -> Any:
    """A schema without references."""
    if isinstance(value, Mapping):
        if "$ref" in value:
            return _inline(inner[value["$ref"].rsplit("/", 1)[1]], inner)
        return {key: _inline(one, inner) for key, one in value.items()}
    return [_inline(one, inner) for one in value] if isinstance(value, list) else value
