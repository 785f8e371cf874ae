"""Counts of the requests a process serves, by endpoint, with Dynamo's names, labels and buckets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from muster.clock import SYSTEM_CLOCK, Clock
from muster.metrics import HistogramChild
from muster.names import EndpointId
from muster.runtime.metrics.hierarchy import MetricsNode
from muster.runtime.metrics.registry import PREFIX
from muster.runtime.metrics.work_handler import WORK_HANDLER_FAMILIES, WorkHandlerMetrics

__all__ = ["EndpointObserver", "RequestMetrics"]

_BUCKETS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0,
    600.0,
)  # fmt: skip

_COUNTERS = {
    "requests": "Requests accepted.",
    "request_bytes": "Bytes of accepted requests.",
    "response_bytes": "Bytes of responses.",
    "cancellation": "Requests stopped by their caller.",
}
_INFLIGHT = f"{PREFIX}inflight_requests"
_DURATION = f"{PREFIX}request_duration_seconds"
_ERRORS = f"{PREFIX}errors"
_UPTIME = f"{PREFIX}uptime_seconds"

_FAMILIES = WORK_HANDLER_FAMILIES | {
    **{f"{PREFIX}{name}": "counter" for name in (*_COUNTERS, "errors")},
    _INFLIGHT: "gauge",
    _DURATION: "histogram",
    _UPTIME: "gauge",
}


class RequestMetrics:
    """The request metrics of one process.

    Their names are kept for it: nobody else can make a metric of such a name at any level.

    Args:
        root: The runtime's metrics, which show them.
        clock: For the uptime, which counts from now.

    Attributes:
        root: As given.
        work_handler: What the dispatcher counts; set its capacities.

    Raises:
        ConfigError: A metric of one of the names is there already.
    """

    def __init__(self, root: MetricsNode, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.root = root
        self.work_handler = WorkHandlerMetrics()
        for name, kind in _FAMILIES.items():
            root.reserve(name, kind)
        root.attach(self.work_handler, automatic=False)
        root.attach(_Uptime(clock))


class _Uptime(Collector):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.monotonic()

    def collect(self) -> Iterable[Metric]:
        seconds = self._clock.monotonic() - self._began
        yield GaugeMetricFamily(_UPTIME, "Time since the runtime was made.", value=seconds)


class EndpointObserver(Collector):
    """Counts one endpoint's requests; see ``muster.wire.dispatch.Observer``.

    Its methods cost an addition or two each, and are for the event loop's thread.

    Args:
        metrics: Those of the process.
        endpoint: What it counts for; shown until ``close``.
        labels: Pairs of name and value that this endpoint's request metrics have besides the
            automatic labels (``metrics_labels`` of ``serve_endpoint``).

    Attributes:
        active: Requests accepted whose response is not over.
        on_item: Called after items were sent, if anybody wants to know.

    Raises:
        InvalidArgument: A label's name is bad, set automatically, used by these metrics
            (``error_type``), or there twice.
    """

    def __init__(
        self, metrics: RequestMetrics, endpoint: EndpointId, labels: Sequence[Sequence[str]] = ()
    ) -> None:
        self.active = 0
        self.on_item: Callable[[], None] | None = None
        self._requests = 0
        self._request_bytes = 0
        self._response_bytes = 0
        self._cancellation = 0
        self._errors: dict[str, int] = {}
        self._duration = HistogramChild(_BUCKETS)
        self._work_handler = metrics.work_handler
        self._level = metrics.root.endpoint_of(endpoint)
        self._level.attach(self, labels=labels, label_names=["error_type"])

    # -- observing ---------------------------------------------------------------------------

    def started(self, request_bytes: int) -> None:
        """A request was accepted."""
        self.active += 1
        self._requests += 1
        self._request_bytes += request_bytes

    def transit(self, seconds: float) -> None:
        """A request took this long from its sender's clock to ours."""
        self._work_handler.transit(seconds)

    def first_response(self, seconds: float) -> None:
        """The start of a response was sent, this long after the request came."""
        self._work_handler.time_to_first_response.observe(seconds)

    def responded(self, response_bytes: int) -> None:
        """So many more bytes of a response were sent."""
        self._response_bytes += response_bytes

    def ended(self, seconds: float, failure: str | None) -> None:
        """A response is over; ``failure`` says at which stage it failed."""
        self.active -= 1
        self._duration.observe(seconds)
        if failure is not None:
            self._errors[failure] = self._errors.get(failure, 0) + 1

    def cancelled(self) -> None:
        """The caller stopped it or went away."""
        self._cancellation += 1

    # -- showing -----------------------------------------------------------------------------

    def collect(self) -> Iterable[Metric]:
        """The families of the page, without the labels that say which endpoint it is."""
        for name, text in _COUNTERS.items():
            yield CounterMetricFamily(PREFIX + name, text, value=getattr(self, f"_{name}"))
        yield GaugeMetricFamily(_INFLIGHT, "Requests being handled.", value=self.active)
        buckets, total = self._duration.snapshot()
        text = "Time from acceptance to the end of the response."
        yield HistogramMetricFamily(_DURATION, text, buckets=buckets, sum_value=total)
        errors = CounterMetricFamily(
            _ERRORS, "Requests that failed, by stage.", None, ["error_type"]
        )
        for failure, count in self._errors.items():
            errors.add_metric([failure], count)
        yield errors

    def close(self) -> None:
        """The endpoint is gone: take its requests out of the page. Idempotent."""
        self._level.unregister(self)
