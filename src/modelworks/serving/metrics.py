"""Metrics: what /metrics tells, in Prometheus' text format.

    metrics.request("titanic", "predict", 200, 0.012)
    metrics.text()

Figures are plain numbers that the front adds to, and what workers push as `stats` frames:

    {"counters": {"rows": 3}, "gauges": {"slots_busy": 2}, "histograms": {"first_token_seconds": [edges, counts, sum]}}

A name becomes modelworks_NAME (a counter modelworks_NAME_total) with the label `model`. A value with labels of its own
is a list of [labels, value]. Counts of a worker that ended are kept, so that a counter never falls.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any

from modelworks.serving.model import Model

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
HELP = {
    "rows": "Rows asked about",
    "rows_unanswered": "Rows that could not be answered",
    "drift_psi": "Population stability index of what is asked against training; above 0.2 is a shift",
    "drift_missing_share": "Share of values that are missing; label training for the training split's",
    "drift_unknown_share": "Share of values that are categories never seen in training",
    "first_token_seconds": "From a request's arrival to its first token",
    "token_seconds": "Between two tokens of a stream",
}


class Histogram:
    """Counts by upper edge."""

    def __init__(self, edges: tuple[float, ...]) -> None:
        self.edges, self.counts, self.sum = edges, [0] * (len(edges) + 1), 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.edges, value)] += 1
        self.sum += value


class Metrics:
    """All figures of a server."""

    def __init__(self, models: Mapping[str, Model]) -> None:
        self.models = models
        self.requests: dict[tuple[str, str, int], int] = {}
        self.latency: dict[tuple[str, str], Histogram] = {}
        self.sizes = {name: Histogram(SIZES) for name in models}
        self.service = {name: Histogram(SECONDS) for name in models}
        self.in_flight = 0
        self._kept: dict[str, dict[str, Any]] = {name: {} for name in models}
        for name, model in models.items():
            model.batches = self._batch_of(name)
            model.retired = self._keep_of(name)

    def request(self, model: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        key = (model, route, status)
        self.requests[key] = self.requests.get(key, 0) + 1
        histogram = self.latency.get((model, route))
        if histogram is None:
            histogram = self.latency[model, route] = Histogram(SECONDS)
        histogram.add(seconds)

    def _batch_of(self, name: str) -> Any:
        sizes, service = self.sizes[name], self.service[name]

        def told(size: int, seconds: float) -> None:
            sizes.add(size)
            service.add(seconds)

        return told

    def _keep_of(self, name: str) -> Any:
        def told(stats: dict[str, Any]) -> None:
            self._kept[name] = added(self._kept[name], stats)

        return told

    def text(self) -> bytes:
        """The page."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)  # type: ignore[arg-type]
        return generate_latest(registry)

    def collect(self) -> Iterable[Any]:
        """prometheus_client's interface."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        requests = CounterMetricFamily(
            "modelworks_requests", "Answered requests", labels=["model", "route", "status"]
        )
        for (model, route, status), count in list(self.requests.items()):
            requests.add_metric([model, route, str(status)], count)
        yield requests
        yield _histogram(
            "modelworks_request_seconds",
            "From a request's arrival to its answer",
            ["model", "route"],
            [(list(key), found) for key, found in list(self.latency.items())],
        )
        yield _histogram(
            "modelworks_batch_size",
            "Requests answered together",
            ["model"],
            [([n], h) for n, h in self.sizes.items()],
        )
        yield _histogram(
            "modelworks_batch_seconds",
            "From a batch's sending to its answers",
            ["model"],
            [([n], h) for n, h in self.service.items()],
        )
        gauges = {
            "queue_length": ("Requests that wait", lambda model: len(model.waiting)),
            "ready": ("Whether a worker is ready", lambda model: int(model.ready)),
        }
        for name, (help_, of) in gauges.items():
            gauge = GaugeMetricFamily(f"modelworks_{name}", help_, labels=["model"])
            for model in self.models.values():
                gauge.add_metric([model.name], of(model))
            yield gauge
        yield GaugeMetricFamily(
            "modelworks_requests_in_flight", "Requests that are being answered", self.in_flight
        )
        counters = {
            "worker_restarts": ("Workers started because one ended", lambda model: model.restarts),
            "reloads": ("Runs put in place of another", lambda model: model.reloads),
            "queue_refusals": ("Requests answered 429: the queue was full", lambda model: model.refused),
            "timeouts": ("Requests answered 504", lambda model: model.timeouts),
            "cancelled": ("Requests whose client hung up", lambda model: model.cancelled),
        }
        for name, (help_, of) in counters.items():
            counter = CounterMetricFamily(f"modelworks_{name}", help_, labels=["model"])
            for model in self.models.values():
                counter.add_metric([model.name], of(model))
            yield counter
        yield from self._of_workers()

    def _of_workers(self) -> Iterable[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        families: dict[str, Any] = {}
        histograms: dict[str, list[Any]] = {}
        for name, model in self.models.items():
            stats = added(self._kept[name], model.worker.stats if model.worker else {})
            gauges = (model.worker.stats if model.worker else {}).get("gauges", {})
            for kind, make, found in (
                ("counter", CounterMetricFamily, stats.get("counters", {})),
                ("gauge", GaugeMetricFamily, gauges),
            ):
                for key, value in found.items():
                    rows = value if isinstance(value, list) else [[{}, value]]
                    labels = ["model", *(rows[0][0] if rows else {})]
                    family = families.setdefault(
                        f"{kind} {key}",
                        make(f"modelworks_{key}", HELP.get(key, key.replace("_", " ")), labels=labels),
                    )
                    for own, number in rows:
                        family.add_metric([name, *map(str, own.values())], number)
            for key, (edges, counts, total) in stats.get("histograms", {}).items():
                histogram = Histogram(tuple(edges))
                histogram.counts, histogram.sum = list(counts), total
                histograms.setdefault(key, []).append(([name], histogram))
        yield from families.values()
        for key, rows in histograms.items():
            yield _histogram(f"modelworks_{key}", HELP.get(key, key.replace("_", " ")), ["model"], rows)


def added(kept: Mapping[str, Any], stats: Mapping[str, Any]) -> dict[str, Any]:
    """Counters and histograms of two workers together."""
    counters: dict[str, Any] = dict(kept.get("counters", {}))
    for key, value in stats.get("counters", {}).items():
        before = counters.get(key)
        if before is None:
            counters[key] = value
        elif isinstance(value, list):
            both = {tuple(labels.items()): number for labels, number in before}
            for labels, number in value:
                both[tuple(labels.items())] = both.get(tuple(labels.items()), 0) + number
            counters[key] = [[dict(labels), number] for labels, number in both.items()]
        else:
            counters[key] = before + value
    histograms: dict[str, Any] = dict(kept.get("histograms", {}))
    for key, (edges, counts, total) in stats.get("histograms", {}).items():
        if key in histograms and histograms[key][0] == edges:
            _, old, sum_ = histograms[key]
            histograms[key] = [edges, [a + b for a, b in zip(old, counts, strict=True)], sum_ + total]
        else:
            histograms[key] = [edges, counts, total]
    return {"counters": counters, "histograms": histograms}


def _histogram(name: str, help_: str, labels: list[str], rows: list[tuple[list[str], Histogram]]) -> Any:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(name, help_, labels=labels)
    for values, found in rows:
        total, buckets = 0, []
        for edge, count in zip([*found.edges, float("inf")], found.counts, strict=True):
            total += count
            buckets.append(("+Inf" if edge == float("inf") else str(float(edge)), total))
        family.add_metric(values, buckets, found.sum)
    return family
