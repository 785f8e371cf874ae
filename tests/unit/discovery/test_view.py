from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from muster.discovery.base import Change
from muster.discovery.directory import RecordDirectory
from muster.discovery.feed import Feed
from muster.discovery.view import BucketView

TTL = 10.0
START = 1_000_000.0


class SetClock:
    """Both clocks, which somebody sets; files are given their times by it too."""

    def __init__(self) -> None:
        self.now = START

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


class Bench:
    """A view of a directory with one record, ``k``, which is watched."""

    def __init__(self, root: Path) -> None:
        self.clock = SetClock()
        self.path = root / "k"
        self.view = BucketView(
            RecordDirectory(str(root)), ttl_s=TTL, clock=self.clock, is_own=lambda _: False
        )
        self.write(b"1")

    def write(self, value: bytes) -> None:
        """Write in place: the same file."""
        self.path.write_bytes(value)
        self.refresh()

    def refresh(self) -> None:
        os.utime(self.path, (self.clock.now,) * 2)

    async def watched(self) -> Feed:
        feed = Feed("")
        self.view.subscribe(feed)
        return feed


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def changes(feed: Feed) -> list[Change]:
    """What was published so far."""
    feed.end()
    return [change async for change in feed]


def after(bench: Bench, *steps: Callable[[], object], notified: bool = True) -> list[Change]:
    """What a watch is told of these steps."""

    async def body() -> list[Change]:
        feed = await bench.watched()
        assert feed.snapshot == {"k": b"1"}
        bench.view.notified = notified
        for step in steps:
            step()
        return await changes(feed)

    return asyncio.run(body())


def later(bench: Bench, seconds: float) -> Callable[[], None]:
    def pass_time() -> None:
        bench.clock.now += seconds

    return pass_time


def test_a_file_that_differs_only_in_its_time_is_not_read_while_writes_are_notified(
    bench: Bench,
) -> None:
    assert after(bench, later(bench, 1), lambda: bench.write(b"2"), bench.view.rescan) == []


def test_the_file_that_a_notification_names_is_read(bench: Bench) -> None:
    def look() -> None:
        bench.view.rescan()
        bench.view.look(["k"])

    told = after(bench, later(bench, 1), lambda: bench.write(b"2"), look)
    assert told == [Change("k", b"2")]


def test_every_file_is_read_that_may_have_changed_when_notifications_were_missed(
    bench: Bench,
) -> None:
    def look() -> None:
        bench.view.rescan()  # takes the write for a refresh
        bench.view.rescan(missed=True)

    told = after(bench, later(bench, 1), lambda: bench.write(b"2"), look)
    assert told == [Change("k", b"2")]


def test_every_file_is_read_that_may_have_changed_when_nothing_is_notified(bench: Bench) -> None:
    told = after(
        bench, later(bench, 1), lambda: bench.write(b"2"), bench.view.rescan, notified=False
    )
    assert told == [Change("k", b"2")]


def test_a_list_reads_what_may_have_changed_even_after_it_was_taken_for_a_refresh(
    bench: Bench,
) -> None:
    def listed() -> None:
        bench.view.rescan()
        assert bench.view.records("") == {"k": b"2"}

    assert after(bench, later(bench, 1), lambda: bench.write(b"2"), listed) == [Change("k", b"2")]


def test_a_change_that_nobody_notified_is_found_within_minutes(bench: Bench) -> None:
    def pass_minutes() -> None:
        for _ in range(30):
            bench.clock.now += 5
            bench.refresh()
            bench.view.rescan()

    told = after(bench, later(bench, 1), lambda: bench.write(b"2"), pass_minutes)
    assert told == [Change("k", b"2")]


@pytest.mark.parametrize("value", [b"2", b"longer"])
def test_a_file_that_was_replaced_or_has_another_length_is_read_at_any_look(
    bench: Bench, value: bytes
) -> None:
    def replace() -> None:
        other = bench.path.with_name(".tmp_1")
        other.write_bytes(value)
        other.rename(bench.path)
        bench.refresh()

    assert after(bench, later(bench, 1), replace, bench.view.rescan) == [Change("k", value)]


def test_a_refreshed_lease_lives_on_and_one_that_is_not_runs_out(bench: Bench) -> None:
    def live() -> None:
        for _ in range(10):
            bench.clock.now += TTL / 2
            bench.refresh()
            bench.view.rescan()
        assert bench.path.exists()

    assert after(bench, live) == []
    bench.clock.now += TTL + 1
    bench.view.rescan()
    assert not bench.path.exists()
    assert bench.view.next_expiry() is None


def test_the_next_expiry_is_that_of_the_first_lease_to_run_out(bench: Bench) -> None:
    bench.view.look(["k"])
    assert bench.view.next_expiry() == START + TTL
    bench.clock.now += 4
    (bench.path.parent / "young").write_bytes(b"{}")
    os.utime(bench.path.parent / "young", (bench.clock.now,) * 2)
    bench.view.look(["young"])
    assert bench.view.next_expiry() == START + TTL
    bench.refresh()
    bench.clock.now += 1
    bench.view.rescan()
    assert bench.view.next_expiry() == START + 4 + TTL
