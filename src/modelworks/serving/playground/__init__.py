"""Playground: the page at `/`, where a person tries each model. Plain files: no framework, no build, nothing from afar.

    site.include_router(playground.router())

index.html, style.css and a few ES modules, read once; the page learns from GET /models which forms to show.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from fastapi import APIRouter, Request, Response

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    # Nothing but this server's own files; blob: and data: are what the user has dropped or recorded.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src blob:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def router() -> APIRouter:
    """The page at `/` and its files under /playground/."""
    routes = APIRouter(include_in_schema=False)
    files = {
        path.name: (path.read_bytes(), TYPES[path.suffix])
        for path in Path(__file__).parent.iterdir()
        if path.suffix in TYPES
    }
    tags = {name: f'"{hashlib.sha256(body).hexdigest()[:20]}"' for name, (body, _) in files.items()}

    def answer(request: Request, name: str) -> Response:
        # Names are looked up, never joined to a path.
        if name not in files:
            return Response(status_code=404)
        headers = {**HEADERS, "ETag": tags[name]}
        if request.headers.get("if-none-match") == tags[name]:
            return Response(status_code=304, headers=headers)
        body, kind = files[name]
        return Response(body, headers=headers, media_type=kind)

    @routes.get("/")
    async def page(request: Request) -> Response:
        """The page."""
        return answer(request, "index.html")

    @routes.get("/playground/{name}")
    async def file(request: Request, name: str) -> Response:
        """One of its files."""
        return answer(request, name)

    return routes
