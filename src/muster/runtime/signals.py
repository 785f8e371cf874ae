"""SIGTERM and SIGINT: the first one starts an orderly shutdown, the second one ends the process.

After an orderly shutdown the process is expected to end by itself, because what it awaited has
returned. If it has not some seconds later, the signal takes its usual course.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import ClassVar

from muster.tasks import TaskOwner

__all__ = ["ShutdownSignals"]

_GRACE_S = 3.0


class ShutdownSignals:
    """What a loop does on signals; shared by all runtimes on it. Use ``of`` to get it."""

    _by_loop: ClassVar[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, ShutdownSignals]] = (
        weakref.WeakKeyDictionary()
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._shutdowns: dict[Callable[[], Awaitable[None]], Callable[[], None]] = {}
        self._tasks = TaskOwner("signals")
        self._signalled = False

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> ShutdownSignals:
        """The loop's own."""
        found = cls._by_loop.get(loop)
        if found is None:
            found = cls._by_loop[loop] = cls(loop)
        return found

    def add(self, shutdown: Callable[[], Awaitable[None]], force: Callable[[], None]) -> None:
        """Run ``shutdown`` on the first signal; ``force``, which must not wait, on the second.

        Does nothing outside the main thread, where Python delivers no signals.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        loop = self._loop()
        if loop is not None and not self._shutdowns:
            for number in (signal.SIGTERM, signal.SIGINT):
                with contextlib.suppress(NotImplementedError, RuntimeError):
                    loop.add_signal_handler(number, self._received, number)
        self._shutdowns[shutdown] = force

    def remove(self, shutdown: Callable[[], Awaitable[None]]) -> None:
        """Undo ``add``; with the last one gone, signals take their usual course again."""
        self._shutdowns.pop(shutdown, None)
        loop = self._loop()
        if loop is not None and not self._shutdowns and not self._signalled:
            for number in (signal.SIGTERM, signal.SIGINT):
                with contextlib.suppress(NotImplementedError, RuntimeError):
                    loop.remove_signal_handler(number)

    def _received(self, number: signal.Signals) -> None:
        if self._signalled:
            for force in [*self._shutdowns.values()]:
                force()
            _take_usual_course(number)
            return
        self._signalled = True
        self._tasks.start(self._shut_down(number), name=number.name)

    async def _shut_down(self, number: signal.Signals) -> None:
        shutdowns = [shutdown() for shutdown in [*self._shutdowns]]
        await asyncio.gather(*shutdowns, return_exceptions=True)
        loop = self._loop()
        if loop is not None:
            loop.call_later(_GRACE_S, _take_usual_course, number)


def _take_usual_course(number: signal.Signals) -> None:
    """Let the signal do what it does in a process without a handler."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
