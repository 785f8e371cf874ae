"""The frontend's metrics: Dynamo's names, labels and buckets, at the cost of integer additions.

Nothing here locks or looks anything up per token: a request holds its ``RequestMeter``, that holds
its model's counts, and a batch of tokens is one call. The registry reads the counts when scraped.
Observe from the event loop's thread only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from muster.errors import MusterError
from muster.frontend.api_error import ApiError
from muster.frontend.model_table import ModelTable
from muster.metrics import Histogram, HistogramChild

__all__ = ["FrontendMetrics", "ModelCounts", "RequestMeter"]

UNKNOWN_MODEL = "unknown_model"
"""Label under which requests for models that do not exist are counted: clients choose no labels."""

# fmt: off
_TTFT = (0, .0022, .0047, .01, .022, .047, .1, .22, .47, 1, 2.2, 4.7, 10, 22, 48, 100, 220, 480)
_ITL = (
    0, .0018, .0033, .0059, .011, .02, .035, .064, .12, .21, .38, .69, 1.2, 2.3, 4.1, 7.4, 13, 24,
    44, 80,
)
_DURATION = (0, 2, 4, 8, 16, 32, 64, 130, 260, 510)
_INPUT = (0, 100, 210, 430, 870, 1800, 3600, 7400, 15000, 31000, 63000, 130000)
_OUTPUT = (0, 100, 210, 430, 880, 1800, 3700, 7600, 16000, 32000)
# fmt: on


Values = dict[tuple[str, ...], int]
"""Samples of a family, by label values."""


class ModelCounts:
    """The counts of one model."""

    __slots__ = (
        "active",
        "cached",
        "cancelled",
        "duration",
        "finished",
        "inflight",
        "input",
        "itl",
        "output",
        "output_tokens",
        "queued",
        "rejected",
        "started",
        "ttft",
    )

    def __init__(self, children: dict[str, HistogramChild]) -> None:
        self.ttft = children["time_to_first_token_seconds"]
        self.itl = children["inter_token_latency_seconds"]
        self.duration = children["request_duration_seconds"]
        self.input = children["input_sequence_tokens"]
        self.output = children["output_sequence_tokens"]
        self.cached = children["cached_tokens"]
        self.active = 0
        self.queued = 0
        self.inflight = 0
        self.output_tokens = 0
        self.cancelled = 0
        self.started: dict[tuple[str, str], int] = {}
        self.finished: dict[tuple[str, str, str, str], int] = {}
        self.rejected: dict[str, int] = {}


def _error_type(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    return ApiError.from_error(error).error_type if isinstance(error, MusterError) else "internal"


def _by_model(models: Iterable[tuple[str, ModelCounts]], attribute: str) -> Values:
    return {(name,): getattr(counts, attribute) for name, counts in models}


class RequestMeter:
    """Measures one request, from its arrival to its outcome: ``finish`` or ``fail``, once.

    As a context manager it takes an exception that leaves its block for the outcome.

    Attributes:
        ttft: Seconds until the first tokens; ``None`` before.
    """

    __slots__ = (
        "_clock",
        "_closed",
        "_counts",
        "_endpoint",
        "_inflight",
        "_kind",
        "_last",
        "_output",
        "_queued",
        "_start",
        "ttft",
    )

    def __init__(
        self, counts: ModelCounts, endpoint: str, *, stream: bool, clock: Callable[[], float]
    ) -> None:
        self._counts = counts
        self._endpoint = endpoint
        self._kind = "stream" if stream else "unary"
        self._clock = clock
        self._start = clock()
        self._last = 0.0
        self._output = 0
        self._closed = False
        self._queued = True
        self._inflight = False
        self.ttft: float | None = None
        key = (endpoint, self._kind)
        counts.started[key] = counts.started.get(key, 0) + 1
        counts.active += 1
        counts.queued += 1

    def sent(self, input_tokens: int | None) -> None:
        """The request goes to its engine; ``None`` leaves its tokens out of the histogram."""
        if input_tokens is not None:
            self._counts.input.observe(input_tokens)
        self._counts.inflight += 1
        self._inflight = True

    def tokens(self, count: int) -> None:
        """``count`` tokens have come together; the gap before them is shared out among them."""
        if not count:
            return
        now = self._clock()
        counts = self._counts
        if self._queued:
            self._queued = False
            counts.queued -= 1
            self.ttft = now - self._start
            counts.ttft.observe(self.ttft)
        else:
            counts.itl.observe((now - self._last) / count, count)
        self._last = now
        self._output += count
        counts.output_tokens += count

    def finish(self, cached_tokens: int | None = None, *, generated: bool = True) -> None:
        """The request has been answered.

        Args:
            cached_tokens: So many tokens of its prompt were cached, if known.
            generated: Whether the answer has tokens to be counted; embeddings have none.
        """
        if generated:
            self._counts.output.observe(self._output)
        if cached_tokens is not None:
            self._counts.cached.observe(cached_tokens)
        self._close("success", "")

    def fail(self, error_type: str) -> None:
        """The request has failed; ``error_type`` is one of Dynamo's words for why."""
        counts = self._counts
        if error_type == "cancelled":
            counts.cancelled += 1
        elif error_type in ("overload", "unavailable"):
            counts.rejected[self._endpoint] = counts.rejected.get(self._endpoint, 0) + 1
        self._close("error", error_type)

    def __enter__(self) -> RequestMeter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Count the failure that leaves the block, unless the outcome is known already."""
        if error is not None and not self._closed:
            self.fail(_error_type(error))

    def _close(self, status: str, error_type: str) -> None:
        self._closed = True
        counts = self._counts
        counts.duration.observe(self._clock() - self._start)
        counts.active -= 1
        counts.queued -= self._queued
        counts.inflight -= self._inflight
        key = (self._endpoint, self._kind, status, error_type)
        counts.finished[key] = counts.finished.get(key, 0) + 1


class FrontendMetrics(Collector):
    """All metrics of one frontend.

    Args:
        registry: Registry that exposes them.
        table: Models whose readiness and limits are shown.
        prefix: Beginning of every name, without the underscore after it.
        clock: Source of durations, in seconds.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        table: ModelTable,
        *,
        prefix: str = "dynamo_frontend",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prefix = prefix
        self._table = table
        self._clock = clock
        self._models: dict[str, ModelCounts] = {}
        self._histograms = {
            name: Histogram(f"{prefix}_{name}", text, ["model"], buckets=buckets, registry=registry)
            for name, text, buckets in (
                ("request_duration_seconds", "From a request's arrival to its end.", _DURATION),
                ("time_to_first_token_seconds", "From arrival to the first output.", _TTFT),
                ("inter_token_latency_seconds", "Time between tokens.", _ITL),
                ("input_sequence_tokens", "Tokens of prompts.", _INPUT),
                ("output_sequence_tokens", "Tokens generated for a request.", _OUTPUT),
                ("cached_tokens", "Prompt tokens the engine had cached.", _INPUT),
            )
        }
        registry.register(self)

    def start(self, model: str | None, endpoint: str, *, stream: bool) -> RequestMeter:
        """Begin measuring a request; ``model`` is ``None`` when it does not exist."""
        return RequestMeter(
            self._counts(model or UNKNOWN_MODEL), endpoint, stream=stream, clock=self._clock
        )

    @property
    def by_model(self) -> Mapping[str, ModelCounts]:
        """The counts of each model that has been asked for."""
        return self._models

    @property
    def bounds(self) -> tuple[Sequence[float], Sequence[float]]:
        """Upper bounds of the buckets of the time to the first token, and of that between tokens."""
        return _TTFT, _ITL

    def refused(self, endpoint: str, error_type: str) -> None:
        """Count a request that did not get as far as a model."""
        self.start(None, endpoint, stream=False).fail(error_type)

    def _counts(self, model: str) -> ModelCounts:
        counts = self._models.get(model)
        if counts is None:
            counts = self._models[model] = ModelCounts(
                {name: family.labels(model) for name, family in self._histograms.items()}
            )
        return counts

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering does not collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The present values of everything but the histograms, which collect themselves."""
        left = sum(counts.cancelled for counts in self._models.values())
        yield self._gauge("disconnected_clients", "Clients that left early.", {(): left})
        yield from self._request_families()
        yield from self._model_families()

    def _request_families(self) -> Iterator[Metric]:
        models = self._models.items()
        labels = ["model", "endpoint", "request_type", "status", "error_type"]
        yield self._counter(
            "requests",
            "Requests answered.",
            labels,
            {(name, *key): n for name, counts in models for key, n in counts.finished.items()},
        )
        yield self._counter(
            "requests_started",
            "Requests that have arrived.",
            labels[:3],
            {(name, *key): n for name, counts in models for key, n in counts.started.items()},
        )
        yield self._counter(
            "model_rejection",
            "Requests refused for want of a free worker.",
            labels[:2],
            {(name, key): n for name, counts in models for key, n in counts.rejected.items()},
        )
        for attribute, family, text in (
            ("output_tokens", "output_tokens", "Tokens generated."),
            ("cancelled", "model_cancellation", "Requests whose client left."),
        ):
            values = _by_model(models, attribute)
            yield self._counter(family, text, ["model"], values)
        for attribute, family, text in (
            ("inflight", "inflight_requests", "Requests at an engine."),
            ("queued", "queued_requests", "Requests without a first output yet."),
            ("active", "active_requests", "Requests not answered yet."),
        ):
            values = _by_model(models, attribute)
            yield self._gauge(family, text, values)

    def _model_families(self) -> Iterator[Metric]:
        ready: Values = {(status.model,): 0 for status in self._table.unserved()}
        limits: Values = {}
        for model in self._table.models():
            ready[model.name,] = 1
            limits[model.name,] = model.context_length
        yield self._gauge("model_ready", "Whether the model is served.", ready)
        yield self._gauge(
            "model_context_length",
            "Longest prompt and output together, in tokens; 0 if unknown.",
            limits,
        )

    def _counter(self, name: str, text: str, labels: list[str], values: Values) -> Metric:
        family = CounterMetricFamily(f"{self._prefix}_{name}", text, labels=labels)
        for key, value in values.items():
            family.add_metric(key, value)
        return family

    def _gauge(self, name: str, text: str, values: Values) -> Metric:
        labels = ["model"] if () not in values else []
        family = GaugeMetricFamily(f"{self._prefix}_{name}", text, labels=labels)
        for key, value in values.items():
            family.add_metric(key, value)
        return family
