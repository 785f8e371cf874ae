"""Writes model records such that what was called off does not come back.

Cancelling a write does not stop the thread that does it. So a write goes on when its caller leaves;
the next one to the same key waits for it, and whoever called it off has it put right afterwards.
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

    async def settled(self, key: str) -> None:
        """Wait for a write to ``key`` that nobody waits for any more, lest it overtake a later one."""
        if key in self._writing:
            await asyncio.wait([self._writing[key]])

    async def write(
        self, key: str, record: ModelRecord, on_late: Callable[[], Awaitable[None]]
    ) -> None:
        """Write ``record`` under ``key``.

        Args:
            key: The record's key.
            record: The record.
            on_late: Called once the record is written although the caller was cancelled.

        Raises:
            DiscoveryError: The registry cannot be written.
        """
        writing = self._tasks.launch(
            self._discovery.register(MODELS, key, record.to_json()), name=f"write {key}"
        )
        self._writing[key] = writing
        writing.add_done_callback(lambda _: self._writing.pop(key, None))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            self._tasks.start(self._put_right(writing, on_late), name=f"undo {key}")
            raise

    async def remove(self, key: str) -> None:
        """Remove the record under ``key``; raises as ``Discovery.deregister``."""
        await self._discovery.deregister(MODELS, key)

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
