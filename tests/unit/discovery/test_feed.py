from __future__ import annotations

import asyncio
import threading

import pytest

from muster.discovery.base import Change
from muster.discovery.feed import Feed


async def drain(feed: Feed) -> list[Change]:
    """End the feed and take what it still has."""
    feed.end()
    return [change async for change in feed]


def test_the_snapshot_and_changes_are_cut_to_the_prefix() -> None:
    async def body() -> None:
        feed = Feed("a")
        feed.begin({"a/1": b"1", "ab": b"2"})
        feed.publish([Change("a/2", b"1"), Change("b", b"1"), Change("ab", None)])
        assert feed.snapshot == {"a/1": b"1"}
        assert await drain(feed) == [Change("a/2", b"1")]

    asyncio.run(body())


def test_changes_of_one_key_are_merged_and_what_cancels_out_is_dropped() -> None:
    async def body() -> None:
        feed = Feed("")
        feed.begin({"same": b"1", "gone": b"1"})
        feed.publish([Change("came-and-went", b"1"), Change("k", b"1"), Change("same", b"2")])
        feed.publish([Change("came-and-went", None), Change("k", b"2"), Change("same", b"1")])
        feed.publish([Change("gone", None), Change("gone", b"1"), Change("gone", None)])
        assert await drain(feed) == [Change("k", b"2"), Change("gone", None)]

    asyncio.run(body())


def test_publishing_from_another_thread_wakes_the_reader() -> None:
    async def body() -> None:
        feed = Feed("")
        feed.begin({})
        reader = asyncio.ensure_future(anext(feed))
        await asyncio.sleep(0)
        thread = threading.Thread(target=feed.publish, args=([Change("k", b"1")],))
        thread.start()
        assert await asyncio.wait_for(reader, 5) == Change("k", b"1")
        thread.join()

    asyncio.run(body())


def test_the_end_stops_a_waiting_reader_and_later_changes_are_dropped() -> None:
    async def body() -> None:
        feed = Feed("")
        feed.begin({})
        reader = asyncio.ensure_future(anext(feed))
        await asyncio.sleep(0)
        feed.end()
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(reader, 5)
        feed.publish([Change("k", b"1")])
        assert await drain(feed) == []

    asyncio.run(body())


def test_publishing_after_the_loop_is_gone_ends_the_feed() -> None:
    async def make() -> Feed:
        feed = Feed("")
        feed.begin({})
        return feed

    feed = asyncio.run(make())
    feed.publish([Change("k", b"1")])
    assert feed.ended
    feed.end()
