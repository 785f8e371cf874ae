"""Events made once for all who watch."""

from __future__ import annotations

import asyncio

import pytest

from muster.frontend.dashboard.feed import Feed
from muster.testing.loops import run


class Counted:
    def __init__(self, kept_bytes: int = 1000) -> None:
        self.made = 0
        self.feed = Feed("ab", self.snapshot, kept_bytes=kept_bytes)

    def snapshot(self) -> bytes:
        self.made += 1
        return b'{"n":%d}' % self.feed.position


def test_a_newcomer_gets_the_state_and_then_what_changes() -> None:
    feed = Counted().feed
    feed.publish(b"{}")
    assert feed.after(None) == b'id: ab-1\nevent: snapshot\ndata: {"n":1}\n\n'
    feed.publish(b'{"x":1}')
    assert feed.after(1) == b'id: ab-2\nevent: change\ndata: {"x":1}\n\n'
    assert feed.after(2) == b""


def test_the_state_is_made_once_for_all_newcomers() -> None:
    counted = Counted()
    counted.feed.publish(b"{}")
    assert counted.feed.after(None) is counted.feed.after(None)
    assert counted.made == 1
    counted.feed.publish(b"{}")
    counted.feed.after(None)
    assert counted.made == 2


def test_who_is_too_far_behind_gets_the_state_and_memory_does_not_grow() -> None:
    feed = Counted(kept_bytes=300).feed
    for _ in range(1000):
        feed.publish(b"x" * 50)
    assert feed.after(5).startswith(b"id: ab-1000\nevent: snapshot")
    assert feed.after(999).count(b"event: change") == 1
    assert sum(map(len, feed._frames)) <= 300


def test_an_event_larger_than_what_is_kept_is_a_new_state_for_all() -> None:
    feed = Counted(kept_bytes=100).feed
    feed.publish(b"x" * 500)
    assert feed.after(0).startswith(b"id: ab-1\nevent: snapshot")


@pytest.mark.parametrize(
    "event_id", ["", "ab", "ab-", "cd-1", "ab-99", "ab-x", "ab--1", "ab-" + "9" * 99]
)
def test_an_id_of_somewhere_else_is_no_position(event_id: str) -> None:
    feed = Counted().feed
    feed.publish(b"{}")
    assert feed.position_of(event_id) is None


def test_a_known_id_is_its_position() -> None:
    feed = Counted().feed
    feed.publish(b"{}")
    feed.publish(b"{}")
    assert feed.position_of("ab-1") == 1
    assert feed.position_of("ab-2") == 2


def test_waiting_ends_with_the_next_event_or_with_the_feed() -> None:
    async def scenario() -> None:
        feed = Counted().feed
        feed.publish(b"{}")
        assert await feed.moved(0)
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            first = group.create_task(feed.moved(1))
            second = group.create_task(feed.moved(1))
            left = group.create_task(feed.moved(1))
            await asyncio.sleep(0)
            left.cancel()
            await asyncio.sleep(0)
            feed.publish(b"{}")
        assert first.result()
        assert second.result()
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            last = group.create_task(feed.moved(2))
            await asyncio.sleep(0)
            feed.close()
        assert not last.result()
        assert feed.is_closed

    run(scenario())
