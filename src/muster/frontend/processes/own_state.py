"""What a process tells the others of itself: its counts, its health, the names it serves. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry

from muster.frontend.health import Verdict
from muster.frontend.metrics import FrontendMetrics
from muster.frontend.model_counts import ModelCounts
from muster.frontend.processes.messages import Family, Tally, Tick
from muster.frontend.processes.pages import page_of
from muster.frontend.processes.tallies import SummedCounts, summed, tally_of

__all__ = ["OwnState"]


class OwnState:
    """One process's own state; before ``attach`` it has counted nothing and serves nothing."""

    def __init__(self) -> None:
        self._metrics: FrontendMetrics | None = None
        self._registry = CollectorRegistry()
        self._verdict: Callable[[], Verdict] = lambda: Verdict("unavailable", "it starts")
        self._served: Callable[[], Iterable[str]] = tuple
        self._told: dict[str, Tally] = {}
        self._told_served: list[str] | None = None

    def attach(
        self,
        *,
        metrics: FrontendMetrics,
        registry: CollectorRegistry,
        verdict: Callable[[], Verdict],
        served: Callable[[], Iterable[str]],
    ) -> None:
        """Say where it is; see ``Siblings.attach``."""
        self._metrics = metrics
        self._registry = registry
        self._verdict = verdict
        self._served = served

    def verdict(self) -> Verdict:
        """What this process alone says of its health."""
        return self._verdict()

    def page(self) -> list[Family]:
        """All its metrics."""
        return page_of(self._registry)

    def tallies(self) -> dict[str, Tally]:
        """Its present counts, by model."""
        by_model = self._metrics.by_model if self._metrics is not None else {}
        return {name: tally_of(counts) for name, counts in by_model.items()}

    def counts_with(
        self, others: Iterable[Mapping[str, Tally]]
    ) -> Mapping[str, ModelCounts | SummedCounts]:
        """Its counts and those of others together, by model.

        Raises:
            RuntimeError: Before ``attach``.
        """
        if self._metrics is None:
            raise RuntimeError("nothing has been counted: no metrics are attached")
        return summed(self._metrics.by_model, others, self._metrics.bounds)

    def next_tick(self) -> Tick:
        """What is new since the last one."""
        present = self.tallies()
        changed = {name: tally for name, tally in present.items() if self._told.get(name) != tally}
        served = sorted(self._served())
        verdict = self._verdict()
        is_same = served == self._told_served
        self._told, self._told_served = present, served
        return Tick(changed, verdict.status, verdict.message, None if is_same else served)
