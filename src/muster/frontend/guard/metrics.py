"""Counts of what the guard let in and turned away; by holders' names, never by keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["GuardMetrics"]


class GuardMetrics(Collector):
    """The counts.

    Attributes:
        requests: By holder and outcome (``admitted``, ``limited``, ``forbidden``).
        tokens: By holder.
        unauthenticated: By why: ``missing_api_key`` or ``invalid_api_key``.
        keys: How many keys there are at present.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.tokens: Counter[str] = Counter()
        self.unauthenticated: Counter[str] = Counter()
        self.keys = 0

    def keep(self, names: Collection[str]) -> None:
        """Forget holders that are not among ``names``."""
        for key in [key for key in self.requests if key[0] not in names]:
            del self.requests[key]
        for name in [name for name in self.tokens if name not in names]:
            del self.tokens[name]

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering does not collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The present counts."""
        requests = CounterMetricFamily(
            "muster_key_requests",
            "Requests by the name of their key and what became of them at the door.",
            labels=["key", "outcome"],
        )
        for (name, outcome), count in self.requests.items():
            requests.add_metric([name, outcome], count)
        tokens = CounterMetricFamily(
            "muster_key_tokens", "Tokens of prompts and answers.", labels=["key"]
        )
        for name, count in self.tokens.items():
            tokens.add_metric([name], count)
        refused = CounterMetricFamily(
            "muster_unauthenticated_requests", "Requests without a valid key.", labels=["reason"]
        )
        for reason, count in self.unauthenticated.items():
            refused.add_metric([reason], count)
        yield requests
        yield tokens
        yield refused
        yield GaugeMetricFamily("muster_keys", "Keys in the file.", value=self.keys)
