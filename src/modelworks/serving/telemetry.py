"""Telemetry: a span a request by OpenTelemetry, where --otel asks for it (extra: otel).

    begin = telemetry.tracer(); ended = begin(scope); …; ended("titanic", "predict", 200)

The exporter is OTLP over HTTP, set by the usual OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_SERVICE_NAME. A request's
`traceparent` makes its span a part of the caller's trace.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modelworks.core.errors import need

Ended = Callable[[str, str, int], None]
"""Told model, route and status."""
Tracer = Callable[[Any], Ended]
"""Scope of a request → what is called at its end."""


def tracer() -> Tracer:
    """Spans for requests; raises MissingExtra."""
    purpose = "--otel"
    trace = need("opentelemetry.trace", "otel", purpose)
    sdk = need("opentelemetry.sdk.trace", "otel", purpose)
    export = need("opentelemetry.sdk.trace.export", "otel", purpose)
    otlp = need("opentelemetry.exporter.otlp.proto.http.trace_exporter", "otel", purpose)
    resources = need("opentelemetry.sdk.resources", "otel", purpose)
    # Names and endpoints that the environment gives come before this one.
    resource = resources.Resource({"service.name": "modelworks"}).merge(
        resources.OTELResourceDetector().detect()
    )
    provider = sdk.TracerProvider(resource=resource)
    provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter()))
    return of(provider, trace)


def of(provider: Any, trace: Any) -> Tracer:
    """Spans of this provider."""
    propagation = need(
        "opentelemetry.trace.propagation.tracecontext", "otel", "--otel"
    ).TraceContextTextMapPropagator()
    made = provider.get_tracer("modelworks.serving")

    def begun(scope: Any) -> Ended:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        span = made.start_span(
            f"{scope['method']}", context=propagation.extract(headers), kind=trace.SpanKind.SERVER,
            attributes={"http.request.method": scope["method"], "url.path": scope["path"][:200]},
        )  # fmt: skip

        def ended(model: str, route: str, status: int) -> None:
            span.update_name(f"{scope['method']} {route}")
            span.set_attributes(
                {"modelworks.model": model, "http.route": route, "http.response.status_code": status}
            )
            if status >= 500:
                span.set_status(trace.StatusCode.ERROR)
            span.end()

        return ended

    return begun
