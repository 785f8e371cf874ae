"""Work on requests that would hold up the loop: long prompts, most of all."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from muster.config.processes import count_cpus
from muster.llm.free_memory import give_back

__all__ = ["LongWork"]

P = ParamSpec("P")
T = TypeVar("T")

_MOST_THREADS = 8


class LongWork:
    """Threads for such work: as many as there are processors, and no more than eight.

    More would not be done sooner: it is work for a processor, and the allocator keeps memory for
    each thread that did some. ``close`` it.

    Args:
        quiet_s: How long there must have been no such work before ``when_quiet`` is called.
        when_quiet: Called in one of the threads; by default, what the allocator kept is given back
            to the system.
    """

    def __init__(
        self, *, quiet_s: float = 1.0, when_quiet: Callable[[], object] = give_back
    ) -> None:
        self._quiet_s = quiet_s
        self._when_quiet = when_quiet
        self._threads: ThreadPoolExecutor | None = None
        self._running = 0
        self._quiet: asyncio.TimerHandle | None = None
        self._closed = False

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``work`` returns or raises, done in a thread, with the caller's context variables.

        Whoever is cancelled while it waits does not wait any longer; what had begun ends by itself.

        Raises:
            RuntimeError: If this was closed.
        """
        loop = asyncio.get_running_loop()
        if self._closed:
            raise RuntimeError("no more work is taken: the frontend is closed")
        if self._threads is None:
            count = min(count_cpus(), _MOST_THREADS)
            self._threads = ThreadPoolExecutor(count, "muster-long-work")
        context = contextvars.copy_context()
        call = functools.partial(context.run, work, *args, **kwargs)
        self._running += 1
        try:
            return await loop.run_in_executor(self._threads, call)
        finally:
            self._running -= 1
            self._wait_for_quiet(loop)

    def close(self) -> None:
        """Take no more work. What is queued is dropped; what is running ends by itself; idempotent."""
        self._closed = True
        if self._quiet is not None:
            self._quiet.cancel()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _wait_for_quiet(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._quiet is not None:
            self._quiet.cancel()
            self._quiet = None
        if self._threads is not None and not self._running and not self._closed:
            self._quiet = loop.call_later(self._quiet_s, self._threads.submit, self._when_quiet)
