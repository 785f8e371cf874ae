"""Metrics of several processes as those of one frontend: pure.

Names and labels stay as they are with one process. Counters and histograms are added. A gauge that
counts what a process has under way is added, too; any other says the same in every process, more or
less at the same time, and the largest value is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from muster.frontend.processes.messages import Family

__all__ = ["ADDED_GAUGES", "lasting", "merge", "page_of", "render"]

ADDED_GAUGES = frozenset(
    {
        "dynamo_frontend_active_requests",
        "dynamo_frontend_disconnected_clients",
        "dynamo_frontend_inflight_requests",
        "dynamo_frontend_queued_requests",
        "muster_queue_waiting",
    }
)
"""Gauges of what each process has for itself."""
_LASTING_GAUGES = frozenset({"dynamo_frontend_disconnected_clients"})
"""Dynamo calls it a gauge, but it only ever grows."""
_ADDED = frozenset({"counter", "histogram", "summary"})


def page_of(registry: CollectorRegistry) -> list[Family]:
    """The present metrics of a registry."""
    return [
        Family(
            family.name,
            family.documentation,
            family.type,
            [(sample.name, sample.labels, float(sample.value)) for sample in family.samples],
        )
        for family in registry.collect()
    ]


def merge(pages: Iterable[list[Family]]) -> list[Family]:
    """One page of several: families and samples in the order in which they are first seen."""
    heads: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for page in pages:
        for family in page:
            heads.setdefault(family.name, family)
            known = values.setdefault(family.name, {})
            is_added = family.kind in _ADDED or family.name in ADDED_GAUGES
            for name, labels, value in family.samples:
                key = (name, tuple(labels.items()))
                before = known.get(key)
                if before is None:
                    known[key] = value
                else:
                    known[key] = before + value if is_added else max(before, value)
    return [
        Family(
            name,
            head.text,
            head.kind,
            [(sample, dict(labels), value) for (sample, labels), value in values[name].items()],
        )
        for name, head in heads.items()
    ]


def lasting(page: list[Family]) -> list[Family]:
    """What stays of the metrics of a process that has ended: all that may only grow."""
    return [family for family in page if family.kind in _ADDED or family.name in _LASTING_GAUGES]


class _Shown(Collector):
    def __init__(self, page: list[Family]) -> None:
        self._page = page

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        for family in self._page:
            metric = Metric(family.name, family.text, family.kind)
            metric.samples = [Sample(*sample) for sample in family.samples]
            yield metric


def render(page: list[Family]) -> bytes:
    """A page in the text format, as ``/metrics`` has it."""
    registry = CollectorRegistry()
    registry.register(_Shown(page))
    return generate_latest(registry)
