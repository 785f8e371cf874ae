"""Counts of the requests a process serves, by endpoint, with Dynamo's names, labels and buckets."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from muster.metrics import Histogram
from muster.names import EndpointId

__all__ = ["EndpointObserver", "RequestMetrics"]

_LABELS = ("dynamo_namespace", "dynamo_component", "dynamo_endpoint", "worker_id")
_BUCKETS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
)  # fmt: skip


class RequestMetrics:
    """The metric families of one process.

    Args:
        registry: Registry that exposes them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"dynamo_component_{name}", text, [*_LABELS, *labels], registry=registry)

        self.requests = counter("requests", "Requests accepted.")
        self.request_bytes = counter("request_bytes", "Bytes of accepted requests.")
        self.errors = counter("errors", "Requests that failed, by stage.", "error_type")
        self.cancellations = counter("cancellation", "Requests stopped by their caller.")
        self.inflight = Gauge(
            "dynamo_component_inflight_requests",
            "Requests being handled.",
            _LABELS,
            registry=registry,
        )
        self.duration = Histogram(
            "dynamo_component_request_duration_seconds",
            "Time from acceptance to the end of the response.",
            _LABELS,
            buckets=_BUCKETS,
            registry=registry,
        )


class EndpointObserver:
    """Counts one endpoint's requests; see ``muster.wire.tcp.server.Observer``."""

    def __init__(self, metrics: RequestMetrics, endpoint: EndpointId, instance_id: int) -> None:
        labels = (endpoint.namespace, endpoint.component, endpoint.name, f"{instance_id:x}")
        self._labels = labels
        self._errors = metrics.errors
        self._requests = metrics.requests.labels(*labels)
        self._request_bytes = metrics.request_bytes.labels(*labels)
        self._cancellations = metrics.cancellations.labels(*labels)
        self._inflight = metrics.inflight.labels(*labels)
        self._duration = metrics.duration.labels(*labels)
        self.active = 0

    def started(self, request_bytes: int) -> None:
        """A request was accepted."""
        self.active += 1
        self._requests.inc()
        self._request_bytes.inc(request_bytes)
        self._inflight.inc()

    def ended(self, seconds: float, failure: str | None) -> None:
        """A response is over; ``failure`` says at which stage it failed."""
        self.active -= 1
        self._inflight.dec()
        self._duration.observe(seconds)
        if failure is not None:
            self._errors.labels(*self._labels, failure).inc()

    def cancelled(self) -> None:
        """The caller stopped it or went away."""
        self._cancellations.inc()
