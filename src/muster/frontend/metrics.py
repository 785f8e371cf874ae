"""The frontend's metrics: Dynamo's names, labels and buckets, at the cost of integer additions.

A request holds its ``RequestMeter``, and that its model's counts; the registry reads the counts when
scraped. Observe from the event loop's thread only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from muster.frontend.model_counts import ModelCounts
from muster.frontend.model_table import ModelTable
from muster.frontend.request_meter import RequestMeter
from muster.metrics import Histogram

__all__ = ["FrontendMetrics"]

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


def _by_model(models: Iterable[tuple[str, ModelCounts]], attribute: str) -> Values:
    return {(name,): getattr(counts, attribute) for name, counts in models}


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
