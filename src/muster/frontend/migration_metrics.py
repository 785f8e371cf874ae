"""Counts of requests that changed their instance, by Dynamo's names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from muster.metrics import Histogram

__all__ = ["MigrationMetrics"]

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class MigrationMetrics(Collector):
    """Counts moves of all models; a collector for a registry.

    A move is of type ``new_request`` before the first token, ``ongoing_request`` after it. Its
    duration is from the failure to the next instance's first output (``success``), to the failure
    that ends the request (``failure``), or to the client's leaving (``cancelled``).

    Args:
        prefix: Beginning of every name, without the underscore after it.
    """

    def __init__(self, *, prefix: str = "dynamo_frontend") -> None:
        self._prefix = prefix
        self._moves: dict[tuple[str, str], int] = {}
        self._exceeded: dict[str, int] = {}
        self._duration = Histogram(
            f"{prefix}_model_migration_duration_seconds",
            "From the loss of an instance to the next one's output, or to the end.",
            ["model", "migration_type", "outcome"],
            buckets=_SECONDS,
            registry=None,
        )

    def moved(self, model: str, kind: str, times: int = 1) -> None:
        """A request of ``model`` goes to another instance."""
        self._moves[model, kind] = self._moves.get((model, kind), 0) + times

    def settled(self, model: str, kind: str, outcome: str, seconds: float) -> None:
        """What came of a move, and how long that took."""
        self._duration.labels(model, kind, outcome).observe(seconds)

    def exceeded(self, model: str) -> None:
        """An answer has become too long to be moved."""
        self._exceeded[model] = self._exceeded.get(model, 0) + 1

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering does not collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The present values."""
        moves = CounterMetricFamily(
            f"{self._prefix}_model_migration",
            "Requests that went to another instance.",
            labels=["model", "migration_type"],
        )
        for key, count in self._moves.items():
            moves.add_metric(key, count)
        yield moves
        exceeded = CounterMetricFamily(
            f"{self._prefix}_model_migration_max_seq_len_exceeded",
            "Answers that became too long to go to another instance.",
            labels=["model"],
        )
        for model, count in self._exceeded.items():
            exceeded.add_metric([model], count)
        yield exceeded
        yield from self._duration.collect()
