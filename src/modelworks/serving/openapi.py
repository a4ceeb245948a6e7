"""OpenAPI: what /openapi.json says of routes whose bodies no pydantic model reads, and the form of errors."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

JSON = "application/json"
REASONS = {
    400: "The request is not what the route reads, or the Host is not this server's",
    401: "No key, or a wrong one",
    403: "A page of another origin asks",
    404: "There is no such model",
    408: "The body did not come in time",
    413: "The body, or what it unfolds to, is too large",
    415: "This content type or encoding is not read",
    422: "It cannot be answered, for the reason told",
    429: "Too many wait; Retry-After says when to come again",
    500: "A bug",
    503: "The model's worker is not there",
    504: "No answer in time",
}
Responses = dict[int | str, dict[str, Any]]
_ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}


def refusals(*statuses: int, form: Mapping[str, Any] = _ERROR) -> Responses:
    """`responses=` of a route that may refuse with these, and with what the guard says. `form`: an error's schema."""
    return {
        status: {"description": REASONS[status], "content": {JSON: {"schema": form}}}
        for status in sorted({400, 401, 403, *statuses})
    }


def error(path: str, status: int, message: str) -> dict[str, Any]:
    """An error as the routes of this path tell it: OpenAI's form under /v1/."""
    if not path.startswith("/v1/"):
        return {"error": message}
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(status, "invalid_request_error")
    code = {404: "model_not_found", 429: "rate_limit_exceeded"}.get(status)
    if message == "Not Found":  # a path, which no model is asked for
        code = None
    if "room for" in message or "context is" in message:
        code = "context_length_exceeded"
    kind = "server_error" if status >= 500 else kind
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _told(description: str, schema: Mapping[str, Any], content_type: str = JSON) -> Responses:
    return {200: {"description": description, "content": {content_type: {"schema": schema}}}}


def _of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


_TEXT, _FLAG, _ANY = {"type": "string"}, {"type": "boolean"}, {"description": "any JSON"}
HEALTH: Responses = _told("It is", {"type": "object"})
NOT_READY: Responses = {503: {"description": "Not ready", "content": {JSON: {"schema": {"type": "object"}}}}}
METRICS: Responses = _told("Figures", _TEXT, "text/plain")
PAGE: Responses = _told("A page", _TEXT, "text/html")
MODELS: Responses = _told("The models", {"type": "array", "items": _of(name=_TEXT, ready=_FLAG)})

_PREDICTION = {
    "type": "object",
    "properties": {
        "prediction": _ANY,
        "probabilities": {"type": "object", "additionalProperties": {"type": "number"}},
        "error": _TEXT,
    },
    "required": ["prediction"],
}
PREDICTED: Responses = _told(
    "A row's prediction; of several rows a list, where `error` says why a row has none",
    {"oneOf": [_PREDICTION, {"type": "array", "items": _PREDICTION}]},
)
_ROW = {"type": "object", "minProperties": 1, "additionalProperties": _ANY}
_BYTES = {"type": "string", "format": "binary"}
PREDICT = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": {"oneOf": [_ROW, {"type": "array", "items": _ROW, "minItems": 1}]}},
            "multipart/form-data": {"schema": _ROW},
            "text/csv": {"schema": _BYTES},
            "text/plain": {"schema": _TEXT},
            "application/octet-stream": {"schema": _BYTES},
        },
    }
}

_TENSOR = {
    "type": "object",
    "properties": {
        "name": _TEXT,
        "datatype": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1},
        "data": {"type": "array", "items": {}},
        "parameters": {"type": "object"},
    },
    "required": ["name", "datatype", "shape"],
}
_WANTED = {
    "type": "object",
    "properties": {"name": _TEXT, "parameters": {"type": "object"}},
    "required": ["name"],
}
INFER = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": {
                    "type": "object",
                    "properties": {
                        "id": _TEXT,
                        "inputs": {"type": "array", "items": _TENSOR, "minItems": 1},
                        "outputs": {"type": "array", "items": _WANTED},
                        "parameters": {"type": "object"},
                    },
                    "required": ["inputs"],
                }
            }
        },
    }
}
INFERRED: Responses = {
    200: {
        "description": "Tensors; raw ones follow the JSON where the request wants `binary_data`",
        "content": {
            JSON: {
                "schema": {
                    "type": "object",
                    "properties": {
                        "model_name": _TEXT,
                        "model_version": _TEXT,
                        "id": _TEXT,
                        "outputs": {"type": "array", "items": _TENSOR},
                    },
                    "required": ["model_name", "outputs"],
                }
            },
            "application/octet-stream": {"schema": _BYTES},
        },
    }
}
RELOAD = {
    "requestBody": {
        "required": True,
        "content": {JSON: {"schema": {"type": "object", "properties": {"model": _TEXT, "run": _TEXT}}}},
    }
}


_ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "/v1/completions": ("language", {"prompt": "Hello", "max_tokens": 16}),
    "/v1/chat/completions": (
        "language",
        {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16},
    ),
    "/v1/embeddings": ("embed", {"input": "Hello"}),
}
"""OpenAI's routes: what a model must be, by kind or task, and a request that it answers."""


def _example(described: Mapping[str, Any]) -> dict[str, Any]:
    """An input's example as a tensor of one row; of a picture its file."""
    value = described["example"]
    if isinstance(value, float):
        return {"name": described["name"], "datatype": "FP64", "shape": [1], "data": [value]}
    return {"name": described["name"], "datatype": "BYTES", "shape": [1], "data": [str(value)]}


def with_examples(document: dict[str, Any], models: Mapping[str, Any]) -> dict[str, Any]:
    """The document with the models' names, a row that each one answers, and the keys' forms."""
    found = copy.deepcopy(document)
    rows = {
        name: {"value": {each["name"]: each["example"] for each in model.metadata["inputs"]}}
        for name, model in models.items()
        if model.metadata.get("kind") == "rows"
    }
    tensors = {
        name: {"value": {"inputs": [_example(each) for each in model.metadata["inputs"]]}}
        for name, model in models.items()
        if model.metadata.get("kind") == "rows"
    }
    few = rows if len(models) == 1 else {}
    infer = ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer")
    shown = {"/predict/{model}": rows, "/predict": few, **dict.fromkeys(infer, tensors)}
    for path, some in shown.items():
        if some and path in found["paths"]:
            found["paths"][path]["post"]["requestBody"]["content"][JSON]["examples"] = some
    for path, (kind, asked) in _ASKED.items():
        names = [n for n, model in models.items() if kind in map(model.metadata.get, ("kind", "task"))]
        if names and path in found["paths"]:
            content = found["paths"][path]["post"]["requestBody"]["content"][JSON]
            content["examples"] = {name: {"value": {"model": name, **asked}} for name in names}
            content["schema"]["properties"]["model"]["enum"] = names
    known = {"model": list(models), "version": ["1"]}
    for methods in found["paths"].values():
        for operation in methods.values():
            for each in operation.get("parameters", []):
                if each["in"] == "path" and each["name"] in known and known[each["name"]]:
                    each["schema"]["enum"] = known[each["name"]]
    components = found.setdefault("components", {})
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "basic": {"type": "http", "scheme": "basic"},
    }
    return found
