"""Metrics that come from elsewhere: an engine's own page of text, or its families as plain values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

__all__ = ["TextCollector", "TypedCallback", "TypedFamily", "families_of_typed"]

_COUNTER_WITHOUT_TOTAL = re.compile(r"(?m)^(#[ \t]*TYPE[ \t]+\S+(?<!_total)[ \t]+)counter[ \t]*$")

TypedSample = (
    tuple[str, list[tuple[str, str]], float]
    | tuple[str, list[tuple[str, str]], float, float | None]
)
"""Name, labels, value, and the time it was taken at if its source says (Unix seconds)."""

TypedFamily = tuple[str, str, str, str, list[TypedSample]]
"""Name, help, type, unit (empty for none), samples."""

TypedCallback = Callable[[], list[TypedFamily]]


class TextCollector(Collector):
    """The families in a text that a callback returns.

    Args:
        callback: Called at every scrape; returns the Prometheus text format. It must not block.
    """

    def __init__(self, callback: Callable[[], str]) -> None:
        self._callback = callback

    def collect(self) -> Iterable[Metric]:
        """The families, in the text's order. Raises what the callback raises, or ``ValueError``."""
        # prometheus_client would rename a counter without _total. OpenMetrics has no place for one,
        # so it keeps its name and loses its type.
        text = _COUNTER_WITHOUT_TOTAL.sub(r"\1untyped", self._callback())
        return text_string_to_metric_families(text)


def families_of_typed(families: Iterable[TypedFamily]) -> list[Metric]:
    """Families of plain values as ``prometheus_client`` has them.

    Raises:
        ValueError: One is not of the shape of ``TypedFamily``.
    """
    found = []
    for name, text, kind, unit, samples in families:
        family = Metric(name, text, kind, unit)
        for sample, labels, value, *timestamp in samples:
            family.add_sample(sample, dict(labels), value, timestamp[0] if timestamp else None)
        found.append(family)
    return found
