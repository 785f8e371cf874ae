"""What is under way is counted once for each request, however it ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import pytest

from muster.config.settings import RequestPlaneSettings
from muster.errors import Disconnected, MusterError, Overloaded
from muster.runtime.calling.in_flight import InFlight
from muster.wire.frames import TwoPart
from muster.wire.items import FrameDecoder
from muster.wire.tcp.call_home import CallHome
from muster.wire.tcp.phase import Phase
from muster.wire.tcp.response_stream import ResponseStream
from muster.wire.tcp.sweep import Sweep

DECODE = FrameDecoder[Any](Any).of("msgpack")
ITEM = TwoPart(b"", msgspec.msgpack.encode({"data": {"data": 1}}))
FINAL = TwoPart(b"", msgspec.msgpack.encode({"complete_final": True}))
RAISED = TwoPart(
    b"",
    msgspec.msgpack.encode(
        {"data": {"event": "error", "error": {"error_type": {"Backend": "Unknown"}}}}
    ),
)

HAPPENINGS: list[Callable[[ResponseStream[Any]], None]] = [
    lambda stream: stream.acknowledged(b""),
    lambda stream: stream.acknowledged(b"Server overloaded: worker at capacity"),
    lambda stream: stream.acknowledged(b"Server unavailable: unknown endpoint x"),
    lambda stream: stream.acknowledged(b"what"),
    lambda stream: stream.fail(Disconnected("lost")),
    lambda stream: stream.expire(),
    lambda stream: stream.disconnected(),
    lambda stream: stream.stop(),
    lambda stream: stream.kill(),
    lambda stream: stream.received([ITEM]),
    lambda stream: stream.received([ITEM, FINAL]),
    lambda stream: stream.received([FINAL, FINAL]),
    lambda stream: stream.received([RAISED]),
    lambda stream: stream.received([TwoPart(b'"sentinel"', b"")]),
    lambda stream: stream.received([TwoPart(b"", b"\xc1")]),
]


class Ends:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.all: list[tuple[int, MusterError | None, bool, bool]] = []

    def __call__(
        self, instance_id: int, failure: MusterError | None, reported: bool, had_place: bool
    ) -> None:
        self.all.append((instance_id, failure, reported, had_place))


async def listening() -> CallHome:
    home = CallHome(RequestPlaneSettings(), Sweep())
    await home.start("127.0.0.1", lambda port: f"127.0.0.1:{port}")
    return home


@pytest.mark.parametrize("seed", range(4))
def test_thousands_of_requests_that_end_in_any_way_count_down_to_zero(seed: int) -> None:
    async def scenario() -> None:
        home = await listening()
        source, ends = Random(seed), Ends()
        loads = [InFlight(number, ends) for number in range(5)]
        sent: Counter[int] = Counter()
        under_way: list[ResponseStream[Any]] = []
        for _ in range(3000):
            load = source.choice(loads)
            load.reserve()
            sent[load.instance_id] += 1
            if source.random() < 0.1:
                load.refused(source.choice([None, Disconnected("lost")]))
            else:
                stream: ResponseStream[Any] = home.open("peer", DECODE)
                if source.random() < 0.1:
                    stream.fail(Disconnected("before it was known here"))
                load.sent(stream, source.choice([None, lambda: True]))
                under_way.append(stream)
            for stream in source.sample(under_way, min(3, len(under_way))):
                source.choice(HAPPENINGS)(stream)
            if source.random() < 0.05:
                source.choice(loads).left()
            alive = Counter(load.instance_id for load in loads for _ in range(load.count))
            told = Counter(instance_id for instance_id, *_ in ends.all)
            assert alive + told == sent
            under_way = [stream for stream in under_way if stream.phase is not Phase.ENDED]
        for stream in under_way:
            stream.kill()
            stream.kill()
        assert [load.count for load in loads] == [0] * 5
        assert Counter(instance_id for instance_id, *_ in ends.all) == sent
        await home.close()

    asyncio.run(scenario())


def test_only_what_was_refused_for_want_of_room_had_no_place() -> None:
    async def scenario() -> None:
        home = await listening()
        ends = Ends()
        load = InFlight(1, ends)
        for happening in HAPPENINGS[1:3]:
            stream: ResponseStream[Any] = home.open("peer", DECODE)
            load.reserve()
            load.sent(stream)
            happening(stream)
        load.reserve()
        load.refused(None)
        assert [(type(failure), had_place) for _, failure, _, had_place in ends.all][0::2] == [
            (Overloaded, False),
            (type(None), False),
        ]
        assert ends.all[1][3]
        await home.close()

    asyncio.run(scenario())


def test_only_requests_nothing_came_of_and_that_have_an_alternative_move() -> None:
    async def scenario() -> None:
        home = await listening()
        load = InFlight(1, Ends())
        names = ["moves", "has nowhere", "never may", "has items", "was read"]
        streams: dict[str, ResponseStream[Any]] = {name: home.open(name, DECODE) for name in names}
        for name, stream in streams.items():
            load.reserve()
            other = {"has nowhere": lambda: False, "never may": None}.get(name, lambda: True)
            load.sent(stream, other)
        streams["has items"].received([ITEM])
        load.begun(streams["was read"])
        load.left()
        ended = {name for name, stream in streams.items() if stream.phase is Phase.ENDED}
        assert ended == {"moves"}
        assert "left the registry" in str(streams["moves"].failure)
        assert load.count == 4
        await home.close()

    asyncio.run(scenario())
