"""Metrics that cost little to observe, in the Prometheus text format.

``prometheus_client`` owns registries and the text format. Its own histogram walks its buckets and
takes a lock at every observation, which is too much once a token; ``Histogram`` here bisects and
adds, and is read by the same registries. Observe from the event loop's thread only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["Histogram", "HistogramChild"]


class HistogramChild:
    """The counts of one set of label values."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count ``value`` ``times`` times; a value on a bound belongs to that bound's bucket."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    @property
    def bounds(self) -> Sequence[float]:
        """Upper bounds of the buckets, ascending, without infinity."""
        return self._bounds

    def counts(self) -> list[int]:
        """How many values each bucket has, not cumulative; the last are those beyond all bounds."""
        return self._counts.copy()

    def snapshot(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative buckets as ``(le, count)``, ending with ``+Inf``, and the sum."""
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip([*map(repr, self._bounds), "+Inf"], self._counts, strict=True):
            total += count
            buckets.append((bound, total))
        return buckets, self._sum


class Histogram(Collector):
    """A histogram family with a child per set of label values.

    Args:
        name: Its full name.
        documentation: One sentence.
        labels: Names of its labels.
        buckets: Upper bounds, ascending, without infinity.
        registry: Registry that exposes it; ``None`` if somebody else asks for it.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry | None,
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self._bounds = tuple(float(bound) for bound in buckets)
        self._children: dict[tuple[str, ...], HistogramChild] = {}
        if registry is not None:
            registry.register(self)

    def labels(self, *values: str) -> HistogramChild:
        """The child for these label values, made on first use."""
        child = self._children.get(values)
        if child is None:
            if len(values) != len(self._labels):
                raise ValueError(f"{self._name} has labels {self._labels}, got {values}")
            child = self._children[values] = HistogramChild(self._bounds)
        return child

    def describe(self) -> Iterable[Metric]:
        """The family without samples, so that registering does not collect."""
        return [HistogramMetricFamily(self._name, self._documentation, labels=self._labels)]

    def collect(self) -> Iterable[Metric]:
        """The family with a sample per child."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, child in self._children.items():
            buckets, total = child.snapshot()
            family.add_metric(values, buckets, total)
        return [family]
