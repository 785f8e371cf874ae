"""Running a blocking step in a thread such that its end is known even when the caller is cancelled.

``asyncio.to_thread`` lets go of the thread on cancellation; a clean-up that follows would then race
with the step it cleans up after (closing a file that is being written, removing one that is about
to be renamed).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import deque
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

__all__ = ["SharedThreads", "run_to_end"]

P = ParamSpec("P")
R = TypeVar("R")

_THREADS = 2
"""How many threads take shared steps: while one waits for the disk, the other goes on."""


async def run_to_end(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run ``function`` in a thread and return its result.

    A cancelled caller gets its ``CancelledError`` only after ``function`` has ended; its result or
    error is then dropped. So use it for short steps on our own disk, never for waits on others.
    """
    # A future of the executor, not a task: a loop that shuts down cancels tasks one by one
    return await _result(
        asyncio.get_running_loop().run_in_executor(
            None, functools.partial(function, *args, **kwargs)
        )
    )


class SharedThreads:
    """Runs short blocking steps of many tasks in few threads, as many at a time as are waiting.

    A step on a thread of its own costs its way there and back, several times what most steps on a
    disk take, and contends with all others for the interpreter. Steps are begun in their order. One
    that hangs keeps those that left with it waiting, so they should be on one disk. One event loop.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()
        self._running = 0

    async def run_to_end(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """As the function ``run_to_end``, in a thread that takes what else is waiting along."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[R] = loop.create_future()
        self._waiting.append((functools.partial(function, *args, **kwargs), ended))
        if self._running < _THREADS:
            self._running += 1
            # not at once: what else this turn of the loop brings comes along
            loop.call_soon(self._depart, loop)
        return await _result(ended)

    def _depart(self, loop: asyncio.AbstractEventLoop) -> None:
        steps = list(self._waiting)
        self._waiting.clear()
        if not steps:
            self._running -= 1
            return
        try:
            left = loop.run_in_executor(None, _take, [step for step, _ in steps])
        except RuntimeError as error:  # the loop is being shut down
            self._running -= 1
            for _, end in steps:
                end.set_exception(error)
            return
        left.add_done_callback(functools.partial(self._arrive, loop, [end for _, end in steps]))

    def _arrive(
        self,
        loop: asyncio.AbstractEventLoop,
        ends: list[asyncio.Future[Any]],
        taken: asyncio.Future[list[tuple[Any, BaseException | None]]],
    ) -> None:
        for end, (result, error) in zip(ends, taken.result(), strict=True):
            if error is None:
                end.set_result(result)
            else:
                end.set_exception(error)
        self._depart(loop)


def _take(steps: list[Callable[[], Any]]) -> list[tuple[Any, BaseException | None]]:
    """The result or the error of each step."""
    ends: list[tuple[Any, BaseException | None]] = []
    for step in steps:
        try:
            ends.append((step(), None))
        except BaseException as error:  # noqa: BLE001 - it is raised where the step is awaited
            ends.append((None, error))
    return ends


async def _result(step: asyncio.Future[R]) -> R:
    """What ``step`` gives; a cancelled caller learns of it once the step has ended."""
    cancelled: asyncio.CancelledError | None = None
    while not step.done():
        try:
            await asyncio.wait([step])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return step.result()
    with contextlib.suppress(BaseException):
        step.result()  # an error nobody asks for would be reported as forgotten
    raise cancelled
