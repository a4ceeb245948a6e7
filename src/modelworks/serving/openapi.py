"""OpenAPI: what /openapi.json says of the routes, by hand where no pydantic model is in a request's way."""

from __future__ import annotations

from typing import Any

_ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
REASONS = {
    400: "The request is not what the route reads, or the Host is not this server's",
    401: "No key, or a wrong one",
    403: "A page of another origin asks",
    404: "There is no such model",
    405: "The path is not for this method",
    408: "The body did not come in time",
    413: "The body, or what it unfolds to, is too large",
    415: "This content type or encoding is not read",
    422: "The row cannot be answered, with the reason",
    429: "The queue is full; Retry-After says when to come again",
    500: "A bug",
    503: "The model's worker is not there",
    504: "No answer in time",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a route that may refuse with these, and with what the guard says."""
    return {
        status: {"description": REASONS[status], "content": {"application/json": {"schema": _ERROR}}}
        for status in sorted({400, 401, 403, *statuses})
    }


def error(path: str, status: int, message: str) -> dict[str, Any]:
    """An error as the routes of this path tell it: OpenAI's form under /v1/."""
    if not path.startswith("/v1/"):
        return {"error": message}
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(status, "invalid_request_error")
    if status >= 500:
        kind = "server_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}
