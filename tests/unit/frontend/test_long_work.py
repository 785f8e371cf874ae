from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Iterator

import pytest

from muster.config.processes import count_cpus
from muster.frontend.long_work import LongWork
from muster.testing.loops import run

NAME: contextvars.ContextVar[str] = contextvars.ContextVar("name")


@contextlib.contextmanager
def long_work() -> Iterator[LongWork]:
    work = LongWork()
    try:
        yield work
    finally:
        work.close()


def test_what_the_work_returns_and_raises_comes_back() -> None:
    async def scenario() -> None:
        with long_work() as work:
            assert await work.run(divmod, 7, 2) == (3, 1)
            with pytest.raises(ZeroDivisionError):
                await work.run(divmod, 7, 0)

    run(scenario())


def test_work_sees_the_callers_context_variables() -> None:
    async def scenario() -> None:
        NAME.set("of the request")
        with long_work() as work:
            assert await work.run(NAME.get) == "of the request"

    run(scenario())


def test_work_is_done_by_as_many_threads_as_there_are_processors() -> None:
    most = min(count_cpus(), 8)
    everybody = threading.Barrier(most)

    def meet() -> str:
        # Breaks if fewer work at the same time.
        everybody.wait(timeout=30)
        return threading.current_thread().name

    async def scenario() -> set[str]:
        with long_work() as work:
            return set(await asyncio.gather(*(work.run(meet) for _ in range(3 * most))))

    assert len(run(scenario())) == most


def test_a_caller_that_is_cancelled_does_not_wait_for_its_work() -> None:
    go_on = threading.Event()

    async def scenario() -> None:
        with long_work() as work:
            try:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await work.run(go_on.wait, 60)
            finally:
                assert not go_on.is_set()
                go_on.set()

    run(scenario())


def test_once_closed_it_takes_no_more_work() -> None:
    async def scenario() -> None:
        work = LongWork()
        await work.run(int)
        work.close()
        work.close()
        with pytest.raises(RuntimeError):
            await work.run(int)

    run(scenario())


def test_once_there_is_no_more_work_it_says_so_in_a_thread() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        quiet: asyncio.Future[int] = loop.create_future()

        def tell() -> None:
            loop.call_soon_threadsafe(quiet.set_result, threading.get_ident())

        work = LongWork(quiet_s=0.01, when_quiet=tell)
        try:
            await work.run(int)
            assert await quiet != threading.get_ident()
        finally:
            work.close()

    run(scenario())


def test_it_is_not_quiet_while_something_runs_or_when_it_is_closed() -> None:
    called: list[bool] = []
    go_on = threading.Event()

    async def scenario() -> None:
        work = LongWork(quiet_s=0.0, when_quiet=lambda: called.append(True))
        async with asyncio.TaskGroup() as group:
            group.create_task(work.run(go_on.wait, 30))
            await asyncio.sleep(0.05)
            assert not called
            go_on.set()
            work.close()
        await asyncio.sleep(0.05)
        assert not called

    run(scenario())
