import asyncio
import threading

import pytest

from muster.content.offload import run_to_end


def test_the_result_or_the_error_comes_back() -> None:
    assert asyncio.run(run_to_end(divmod, 7, 2)) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(run_to_end(divmod, 7, 0))


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

    asyncio.run(scenario())


def test_a_deadline_passes_through() -> None:
    async def scenario() -> None:
        release = threading.Event()
        asyncio.get_running_loop().call_later(0.05, release.set)
        async with asyncio.timeout(0.01):
            await run_to_end(release.wait, 10)

    with pytest.raises(TimeoutError):
        asyncio.run(scenario())
