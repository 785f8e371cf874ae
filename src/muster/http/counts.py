"""What happens to connections, counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["HttpCounts"]


class HttpCounts(Collector):
    """Counts of one service's connections.

    Attributes:
        slow_readers: Connections cut because their clients left what was sent to them unread.
    """

    def __init__(self) -> None:
        self.slow_readers = 0

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering does not collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The present counts."""
        yield CounterMetricFamily(
            "muster_http_slow_readers",
            "Connections cut because the client left its response unread.",
            value=self.slow_readers,
        )
