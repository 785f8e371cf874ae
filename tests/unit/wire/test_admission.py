"""Places and the queue for them: first come, first served, whoever gives up and when."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from muster.runtime.metrics.work_handler import WorkHandlerMetrics
from muster.testing.loops import run
from muster.wire.admission import Admission

PLACES, QUEUE = 2, 3


class Request:
    """A request from its admission to its end."""

    def __init__(self, admission: Admission) -> None:
        self.placed = False
        self.end = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._live(admission))

    async def _live(self, admission: Admission) -> None:
        try:
            await admission.take_place()
            self.placed = True
            try:
                await self.end.wait()
            finally:
                admission.give_place_back()
        finally:
            admission.leave()

    @property
    def waits(self) -> bool:
        return not self.placed and not self.task.done()

    @property
    def runs(self) -> bool:
        return self.placed and not self.task.done()


class AdmissionMachine(RuleBasedStateMachine):
    """Requests come, end and give up in any order, also several in one turn of the loop."""

    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.runner.get_loop()
        self.counts = WorkHandlerMetrics()
        self.all: list[Request] = []
        self.refused = 0
        self.settled = True
        self.admission = Admission(PLACES, QUEUE, self.counts)

    async def _come(self) -> Request | None:
        present = sum(not request.task.done() for request in self.all)
        admitted = self.admission.admit()
        assert admitted == (present < PLACES + QUEUE)
        if not admitted:
            return None
        request = Request(self.admission)
        self.all.append(request)
        return request

    @rule(target=requests)
    def comes(self) -> Request | None:
        request = self.runner.run(self._come())
        self.refused += request is None
        self.settled = False
        return request

    @rule(request=consumes(requests))
    def ends(self, request: Request | None) -> None:
        if request is not None:
            request.end.set()
            self.settled = False

    @rule(request=consumes(requests))
    def gives_up(self, request: Request | None) -> None:
        if request is not None:
            request.task.cancel()
            self.settled = False

    @rule(turns=st.integers(1, 3))
    def the_loop_turns(self, turns: int) -> None:
        async def turn() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.runner.run(turn())

    @rule()
    def everything_settles(self) -> None:
        self.the_loop_turns(20)
        self.settled = True

    @invariant()
    def nobody_is_overtaken(self) -> None:
        present = [request for request in self.all if not request.task.done()]
        assert sum(request.runs for request in present) <= PLACES
        if self.settled:
            waiting = [request.waits for request in present]
            assert waiting == sorted(waiting), "who came first has a place first"
            assert waiting.count(False) == min(PLACES, len(present)), "no place is idle"
            assert self.counts.queue_depth == self.counts.queued_requests == sum(waiting)
            assert self.counts.pool_active_tasks == waiting.count(False)
            assert self.counts.rejected_requests == self.refused

    def teardown(self) -> None:
        for request in self.all:
            request.task.cancel()
        self.everything_settles()
        assert all(request.task.done() for request in self.all)
        assert self.counts.queue_depth == self.counts.pool_active_tasks == 0
        assert [self.admission.admit() for _ in range(PLACES + QUEUE + 1)][-2:] == [True, False]
        self.runner.close()
        for request in self.all:
            if not request.task.cancelled():
                request.task.result()


TestAdmission = AdmissionMachine.TestCase


def test_who_is_cancelled_as_its_turn_comes_passes_the_turn_on() -> None:
    async def scenario() -> None:
        counts = WorkHandlerMetrics()
        admission = Admission(1, 2, counts)
        assert all(admission.admit() for _ in range(3))
        first, second, third = (Request(admission) for _ in range(3))
        await asyncio.sleep(0)
        first.end.set()
        await asyncio.sleep(0)  # the turn is the second's, which has not run yet
        assert first.task.done()
        assert second.waits
        second.task.cancel()
        await asyncio.wait([second.task])
        assert second.task.cancelled()
        await asyncio.sleep(0)
        assert third.runs
        third.end.set()
        await third.task
        assert (counts.queue_depth, counts.pool_active_tasks) == (0, 0)

    run(scenario())


def test_who_is_cancelled_just_before_its_turn_comes_is_cancelled_and_no_more() -> None:
    async def scenario() -> None:
        counts = WorkHandlerMetrics()
        admission = Admission(1, 1, counts)
        assert all(admission.admit() for _ in range(2))
        first, second = Request(admission), Request(admission)
        await asyncio.sleep(0)
        second.task.cancel()
        first.end.set()
        await asyncio.wait([first.task, second.task])
        assert second.task.cancelled()
        assert admission.admit()
        third = Request(admission)
        await asyncio.sleep(0)
        assert third.runs
        third.end.set()
        await third.task

    run(scenario())


@pytest.mark.parametrize("most", [1, 2, 3])
def test_no_more_are_admitted_than_there_may_be_whatever_places_and_queue_say(most: int) -> None:
    counts = WorkHandlerMetrics()
    admission = Admission(2, 40, counts, most=most)
    assert [admission.admit() for _ in range(most + 1)] == [True] * most + [False]
    assert counts.rejected_requests == 1
    admission.leave()
    assert admission.admit()
    assert (counts.pool_capacity, counts.queue_capacity) == (2, 40)
