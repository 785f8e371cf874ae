"""The present state of what the dashboard shows, and how it differs from a moment ago."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from muster._version import __version__
from muster.frontend.dashboard.differences import Differences
from muster.frontend.dashboard.sources import LiveSources
from muster.frontend.dashboard.traffic import ModelTraffic, Traffic
from muster.frontend.dashboard.view import (
    CacheView,
    Change,
    FrontendView,
    ModelView,
    Snapshot,
    model_views,
)
from muster.frontend.health import HealthState, Others, judge, worst
from muster.frontend.model_table import ModelTable
from muster.frontend.report import FleetReport

__all__ = ["LiveState"]

_encode = msgspec.json.Encoder().encode


class LiveState:
    """What was told last. Looking at it costs nothing, ``refresh`` looks at every model.

    Args:
        table: The models.
        health: Whether the frontend drains.
        required: Models without which ``/health`` is 503.
        traffic: How much is asked.
        sources: Everything else.
        started: When the frontend started, in seconds since the epoch.
        others: Gives the verdicts of the other processes that run, if there are any.
        process_count: How many processes there are to be.
    """

    def __init__(
        self,
        table: ModelTable,
        health: HealthState,
        *,
        required: tuple[str, ...],
        traffic: Traffic,
        sources: LiveSources,
        started: float,
        others: Others | None = None,
        process_count: int = 1,
    ) -> None:
        self._table = table
        self._health = health
        self._required = required
        self._traffic = traffic
        self._sources = sources
        self._started = started
        self._others = others
        self._process_count = process_count
        self._differences = Differences()
        self._at = started
        self._frontend = FrontendView(version=__version__, started=started, status="")
        self._models: dict[str, ModelView] = {}
        self._model_traffic: Mapping[str, ModelTraffic] = {}
        self._cache: CacheView | None = None
        self._told_seconds = 0
        self._told_events = 0

    def refresh(self, now: float, cache: CacheView | None) -> Change:
        """Look at everything; what has changed since the last time.

        Args:
            now: In seconds since the epoch.
            cache: What is in the cache, as far as is known.
        """
        report = self._table.report()
        models = model_views(
            report,
            self._differences.find(self._sources.cards()),
            now=now,
            before=self._models,
        )
        changed: dict[str, ModelView | None] = {
            key: view for key, view in models.items() if self._models.get(key) != view
        }
        changed |= dict.fromkeys(self._models.keys() - models.keys())
        frontend = self._look(report)
        traffic = self._traffic.models()
        change = Change(
            at=round(now, 3),
            frontend=frontend if frontend != self._frontend else None,
            models=changed,
            traffic=traffic if traffic != self._model_traffic else None,
            seconds=self._traffic.after(self._told_seconds),
            events=self._sources.events.after(self._told_events),
            cache=cache if cache != self._cache else None,
        )
        self._at, self._frontend, self._models = change.at, frontend, models
        self._model_traffic, self._cache = traffic, cache
        self._told_seconds = self._traffic.count
        self._told_events = self._sources.events.count
        return change

    def snapshot(self) -> bytes:
        """All that has been told, as the JSON of a ``Snapshot``."""
        unseen = self._traffic.count - self._told_seconds
        seconds = tuple(self._traffic.seconds)
        return _encode(
            Snapshot(
                at=self._at,
                frontend=self._frontend,
                models=self._models,
                traffic=self._model_traffic,
                seconds=seconds[: len(seconds) - unseen],
                events=tuple(
                    event
                    for event in self._sources.events.after(0)
                    if event.number <= self._told_events
                ),
                cache=self._cache,
            )
        )

    def _look(self, report: FleetReport) -> FrontendView:
        table = self._table
        if self._health.draining:
            status, message = "draining", "it finishes what is in flight and takes no new requests"
        else:
            served = {name for name, _ in table.names()}
            trouble = table.registry.trouble()
            verdict = judge(served, table.unserved(), self._required, trouble)
            if self._others is not None:
                verdict = worst(verdict, self._others())
            status, message = verdict
        stale = table.registry.report()
        return FrontendView(
            version=__version__,
            started=self._started,
            status=status,
            message=message,
            policy=report.policy,
            stale_since=report.stale_since,
            stale_reason=stale.reason if stale is not None else "",
            processes=1 + len([*self._others()]) if self._others is not None else 1,
            process_count=self._process_count,
        )
