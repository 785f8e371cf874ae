"""A response that is handed over as it arrives."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from muster.config.settings import RequestPlaneSettings
from muster.errors import Disconnected
from muster.testing.loops import run
from muster.wire.frames import TwoPart
from muster.wire.items import Annotated, FrameDecoder
from muster.wire.tcp.call_home import CallHome
from muster.wire.tcp.response_stream import ResponseStream
from muster.wire.tcp.sweep import Sweep

DECODE = FrameDecoder[Any](Any).of("msgpack")
FINAL = TwoPart(b"", msgspec.msgpack.encode({"complete_final": True}))


def item(value: int) -> TwoPart:
    return TwoPart(b"", msgspec.msgpack.encode({"data": {"data": value}}))


def opened() -> ResponseStream[Any]:
    home = CallHome(RequestPlaneSettings(), Sweep())
    home.start_loopback()
    stream = home.open("peer", DECODE)
    stream.acknowledged(b"")
    return stream


class Taker:
    """Notes what it gets, batch by batch; has enough with the batch that holds ``last``."""

    def __init__(self, last: int | None = None) -> None:
        self.batches: list[list[Any]] = []
        self._last = last

    def __call__(self, items: list[Annotated[Any]]) -> bool:
        self.batches.append([each.payload for each in items])
        return self._last not in self.batches[-1]


async def turns() -> None:
    """Let everything that is due happen."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_what_arrives_in_one_wake_up_is_handed_over_together() -> None:
    async def test() -> None:
        stream, take = opened(), Taker()
        reading = asyncio.ensure_future(stream.read(take))
        await turns()
        for values in ([1, 2], [3]), ([4], [5, 6]):
            for some in values:
                stream.received([item(value) for value in some])
            await turns()
        stream.received([item(7), FINAL])
        assert await reading is False
        assert take.batches == [[1, 2, 3], [4, 5, 6], [7]]

    run(test())


def test_who_has_had_enough_goes_on_later_where_it_left_off() -> None:
    async def test() -> None:
        stream, take = opened(), Taker(last=2)
        reading = asyncio.ensure_future(stream.read(take))
        for value in (1, 2):
            await turns()
            stream.received([item(value)])
        await turns()
        stream.received([item(3)])
        assert await reading is True
        stream.received([item(4), FINAL])
        assert await stream.read(take) is False
        assert take.batches == [[1], [2], [3, 4]]

    run(test())


def test_a_failure_is_raised_after_what_came_before_it() -> None:
    async def test() -> None:
        stream, take = opened(), Taker()
        reading = asyncio.ensure_future(stream.read(take))
        await turns()
        stream.received([item(1)])
        await turns()
        stream.received([item(2)])
        stream.fail(Disconnected("gone"))
        with pytest.raises(Disconnected):
            await reading
        assert take.batches == [[1], [2]]

    run(test())


@pytest.mark.parametrize("call", [1, 2])
def test_what_the_taker_raises_ends_the_reading_and_not_the_stream(call: int) -> None:
    async def test() -> None:
        stream, calls = opened(), 0

        def take(items: list[Annotated[Any]]) -> bool:
            nonlocal calls
            calls += 1
            if calls == call:
                raise KeyError(items[0].payload)
            return True

        reading = asyncio.ensure_future(stream.read(take))
        for value in range(call):
            await turns()
            stream.received([item(value)])
        with pytest.raises(KeyError):
            await reading
        assert not stream.ended

    run(test())


def test_a_reader_that_was_cancelled_is_handed_nothing_more() -> None:
    async def test() -> None:
        stream, take = opened(), Taker()
        reading = asyncio.ensure_future(stream.read(take))
        for value in (1, 2):
            await turns()
            stream.received([item(value)])
        reading.cancel()
        await turns()
        stream.received([item(3)])
        await turns()
        assert take.batches == [[1]]
        assert stream.unread == 2

    run(test())


@pytest.mark.parametrize("enough", [False, True])
def test_a_taker_that_drops_the_stream_still_says_whether_it_has_had_enough(enough: bool) -> None:
    async def test() -> None:
        stream = opened()

        def take(items: list[Annotated[Any]]) -> bool:
            if items[0].payload == 1:
                return True
            stream.kill()
            return not enough

        reading = asyncio.ensure_future(stream.read(take))
        for value in (1, 2):
            await turns()
            stream.received([item(value)])
        assert await reading is enough

    run(test())
