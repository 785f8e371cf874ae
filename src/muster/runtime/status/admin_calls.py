"""Calls of a worker's own code on behalf of its status server: bounded in time and number.

Such a call is not tied to the client that asked for it: whoever hangs up while weights are loaded
does not leave the engine half way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from muster.config.settings import SystemSettings
from muster.log import facts
from muster.tasks import TaskOwner

__all__ = ["AdminCalls", "CallRefusedError"]

logger = logging.getLogger(__name__)

_CLOSE_S = 2.0
_CLOSING = "the status server is closing"


class CallRefusedError(Exception):
    """A call was not made, or gave no result: not by its own doing. Becomes an answer, never leaves.

    Args:
        status: The HTTP status that says so.
        error: The same in two or three words.
        message: In a sentence.
    """

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.message = message


class AdminCalls:
    """Runs calls side by side until it is closed.

    Args:
        name: Shown in logs and messages.
        settings: The limits on the time and the number of calls.
    """

    def __init__(self, name: str, settings: SystemSettings) -> None:
        self._name = name
        self._timeout_s = settings.callback_timeout_s
        self._limit = settings.callback_limit
        self._tasks = TaskOwner(name)
        self._closed = False

    async def run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """What ``call(*arguments)`` gives once awaited.

        Raises:
            CallRefusedError: 503 if as many calls as the limit allows are running, those included that
                went on after their time was up; 504 if it took longer than the limit, and was
                cancelled; 503 if this is closed, or was closed meanwhile.
            Exception: Whatever ``call`` raises; ``TypeError`` if it gives nothing to await.
        """
        if self._closed:
            raise CallRefusedError(503, "Shutting down", _CLOSING)
        if len(self._tasks) >= self._limit:
            text = f"{self._limit} calls of {self._name} are running already"
            raise CallRefusedError(503, "Too many requests", text)
        task = self._tasks.launch(_await(call, arguments), name="call")
        task.add_done_callback(_retrieve)
        await asyncio.wait({task}, timeout=self._timeout_s)
        if not task.done():
            task.cancel()
            text = f"no result within {self._timeout_s:g} s; it was cancelled"
            raise CallRefusedError(504, "Handler timeout", text)
        if task.cancelled():
            if self._closed:
                raise CallRefusedError(503, "Shutting down", _CLOSING)
            raise CallRefusedError(500, "Handler error", "the call cancelled itself")
        return task.result()

    async def close(self) -> None:
        """Cancel what runs, and wait at most two seconds for it to stop. Idempotent."""
        self._closed = True
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._tasks.close()
        except TimeoutError:
            logger.warning(
                "calls do not stop", extra=facts(owner=self._name, running=len(self._tasks))
            )


async def _await(call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return await call(*arguments)


def _retrieve(task: asyncio.Task[Any]) -> None:
    """A result nobody waits for any more has been answered for already."""
    if not task.cancelled():
        task.exception()
