"""Background tasks with an owner.

Every task in Muster belongs to a ``TaskOwner``: it is referenced while it runs, its failure is
logged with the owner's and the task's name, and closing the owner cancels what still runs and
waits for it. It is for long-lived objects that start work in callbacks (a protocol that got a
request); work with a lexical scope uses ``asyncio.TaskGroup``.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["TaskOwner"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


class TaskOwner:
    """Owns the tasks it starts until they end or it is closed.

    Args:
        name: Shown in logs and as a prefix of task names.
    """

    __slots__ = ("_closed", "_name", "_tasks")

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, Any], *, name: str) -> None:
        """Run ``work`` as a task of this owner; its result is dropped, its failure logged.

        Raises:
            RuntimeError: As ``launch``.
        """
        self.launch(work, name=name).add_done_callback(_log_failure)

    def launch(
        self,
        work: Coroutine[Any, Any, T],
        *,
        name: str,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        """Run ``work`` as a task of this owner and return it; who awaits it gets its failure.

        Args:
            work: What to run.
            name: Shown in logs.
            context: Its context variables; by default a copy of the caller's.

        Raises:
            RuntimeError: If the owner is closed; ``work`` is closed unrun.
        """
        if self._closed:
            work.close()
            raise RuntimeError(f"{self._name} is closed and starts no more tasks")
        task = asyncio.get_running_loop().create_task(
            work, name=f"{self._name}:{name}", context=context
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def wait(self, timeout_s: float) -> bool:
        """Wait for all present tasks to end on their own; ``False`` if some did not in time."""
        if not self._tasks:
            return True
        _, pending = await asyncio.wait(set(self._tasks), timeout=timeout_s)
        return not pending

    async def close(self, timeout_s: float | None = None) -> None:
        """Cancel what still runs and wait for it; idempotent. May be called by an owned task.

        Args:
            timeout_s: Seconds to wait for tasks that are not ours to write; those that do not end
                when they are cancelled are named in the log and left to themselves.
        """
        self._closed = True
        current = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not current]
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        _, stubborn = await asyncio.wait(tasks, timeout=timeout_s)
        if stubborn:
            logger.error(
                "%d tasks of %s do not end though they were cancelled", len(stubborn), self._name
            )


def _log_failure(task: asyncio.Task[Any]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        logger.error("task %s failed: %s", task.get_name(), error, exc_info=error)
