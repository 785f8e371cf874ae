from __future__ import annotations

import pytest

from muster.discovery.base import Staleness
from muster.discovery.memory import MemoryDiscovery, MemoryRegistry
from muster.frontend.registry_reading import RegistryReading, rfc3339


class Clock:
    """The wall clock is all that is looked at."""

    def __init__(self, wall: float = 1_000.0) -> None:
        self.now = wall

    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> float:
        return self.now


class Registry(MemoryDiscovery):
    """A registry that says it is out of reach."""

    stale: Staleness | None = None

    def staleness(self) -> Staleness | None:
        return self.stale


@pytest.fixture
def registry() -> Registry:
    return Registry(MemoryRegistry())


def age(reading: RegistryReading) -> float:
    (family,) = reading.collect()
    (sample,) = family.samples
    assert sample.name == "muster_registry_stale_seconds"
    return sample.value


def test_it_is_stale_until_it_has_been_read(registry: Registry) -> None:
    clock = Clock()
    reading = RegistryReading(registry, clock)
    clock.now += 5
    assert reading.staleness() == Staleness(
        since=1_000.0, reason="it has not been read since this frontend started"
    )
    assert age(reading) == 5
    reading.succeeded()
    assert (reading.staleness(), reading.report(), reading.trouble()) == (None, None, "")
    assert age(reading) == 0


def test_what_goes_wrong_at_the_start_began_with_the_start(registry: Registry) -> None:
    clock = Clock()
    reading = RegistryReading(registry, clock)
    clock.now += 10
    assert reading.failed("no route")
    assert not reading.failed("no route")
    assert reading.staleness() == Staleness(since=1_000.0, reason="no route")


def test_a_watch_that_breaks_later_is_stale_since_then(registry: Registry) -> None:
    clock = Clock()
    reading = RegistryReading(registry, clock)
    reading.succeeded()
    clock.now += 10
    reading.failed("cut")
    report = reading.report()
    assert report is not None
    assert (report.stale_since, report.reason) == ("1970-01-01T00:16:50.000Z", "cut")
    assert "cannot be read since 1970-01-01T00:16:50.000Z" in reading.trouble()


def test_what_the_registry_says_of_itself_counts_while_the_watch_stands(
    registry: Registry,
) -> None:
    clock = Clock()
    reading = RegistryReading(registry, clock)
    reading.succeeded()
    registry.stale = Staleness(since=990.0, reason="no answer")
    assert reading.staleness() == registry.stale
    assert age(reading) == 10
    clock.now = 900.0  # a wall clock that was put back
    assert age(reading) == 0


def test_moments_are_told_in_utc_to_the_millisecond() -> None:
    assert rfc3339(1_700_000_000.25) == "2023-11-14T22:13:20.250Z"
