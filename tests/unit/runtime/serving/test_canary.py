"""The canary, in virtual time: when it asks, what it makes of the answer, and what it leaves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from muster.config.settings import HealthSettings
from muster.errors import EngineError
from muster.names import EndpointId
from muster.runtime.serving.canary import Canary, CanarySchedule, first_item
from muster.runtime.serving.health import HealthBoard
from muster.testing.virtual_time import run_in_virtual_time

GENERATE = EndpointId("ns", "backend", "generate")
SETTINGS = HealthSettings(canary=True)  # waits 10 s, gives up after 3 s


class Engine:
    """A probe that behaves as it is told, and remembers when it was asked."""

    def __init__(self, behaviour: str = "answers") -> None:
        self.behaviour = behaviour
        self.asked: list[float] = []
        self.payloads: list[Any] = []
        self.running = 0
        self.most = 0
        self.released = asyncio.Event()

    async def probe(self, payload: Any) -> Any:
        self.asked.append(round(asyncio.get_running_loop().time(), 3))
        self.payloads.append(payload)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self._behave()
        finally:
            self.running -= 1

    async def _behave(self) -> Any:
        if self.behaviour == "raises":
            raise ValueError("no memory left")
        if self.behaviour == "wedged":
            await asyncio.Event().wait()
        if self.behaviour == "stubborn":
            while not self.released.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await self.released.wait()
        if self.behaviour == "cancels":
            raise asyncio.CancelledError
        return {"ok": True}


class Bench:
    """One canary on one board."""

    def __init__(self, behaviour: str) -> None:
        self.engine = Engine(behaviour)
        self.board = HealthBoard()
        self.board.add(GENERATE, proven=False)
        self.board.registered(GENERATE)
        self.canary = Canary(GENERATE, {"x": 1}, self.engine.probe, self.board, SETTINGS)

    def is_ready(self) -> bool:
        return self.board.report(0).ready

    @property
    def fault(self) -> str | None:
        health = self.board.get(GENERATE)
        assert health is not None
        return health.fault


def run(behaviour: str, test: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        bench = Bench(behaviour)
        bench.canary.start()
        try:
            await test(bench)
        finally:
            bench.engine.released.set()
            await bench.canary.close()
        assert bench.engine.running == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_in_virtual_time(main())


# -- the schedule ------------------------------------------------------------------------------


def test_the_first_probe_is_due_at_once_and_the_next_after_the_wait() -> None:
    schedule = CanarySchedule(10, now=100)
    assert schedule.due_in(100) == 0
    schedule.probed(101)
    assert schedule.due_in(101) == 10
    assert schedule.due_in(110.5) == 0.5
    assert schedule.due_in(200) == 0


def test_an_item_puts_the_probe_off_by_the_whole_wait() -> None:
    schedule = CanarySchedule(10, now=0)
    schedule.probed(0)
    schedule.item(7)
    assert schedule.due_in(10) == 7
    schedule.item(16)
    assert schedule.due_in(17) == 9
    assert schedule.due_in(26) == 0


def test_an_item_before_the_first_probe_makes_it_wait() -> None:
    schedule = CanarySchedule(10, now=0)
    schedule.item(0)
    assert schedule.due_in(0) == 10


def test_a_failure_counts_unless_an_item_was_streamed_meanwhile() -> None:
    schedule = CanarySchedule(10, now=0)
    assert schedule.counts(0)
    schedule.item(5)
    assert not schedule.counts(4)
    assert not schedule.counts(5)
    assert schedule.counts(6)


# -- the first item ----------------------------------------------------------------------------


def test_the_first_item_is_taken_and_the_stream_closed() -> None:
    closed: list[bool] = []

    async def handler() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    assert asyncio.run(first_item(handler())) == 1
    assert closed == [True]


def test_a_stream_without_an_item_or_with_an_error_event_first_is_a_failure() -> None:
    async def empty() -> AsyncIterator[int]:
        for item in list[int]():
            yield item

    async def error() -> AsyncIterator[dict[str, Any]]:
        yield {"event": "error", "comment": ["out of memory"]}

    with pytest.raises(EngineError, match="ended without an item"):
        asyncio.run(first_item(empty()))
    with pytest.raises(EngineError, match="out of memory"):
        asyncio.run(first_item(error()))


# -- the canary --------------------------------------------------------------------------------


def test_an_engine_that_answers_is_ready_at_once_and_asked_again_when_idle() -> None:
    async def test(bench: Bench) -> None:
        assert not bench.is_ready()
        await asyncio.sleep(0.1)
        assert bench.is_ready()
        await asyncio.sleep(25)
        assert bench.engine.asked == [0, 10, 20]
        assert bench.engine.payloads == [{"x": 1}] * 3

    run("answers", test)


def test_items_of_real_requests_put_probes_off() -> None:
    async def test(bench: Bench) -> None:
        await asyncio.sleep(1)
        for _ in range(12):
            await asyncio.sleep(5)
            bench.canary.item()
        await asyncio.sleep(9.5)
        assert bench.engine.asked == [0]
        await asyncio.sleep(1)
        assert bench.engine.asked == [0, 71]

    run("answers", test)


def test_a_wedged_engine_is_not_ready_says_so_and_comes_back_by_itself() -> None:
    async def test(bench: Bench) -> None:
        await asyncio.sleep(1)
        assert bench.is_ready()
        bench.engine.behaviour = "wedged"
        await asyncio.sleep(11.5)
        assert bench.is_ready(), "asked at 10 s, has until 13 s"
        await asyncio.sleep(1)
        assert bench.fault == "canary failed: no item within 3 s"
        assert not bench.is_ready()
        await asyncio.sleep(13)
        assert bench.engine.asked == [0, 10, 23]
        bench.engine.behaviour = "answers"
        await asyncio.sleep(11)
        assert bench.is_ready()
        assert bench.engine.most == 1

    run("answers", test)


@pytest.mark.parametrize(
    ("behaviour", "fault"),
    [
        ("raises", "canary failed: ValueError: no memory left"),
        ("cancels", "canary failed: the handler cancelled the request"),
    ],
)
def test_a_handler_that_fails_is_named_in_the_reason_and_asked_again(
    behaviour: str, fault: str
) -> None:
    async def test(bench: Bench) -> None:
        await asyncio.sleep(1)
        assert bench.fault == fault
        assert bench.board.report(0).reasons == (f"ns/backend/generate: {fault}",)
        await asyncio.sleep(10)
        assert bench.engine.asked == [0, 10]
        bench.engine.behaviour = "answers"
        await asyncio.sleep(10)
        assert bench.is_ready()

    run(behaviour, test)


def test_a_handler_that_ignores_cancellation_is_not_asked_a_second_time() -> None:
    async def test(bench: Bench) -> None:
        await asyncio.sleep(200)
        assert bench.engine.asked == [0]
        assert bench.engine.running == 1
        assert bench.fault == "canary failed: an earlier request neither ends nor stops"
        bench.engine.behaviour = "answers"
        bench.engine.released.set()
        await asyncio.sleep(11)
        assert bench.is_ready()
        assert len(bench.engine.asked) == 2

    run("stubborn", test)


def test_closing_does_not_wait_for_ever_for_a_handler_that_ignores_cancellation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test(bench: Bench) -> None:
        await asyncio.sleep(20)
        before = asyncio.get_running_loop().time()
        with caplog.at_level(logging.WARNING):
            await bench.canary.close()
        assert asyncio.get_running_loop().time() - before == pytest.approx(2, abs=0.01)
        assert "does not stop" in caplog.text
        bench.engine.released.set()
        await asyncio.sleep(0.1)

    run("stubborn", test)


def test_closing_cancels_a_probe_in_flight_and_may_be_repeated() -> None:
    async def test(bench: Bench) -> None:
        await asyncio.sleep(1)
        assert bench.engine.running == 1
        await bench.canary.close()
        await bench.canary.close()
        assert bench.engine.running == 0
        with pytest.raises(RuntimeError, match="closed"):
            bench.canary.start()

    run("wedged", test)


def test_an_item_of_a_real_request_proves_an_engine_before_its_first_canary() -> None:
    async def test(bench: Bench) -> None:
        await asyncio.sleep(1)
        assert not bench.is_ready()
        bench.canary.item()
        assert bench.is_ready()
        await asyncio.sleep(4)
        assert bench.is_ready(), "busy, not stuck: the probe's failure does not count"

    run("wedged", test)


def test_an_item_of_a_real_request_brings_a_failed_endpoint_back() -> None:
    async def test(bench: Bench) -> None:
        await asyncio.sleep(5)
        assert not bench.is_ready()
        bench.canary.item()
        assert bench.is_ready()
        await asyncio.sleep(30)
        assert not bench.is_ready()

    run("wedged", test)


def test_changes_are_logged_once_not_at_every_probe(caplog: pytest.LogCaptureFixture) -> None:
    async def test(bench: Bench) -> None:
        with caplog.at_level(logging.INFO, "muster.runtime.serving.canary"):
            await asyncio.sleep(45)
            bench.engine.behaviour = "answers"
            await asyncio.sleep(25)
        assert [record.getMessage() for record in caplog.records] == [
            "the engine does not answer",
            "the engine answers",
        ]

    run("raises", test)


def test_an_endpoint_withdrawn_stays_so_whatever_the_canary_finds() -> None:
    async def test(bench: Bench) -> None:
        bench.board.withdrawn(GENERATE)
        await asyncio.sleep(30)
        assert bench.fault is None
        assert not bench.is_ready()

    run("answers", test)
