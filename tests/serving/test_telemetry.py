"""A span a request, part of the caller's trace, with the route's name and not the path's."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi", reason="the extra serve")
trace = pytest.importorskip("opentelemetry.trace", reason="the extra otel")
sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra otel")


def test_a_span_has_the_callers_trace() -> None:
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from modelworks.serving import telemetry

    kept = InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    scope = {"method": "POST", "path": "/predict/m", "headers": [(b"traceparent", parent.encode())]}
    telemetry.of(provider, trace)(scope)("m", "predict", 503)
    (span,) = kept.get_finished_spans()
    assert f"{span.context.trace_id:032x}" == parent.split("-")[1]
    assert (span.name, span.attributes["http.response.status_code"]) == ("POST predict", 503)
    assert span.status.status_code is trace.StatusCode.ERROR
