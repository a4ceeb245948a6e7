"""Routes: the paths of the server and what /openapi.json says of them. app.py answers the busiest before."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from modelworks import __version__
from modelworks.serving.openapi import refusals

if TYPE_CHECKING:
    from modelworks.serving.app import App
    from modelworks.serving.model import Model


def fastapi(app: App) -> FastAPI:
    """The application behind the busiest routes."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    site = FastAPI(
        title="modelworks", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan,
        redirect_slashes=False,
    )  # fmt: skip
    _health(site, app)
    _predict(site, app)
    if importlib.util.find_spec("modelworks.serving.openai"):
        openai = importlib.import_module("modelworks.serving.openai")
        site.include_router(openai.router(app.models))
    if importlib.util.find_spec("modelworks.serving.playground"):
        playground = importlib.import_module("modelworks.serving.playground")
        site.include_router(playground.router())
    return site


def ready(app: App) -> bool:
    """Whether every model has a worker that is ready, and none is about to end."""
    return not app.draining and all(model.ready for model in app.models.values())


def _health(site: FastAPI, app: App) -> None:
    @site.get("/v2/health/live", tags=["health"])
    async def live() -> dict[str, bool]:
        """Whether the server runs."""
        return {"live": True}

    @site.get("/v2/health/ready", tags=["health"], responses=refusals(503))
    async def ready_() -> Response:
        """Whether every model can answer."""
        found = ready(app)
        return JSONResponse({"ready": found}, 200 if found else 503)


def _predict(site: FastAPI, app: App) -> None:
    async def answer(request: Request, name: str, form: str) -> Response:
        model = app.models.get(name)
        if model is None:
            return JSONResponse({"error": f"there is no model {name!r}"}, 404)
        found = await app.predict(model, form, request.scope, request.receive)
        headers = dict(found.more.get("headers", {}))
        return Response(bytes(found.body), found.status, headers, found.content_type)

    @site.post(
        "/predict/{model}", tags=["predict"], responses=refusals(404, 408, 413, 415, 422, 429, 503, 504)
    )
    async def predict_model(request: Request, model: str) -> Response:
        """A row, rows, a table, or one picture, sound or text → predictions."""
        return await answer(request, model, "plain")

    @site.get("/models", tags=["models"])
    async def models() -> Response:
        """What each model takes and gives."""
        return Response(
            orjson.dumps([_told(model) for model in app.models.values()]), media_type="application/json"
        )


def _told(model: Model) -> dict[str, Any]:
    return {"name": model.name, "ready": model.ready, **model.metadata}
