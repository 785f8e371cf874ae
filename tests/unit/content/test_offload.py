import asyncio
import threading

import pytest

from muster.content.offload import SharedThreads, run_to_end
from muster.testing.loops import run


def test_the_result_or_the_error_comes_back() -> None:
    assert run(run_to_end(divmod, 7, 2)) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        run(run_to_end(divmod, 7, 0))


@pytest.mark.parametrize("times", [1, 3])
def test_a_cancelled_caller_waits_for_the_step_however_often_it_is_cancelled(times: int) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        started, release, ended = asyncio.Event(), threading.Event(), []

        def step() -> None:
            loop.call_soon_threadsafe(started.set)
            release.wait(10)
            ended.append(True)
            raise ValueError("dropped")

        async with asyncio.TaskGroup() as group:
            task = group.create_task(run_to_end(step))
            await started.wait()
            for _ in range(times):
                task.cancel()
                await asyncio.sleep(0)
                assert not task.done()
            release.set()
        assert ended
        assert task.cancelled()

    run(scenario())


def test_a_deadline_passes_through() -> None:
    async def scenario() -> None:
        release = threading.Event()
        asyncio.get_running_loop().call_later(0.05, release.set)
        async with asyncio.timeout(0.01):
            await run_to_end(release.wait, 10)

    with pytest.raises(TimeoutError):
        run(scenario())


def test_steps_of_one_turn_share_a_thread_and_each_gets_its_own_end() -> None:
    def step(number: int) -> tuple[int, int]:
        if number == 2:
            raise ValueError("two")
        return number, threading.get_ident()

    async def scenario() -> list[tuple[int, int] | BaseException]:
        threads = SharedThreads()
        return await asyncio.gather(
            *(threads.run_to_end(step, number) for number in range(4)), return_exceptions=True
        )

    ends = run(scenario())
    assert str(ends.pop(2)) == "two"
    assert [end[0] for end in ends if isinstance(end, tuple)] == [0, 1, 3]
    assert len({end[1] for end in ends if isinstance(end, tuple)}) == 1


def test_a_shared_step_that_waits_leaves_a_thread_to_others_and_what_comes_later_is_run() -> None:
    async def scenario() -> list[int]:
        threads, release = SharedThreads(), threading.Event()
        async with asyncio.TaskGroup() as group:
            slow = group.create_task(threads.run_to_end(release.wait, 10))
            await asyncio.sleep(0.01)  # it has left
            ends = [await threads.run_to_end(abs, -1)]
            assert not slow.done()
            release.set()
        return [*ends, await threads.run_to_end(abs, -2)]

    assert run(scenario()) == [1, 2]


def test_a_cancelled_caller_waits_for_its_shared_step() -> None:
    async def scenario() -> None:
        threads, release, ended = SharedThreads(), threading.Event(), []

        def step() -> None:
            release.wait(10)
            ended.append(True)

        task = asyncio.ensure_future(threads.run_to_end(step))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0.01)
        assert not task.done()
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended

    run(scenario())
