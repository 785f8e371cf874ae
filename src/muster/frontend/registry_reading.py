"""Whether the registry can be read, and if not: since when and why. Nothing else depends on it."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from muster.clock import Clock
from muster.discovery.base import Discovery, Staleness
from muster.frontend.report import RegistryReport

__all__ = ["RegistryReading", "rfc3339"]

_NOT_YET = "it has not been read since this frontend started"


def rfc3339(wall_s: float) -> str:
    """A moment of the wall clock in UTC, to the millisecond: ``2026-11-21T07:23:41.485Z``."""
    moment = datetime.datetime.fromtimestamp(wall_s, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class RegistryReading(Collector):
    """What the fleet's watch and the registry itself say of how current the fleet is.

    A frontend that has never read its registry knows of no models, and that is no reason to call
    the fleet empty: it counts as stale from the start until the first look.

    Args:
        discovery: The registry.
        clock: Where the time comes from.
    """

    def __init__(self, discovery: Discovery, clock: Clock) -> None:
        self._discovery = discovery
        self._clock = clock
        self._own: Staleness | None = Staleness(since=clock.wall(), reason=_NOT_YET)

    def succeeded(self) -> None:
        """It has been read, and is watched."""
        self._own = None

    def failed(self, reason: str) -> bool:
        """It could not be read, or the watch broke; returns whether the reason is a new one."""
        if self._own is not None and self._own.reason == reason:
            return False
        since = self._clock.wall() if self._own is None else self._own.since
        self._own = Staleness(since=since, reason=reason)
        return True

    def staleness(self) -> Staleness | None:
        """Since when what is known may be out of date, and why; ``None`` if it is not."""
        return self._own or self._discovery.staleness()

    def report(self) -> RegistryReport | None:
        """The same for ``/health``."""
        stale = self.staleness()
        if stale is None:
            return None
        return RegistryReport(stale_since=rfc3339(stale.since), reason=stale.reason)

    def trouble(self) -> str:
        """The same as a sentence; empty if there is nothing to say."""
        stale = self.report()
        if stale is None:
            return ""
        return (
            f"the registry cannot be read since {stale.stale_since}, what is served may be out of "
            f"date: {stale.reason}"
        )

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering does not collect."""
        return []

    def collect(self) -> Iterable[Metric]:
        """How long what is known has been out of date."""
        stale = self.staleness()
        age = 0.0 if stale is None else max(0.0, self._clock.wall() - stale.since)
        yield GaugeMetricFamily(
            "muster_registry_stale_seconds",
            "How long the registry has been out of reach; 0 while it is not.",
            age,
        )
