"""Requests that wait for a place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from prometheus_client import CollectorRegistry

from muster.errors import Disconnected, MusterError, Overloaded
from muster.frontend.api_error import ApiError
from muster.frontend.guard.waiting import WaitingRooms
from muster.llm.protocol import EngineRequest
from muster.runtime import Context
from muster.testing.loops import run
from muster.testing.scripted import ScriptedStream


class Places:
    """Instances with so many places."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.taken: list[str] = []
        self.failure: MusterError | None = None

    async def generate(self, request: EngineRequest, *, context: Context) -> ScriptedStream:
        if self.failure is not None:
            raise self.failure
        if not self.free:
            raise Overloaded("full")
        self.free -= 1
        self.taken.append(request.model)
        return ScriptedStream()


def asking(rooms: WaitingRooms, places: Places, names: Sequence[str]) -> list[asyncio.Task[object]]:
    generate = rooms.around("tiny", places.generate)

    async def ask(name: str) -> object:
        return await generate(EngineRequest(model=name, token_ids=[1]), context=Context())

    return [asyncio.create_task(ask(name)) for name in names]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what changes it tells nobody
            await asyncio.sleep(0)


def test_those_who_wait_are_served_in_order_of_arrival() -> None:
    async def test() -> None:
        rooms, places = WaitingRooms(8, 20.0), Places(1)
        tasks = asking(rooms, places, "abcd")
        await until(lambda: rooms.waiting("tiny") == 3)
        places.free = 1
        await until(lambda: len(places.taken) == 2)
        late = asking(rooms, places, "e")
        await asyncio.sleep(0)
        places.free = 3
        await asyncio.gather(*tasks, *late)
        assert places.taken == list("abcde")
        assert rooms.waiting("tiny") == 0

    run(test())


def test_a_full_line_refuses_and_a_long_wait_ends() -> None:
    async def test() -> None:
        rooms, places = WaitingRooms(2, 0.05), Places(0)
        results = await asyncio.gather(*asking(rooms, places, "abc"), return_exceptions=True)
        assert all(isinstance(result, ApiError) for result in results)
        errors = [result for result in results if isinstance(result, ApiError)]
        assert [error.status for error in errors] == [503, 503, 503]
        assert all(error.headers["retry-after"] for error in errors)
        assert "2 requests wait" in errors[2].message
        assert "within 0.05 s" in errors[0].message
        registry = CollectorRegistry()
        registry.register(rooms)
        for outcome, count in (("timeout", 2), ("full", 1)):
            labels = {"model": "tiny", "outcome": outcome}
            assert registry.get_sample_value("muster_queue_left_total", labels) == count
        assert registry.get_sample_value("muster_queue_waiting", {"model": "tiny"}) == 0

    run(test())


def test_who_leaves_gives_up_the_place_in_the_line() -> None:
    async def test() -> None:
        rooms, places = WaitingRooms(3, 20.0), Places(0)
        first, second, third = asking(rooms, places, "abc")
        await until(lambda: rooms.waiting("tiny") == 3)
        first.cancel()
        second.cancel()
        await asyncio.wait([first, second])
        assert rooms.waiting("tiny") == 1
        places.free = 1
        await third
        assert places.taken == ["c"]

    run(test())


def test_other_failures_are_passed_on_and_the_next_one_looks() -> None:
    async def test() -> None:
        rooms, places = WaitingRooms(3, 20.0), Places(0)
        first, second = asking(rooms, places, "ab")
        await until(lambda: rooms.waiting("tiny") == 2)
        places.failure = Disconnected("gone")
        for task in (first, second):
            with pytest.raises(Disconnected):
                await task

    run(test())


def test_without_lines_nothing_stands_between() -> None:
    places = Places(1)
    assert WaitingRooms(0, 1.0).around("tiny", places.generate) == places.generate
