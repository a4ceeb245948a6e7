"""Routes: the paths of the server and what /openapi.json says of them. app.py answers the busiest of them before.

Paths: /v2… (Open Inference Protocol), /predict, /models, /metrics, /admin/reload, /docs, and those of openai.py and
playground/, each a router that is included here.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from modelworks import __version__
from modelworks.core.errors import UserError
from modelworks.serving import openapi
from modelworks.serving.limits import Refused
from modelworks.serving.oip import tensor_of
from modelworks.serving.openapi import refusals

if TYPE_CHECKING:
    from modelworks.serving.app import App
    from modelworks.serving.model import Model

JSON = "application/json"
ASKED = (404, 408, 413, 415, 422, 429, 503, 504)
"""What a question may be refused with."""


def fastapi(app: App) -> FastAPI:
    """The application behind the busiest routes."""
    site = FastAPI(
        title="modelworks", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    _errors(site)
    _health(site, app)
    _oip(site, app)
    _predict(site, app)
    _operation(site, app)
    if importlib.util.find_spec("modelworks.serving.openai"):
        site.include_router(importlib.import_module("modelworks.serving.openai").router(app))
    if importlib.util.find_spec("modelworks.serving.playground"):
        site.include_router(importlib.import_module("modelworks.serving.playground").router())
    plain = site.openapi
    site.openapi = lambda: openapi.with_examples(plain(), app.models)  # type: ignore[method-assign]
    return site


def reply(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON."""
    return Response(orjson.dumps(value, default=str), status, headers, JSON)


def ready(app: App) -> bool:
    """Whether every model has a worker that is ready, and the server is not about to end."""
    return not app.draining and all(model.ready for model in app.models.values())


def _errors(site: FastAPI) -> None:
    @site.exception_handler(Refused)
    async def declined(request: Request, error: Refused) -> Response:
        return reply(
            openapi.error(request.url.path, error.status, error.message), error.status, error.headers
        )

    @site.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        found = openapi.error(request.url.path, error.status_code, str(error.detail))
        return reply(found, error.status_code, dict(error.headers or {}))

    @site.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        faults = [f"{'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}" for fault in error.errors()[:5]]
        return reply(openapi.error(request.url.path, 422, "; ".join(faults)), 422)


# ------------------------------------------------------------------------------------------- health
def _health(site: FastAPI, app: App) -> None:
    @site.get("/v2/health/live", tags=["health"], responses=openapi.HEALTH)
    async def live() -> Response:
        """Whether the server runs. Needs no key."""
        return reply({"live": True})

    @site.get("/v2/health/ready", tags=["health"], responses=openapi.HEALTH | openapi.NOT_READY)
    async def ready_() -> Response:
        """Whether every model can answer, and the server is not about to end. Needs no key."""
        found = ready(app)
        return reply({"ready": found}, 200 if found else 503)


# ------------------------------------------------------------------------------------------- OIP
def _oip(site: FastAPI, app: App) -> None:
    @site.get("/v2", tags=["Open Inference Protocol"], responses=refusals())
    async def server() -> Response:
        """The server's name and the protocol's extensions that it knows."""
        return reply({"name": "modelworks", "version": __version__, "extensions": ["binary_tensor_data"]})

    async def described(model: Any) -> Response:
        found = app.known(model).metadata
        outputs = [
            {key: value for key, value in each.items() if key != "labels"}
            for each in found.get("outputs", [])
        ]
        inputs = [tensor_of(each) for each in found.get("inputs", [])] if found.get("kind") == "rows" else []
        told = {
            "name": model,
            "versions": ["1"],
            "platform": "modelworks",
            "inputs": inputs,
            "outputs": outputs,
        }
        return reply(told)

    async def is_ready(model: Any) -> Response:
        found = app.found(model).ready
        return reply({"name": model, "ready": found}, 200 if found else 503)

    async def infer(request: Request, model: Any) -> Response:
        return await _answer(app, request, app.found(model), "oip")

    def at(version_: Any) -> None:
        if version_ != "1":
            raise HTTPException(404, f"there is no version {version_[:20]!r}; there is: 1")

    @site.get("/v2/models/{model}", tags=["Open Inference Protocol"], responses=refusals(404, 503))
    async def metadata(model: str) -> Response:
        """The model's tensors."""
        return await described(model)

    @site.get(
        "/v2/models/{model}/versions/{version}",
        tags=["Open Inference Protocol"],
        responses=refusals(404, 503),
    )
    async def metadata_of_version(model: str, version: str) -> Response:
        """The model's tensors."""
        at(version)
        return await described(model)

    @site.get(
        "/v2/models/{model}/ready",
        tags=["Open Inference Protocol"],
        responses=refusals(404) | openapi.NOT_READY,
    )
    async def model_ready(model: str) -> Response:
        """Whether this model can answer."""
        return await is_ready(model)

    @site.get(
        "/v2/models/{model}/versions/{version}/ready",
        tags=["Open Inference Protocol"],
        responses=refusals(404) | openapi.NOT_READY,
    )
    async def version_ready(model: str, version: str) -> Response:
        """Whether this model can answer."""
        at(version)
        return await is_ready(model)

    @site.post(
        "/v2/models/{model}/infer", tags=["Open Inference Protocol"],
        responses=openapi.INFERRED | refusals(*ASKED), openapi_extra=openapi.INFER,
    )  # fmt: skip
    async def infer_(request: Request, model: str) -> Response:
        """Tensors of rows → tensors of predictions. Texts are BYTES, numbers any numeric type, pictures UINT8."""
        return await infer(request, model)

    @site.post(
        "/v2/models/{model}/versions/{version}/infer", tags=["Open Inference Protocol"],
        responses=openapi.INFERRED | refusals(*ASKED), openapi_extra=openapi.INFER,
    )  # fmt: skip
    async def infer_version(request: Request, model: str, version: str) -> Response:
        """Tensors of rows → tensors of predictions."""
        at(version)
        return await infer(request, model)


async def _answer(app: App, request: Request, model: Model, form: str) -> Response:
    found = await app.predict(model, form, request.scope, request.receive)
    headers = dict(found.more.get("headers", {}))
    if "head" in found.more:
        headers["Inference-Header-Content-Length"] = str(found.more["head"])
    return Response(bytes(found.body), found.status, headers, found.content_type)


# ------------------------------------------------------------------------------------------- plain
def _predict(site: FastAPI, app: App) -> None:
    more: dict[str, Any] = {
        "tags": ["predict"],
        "responses": openapi.PREDICTED | refusals(*ASKED),
        "openapi_extra": openapi.PREDICT,
    }

    @site.post("/predict/{model}", **more)
    async def predict_with(request: Request, model: str) -> Response:
        """A row, rows, a table, or one picture, sound or text → predictions. Pictures and sounds in JSON are base64."""
        return await _answer(app, request, app.found(model), "plain")

    @site.post("/predict", **more)
    async def predict(request: Request) -> Response:
        """The same of the only model."""
        if len(app.models) != 1:
            raise HTTPException(
                404, f"there are several models, ask /predict/NAME of: {', '.join(app.models)}"
            )
        return await _answer(app, request, next(iter(app.models.values())), "plain")

    @site.get("/models", tags=["models"], responses=openapi.MODELS | refusals())
    async def models() -> Response:
        """What each model takes and gives."""
        return reply([described(model) for model in app.models.values()])


def described(model: Model) -> dict[str, Any]:
    """A model as /models tells it."""
    hidden = ("slots", "process")
    told = {key: value for key, value in model.metadata.items() if key not in hidden}
    return {**told, "name": model.name, "ready": model.ready}


# ------------------------------------------------------------------------------------------- operation
def _operation(site: FastAPI, app: App) -> None:
    @site.get("/metrics", tags=["operation"], responses=openapi.METRICS | refusals())
    async def metrics() -> Response:
        """Figures in Prometheus' text format."""
        return Response(app.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @site.post(
        "/admin/reload",
        tags=["operation"],
        responses=refusals(404, 413, 408, 422, 429),
        openapi_extra=openapi.RELOAD,
    )
    async def reload(request: Request) -> Response:
        """Answer from another Run, which lies beside those that are served, or from the same one anew. Where it cannot
        be loaded the old one goes on, and the answer is 422 with the reason."""
        try:
            body = await app.body(request.receive)
            app.held -= len(body)
            asked = orjson.loads(body)
        except ValueError:
            raise HTTPException(400, "wants JSON: {'model': NAME, 'run': RUN}") from None
        if not isinstance(asked, dict) or not all(isinstance(value, str) for value in asked.values()):
            raise HTTPException(400, "wants {'model': NAME, 'run': RUN}, both texts")
        model = app.found(asked.get("model", next(iter(app.models)) if len(app.models) == 1 else ""))
        try:
            await model.reload(_beside(app, model, asked.get("run", "")))
        except UserError as error:
            app.log("reload_failed", model=model.name, run=asked.get("run", "")[:200], reason=str(error))
            raise HTTPException(422, str(error)) from None
        app.log("reload", model=model.name, run=model.path)
        return reply({"model": model.name, "run": Path(model.path).name, "reloads": model.reloads})

    @site.get("/docs", tags=["operation"], responses=openapi.PAGE | refusals())
    async def docs() -> Response:
        """This documentation as a page."""
        from modelworks.serving import docs as page

        text = page.render(site.openapi())
        policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
        return Response(text, 200, {"Content-Security-Policy": policy}, "text/html; charset=utf-8")


def _beside(app: App, model: Model, run: str) -> str:
    """The folder of a Run named in a request: only one beside a Run that is served from the start."""
    if not run:
        return model.path
    try:
        path = (Path(model.path).parent / run).resolve()
        there = (path / "recipe.yaml").is_file()
    except (OSError, ValueError):
        raise UserError("the run's name is no file name") from None
    if path.parent not in app.shelves or not there:
        raise UserError(f"there is no Run {run[:80]!r} beside those that are served")
    return str(path)
