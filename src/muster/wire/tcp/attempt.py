"""One attempt at a connection that everybody who needs it waits for."""

from __future__ import annotations

import asyncio
import contextvars
import copy
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from muster.errors import Disconnected, MusterError
from muster.tasks import TaskOwner

__all__ = ["SharedAttempt"]

T = TypeVar("T")


class SharedAttempt(Generic[T]):
    """Shares one attempt at a time; the next who asks after its end begins another.

    Args:
        tasks: Owns the attempt: it goes on when who began it gives up, and ends with its owner.
        name: Shown in logs.
    """

    __slots__ = ("_name", "_running", "_tasks")

    def __init__(self, tasks: TaskOwner, name: str) -> None:
        self._tasks = tasks
        self._name = name
        self._running: asyncio.Task[T | MusterError] | None = None

    async def join(self, open_it: Callable[[], Coroutine[Any, Any, T | MusterError]]) -> T:
        """What the attempt under way gives; ``open_it`` begins one if there is none.

        Raises:
            MusterError: What the attempt gave instead; a copy for each who waited.
            Disconnected: The attempt's owner was closed.
        """
        running = self._running
        if running is None or running.done():
            # It outlives the request it was begun for: its log lines are not that request's.
            running = self._tasks.launch(open_it(), name=self._name, context=contextvars.Context())
            self._running = running
        try:
            opened = await asyncio.shield(running)
        except asyncio.CancelledError:
            if running.cancelled():
                raise Disconnected("this process is shutting down") from None
            raise
        if isinstance(opened, MusterError):
            # A shared exception would collect the tracebacks of all who raise it.
            raise copy.copy(opened)
        return opened
