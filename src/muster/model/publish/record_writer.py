"""Writes model records such that what was called off does not come back.

Cancelling a write does not stop the thread that does it. So a write goes on when its caller leaves;
the next one to the same key waits for it, and whoever called it off has it put right afterwards.
At the end of the process nobody waits for a write that hangs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from muster.discovery.base import Discovery
from muster.discovery.records import MODELS, ModelRecord
from muster.errors import DiscoveryError
from muster.tasks import TaskOwner

__all__ = ["RecordWriter"]

logger = logging.getLogger(__name__)


class RecordWriter:
    """Writes records for one process.

    Args:
        discovery: The registry.
        tasks: Owns the writes.
    """

    def __init__(self, discovery: Discovery, tasks: TaskOwner) -> None:
        self._discovery = discovery
        self._tasks = tasks
        self._writing: dict[str, asyncio.Task[None]] = {}
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def settled(self, key: str) -> None:
        """Wait for a write to ``key`` that nobody waits for any more, lest it overtake a later one."""
        if key in self._writing:
            await self._wait(self._writing[key])

    def close(self) -> None:
        """Wait for no write any more; idempotent."""
        if not self._closed.done():
            self._closed.set_result(None)

    async def write(
        self, key: str, record: ModelRecord, on_late: Callable[[], Awaitable[None]]
    ) -> None:
        """Write ``record`` under ``key``.

        Args:
            key: The record's key.
            record: The record.
            on_late: Called once the record is written although this call has ended otherwise.

        Raises:
            DiscoveryError: The registry cannot be written, or the writer was closed meanwhile.
        """
        writing = self._tasks.launch(
            self._discovery.register(MODELS, key, record.to_json()), name=f"write {key}"
        )
        self._writing[key] = writing
        writing.add_done_callback(lambda _: self._writing.pop(key, None))
        try:
            await self._wait(writing)
        except asyncio.CancelledError:
            self._call_off(key, writing, on_late)
            raise
        if not writing.done():
            self._call_off(key, writing, on_late)
            raise DiscoveryError(f"the registry has not taken {key} before the end")
        writing.result()

    async def remove(self, key: str) -> None:
        """Remove the record under ``key``; raises as ``Discovery.deregister``."""
        await self._discovery.deregister(MODELS, key)

    async def _wait(self, writing: asyncio.Task[None]) -> None:
        """Wait until it is done or the writer is closed. Neither is cancelled with the caller."""
        await asyncio.wait({writing, self._closed}, return_when=asyncio.FIRST_COMPLETED)

    def _call_off(
        self, key: str, writing: asyncio.Task[None], on_late: Callable[[], Awaitable[None]]
    ) -> None:
        self._tasks.start(self._put_right(writing, on_late), name=f"undo {key}")

    async def _put_right(
        self, writing: asyncio.Task[None], on_late: Callable[[], Awaitable[None]]
    ) -> None:
        await asyncio.wait([writing])
        if writing.cancelled() or writing.exception() is not None:
            return
        try:
            await on_late()
        except DiscoveryError as error:
            logger.warning("a registration that was called off could not be undone: %s", error)
