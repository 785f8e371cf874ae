"""Admission of requests, counted for the whole process: queue, places, waiting, refusals.

Families, types and buckets are those a worker of Dynamo 1.6.1 shows; they have no labels.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from muster.metrics import HistogramChild

__all__ = ["WORK_HANDLER_FAMILIES", "WorkHandlerMetrics"]

_WAIT_BUCKETS = (0.0001, 0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0)
_TRANSIT_BUCKETS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0)
_RESPONSE_BUCKETS = (
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip

_PREFIX = "dynamo_work_handler_"
_GAUGES = {
    "queue_depth": (f"{_PREFIX}queue_depth", "Requests accepted that wait for a place."),
    "queue_capacity": (f"{_PREFIX}queue_capacity", "Requests that may wait for a place."),
    "pool_active_tasks": (f"{_PREFIX}pool_active_tasks", "Places in use."),
    "pool_capacity": (f"{_PREFIX}pool_capacity", "Requests that may be handled at a time."),
    "engine_requests": ("dynamo_engine_request", "Requests the engine is handling."),
    "queued_requests": ("dynamo_request_queue", "Requests that are not with the engine yet."),
}
_COUNTERS = {
    "enqueue_rejected": (
        f"{_PREFIX}enqueue_rejected",
        "Requests that could not be queued because nothing takes them out any more.",
    ),
    "rejected_requests": (
        "dynamo_rejection_request",
        "Requests refused because the engine and the queue are full.",
    ),
}
_HISTOGRAMS = {
    "permit_wait": (f"{_PREFIX}permit_wait_seconds", "Time requests waited for a place."),
    "network_transit": (
        f"{_PREFIX}network_transit_seconds",
        "Time from sending a request to receiving it, by the clocks of both machines.",
    ),
    "time_to_first_response": (
        f"{_PREFIX}time_to_first_response_seconds",
        "Time from receiving a request to sending the start of its response.",
    ),
}

WORK_HANDLER_FAMILIES = {
    name: kind
    for kind, families in (("gauge", _GAUGES), ("counter", _COUNTERS), ("histogram", _HISTOGRAMS))
    for name, _ in families.values()
}
"""Type of each family by its name, a counter's without ``_total``."""


class WorkHandlerMetrics(Collector):
    """What the dispatcher of a process counts. On the event loop's thread only.

    The attributes are plain numbers, read when the page is made; whoever has the queue sets or
    counts them. The methods do what belongs together.

    Args:
        queue_capacity: Requests that may wait.
        pool_capacity: Requests that may be handled at a time.

    Attributes:
        queue_depth: Requests waiting for a place.
        queue_capacity: As given.
        pool_active_tasks: Places in use.
        pool_capacity: As given.
        engine_requests: Requests the engine is handling.
        queued_requests: Requests accepted and not with the engine yet.
        enqueue_rejected: Requests that came when nothing was taken out of the queue any more.
        rejected_requests: Requests refused for lack of places.
    """

    __slots__ = (*_GAUGES, *_COUNTERS, *_HISTOGRAMS)

    def __init__(self, *, queue_capacity: int = 0, pool_capacity: int = 0) -> None:
        self.queue_depth = 0
        self.queue_capacity = queue_capacity
        self.pool_active_tasks = 0
        self.pool_capacity = pool_capacity
        self.engine_requests = 0
        self.queued_requests = 0
        self.enqueue_rejected = 0
        self.rejected_requests = 0
        self.permit_wait = HistogramChild(_WAIT_BUCKETS)
        self.network_transit = HistogramChild(_TRANSIT_BUCKETS)
        self.time_to_first_response = HistogramChild(_RESPONSE_BUCKETS)

    def queued(self) -> None:
        """A request was accepted and waits for a place."""
        self.queue_depth += 1
        self.queued_requests += 1

    def unqueued(self) -> None:
        """A request left the queue, to be handled or because nobody wants it any more."""
        self.queue_depth -= 1
        self.queued_requests -= 1

    def waited(self, seconds: float) -> None:
        """A request got its place after this long; zero if it did not have to wait."""
        self.permit_wait.observe(seconds)

    def running(self) -> None:
        """A request has a place, and goes to the engine."""
        self.pool_active_tasks += 1
        self.engine_requests += 1

    def finished(self) -> None:
        """A request gave its place back."""
        self.pool_active_tasks -= 1
        self.engine_requests -= 1

    def rejected(self) -> None:
        """A request was refused for lack of places."""
        self.rejected_requests += 1

    def transit(self, seconds: float) -> None:
        """A request took this long to come here; clocks that disagree make it 0, not less."""
        self.network_transit.observe(max(0.0, seconds))

    def collect(self) -> Iterable[Metric]:
        """The families of the page."""
        for attribute, (name, text) in _GAUGES.items():
            yield GaugeMetricFamily(name, text, value=getattr(self, attribute))
        for attribute, (name, text) in _COUNTERS.items():
            yield CounterMetricFamily(name, text, value=getattr(self, attribute))
        for attribute, (name, text) in _HISTOGRAMS.items():
            buckets, total = getattr(self, attribute).snapshot()
            yield HistogramMetricFamily(name, text, buckets=buckets, sum_value=total)
