"""Keeps an endpoint's instances up to date from the registry."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from muster.config.settings import RequestPlaneSettings
from muster.discovery.base import Change, Discovery
from muster.discovery.records import INSTANCES, Instance
from muster.errors import DiscoveryError
from muster.log import facts
from muster.names import EndpointId
from muster.runtime.calling.instances import InstanceSet

__all__ = ["InstanceSource"]

logger = logging.getLogger(__name__)

_PAUSE_S = 1.0
"""Pause before a registry that could not be watched is tried again."""


class InstanceSource:
    """Keeps an ``InstanceSet`` up to date from the registry; one an endpoint and process.

    Args:
        discovery: The registry.
        endpoint: The endpoint to watch.
        settings: How long instances are left out, and what else its clients need.
        spoken: The transports this process can call.

    Attributes:
        set: The instances. Those of a registry that cannot be read at present stay as they were.
        skipped: Why records under the endpoint are not used, by key: what cannot be read is no
            instance. If such a record takes the place of a good one, the good one stays.
        closed: Whether nothing is watched any more.
    """

    def __init__(
        self,
        discovery: Discovery,
        endpoint: EndpointId,
        settings: RequestPlaneSettings,
        spoken: Collection[str] = ("tcp",),
    ) -> None:
        self.discovery = discovery
        self.settings = settings
        self._endpoint = endpoint
        self._changed: set[asyncio.Future[None]] = set()
        self._ids_by_key: dict[str, int] = {}
        self._ready = asyncio.Event()
        self._failure: DiscoveryError | None = None
        self._seen = False
        self.skipped: dict[str, str] = {}
        self.closed = False
        self.set = InstanceSet(
            asyncio.get_running_loop().time,
            inhibit_s=settings.inhibit_s,
            overloaded_s=settings.overloaded_s,
            spoken=spoken,
        )

    async def run(self) -> None:
        """Watch until cancelled, or the registry is closed.

        A registry that cannot be read is tried again every second; what was seen before stays.
        """
        try:
            while True:
                if await self._watched_to_the_end():
                    return
                await asyncio.sleep(_PAUSE_S)
        finally:
            self.closed = True
            self._failure = DiscoveryError(
                f"the instances of {self._endpoint} are not watched any more"
            )
            self._ready.set()

    async def _watched_to_the_end(self) -> bool:
        """Whether the watch ended because the registry was closed, not because it failed."""
        try:
            async with self.discovery.watch(INSTANCES, str(self._endpoint)) as watch:
                self._replace(watch.snapshot)
                async for change in watch:
                    self._apply(change)
                    self._announce()
        except DiscoveryError as error:
            if self._failure is None:
                logger.warning(
                    "cannot watch instances; trying again",
                    extra=facts(endpoint=str(self._endpoint), reason=error.message),
                )
            self._failure = error
            self._ready.set()
            return False
        return True

    async def ready(self) -> None:
        """Wait for the first look at the registry.

        Raises:
            DiscoveryError: It has never been read, or is not watched any more. What was read once
                is used as long as the registry is out of reach.
        """
        await self._ready.wait()
        if self._failure is not None and (self.closed or not self._seen):
            raise self._failure

    async def change(self) -> None:
        """Wait until the instances change."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._changed.add(future)
        try:
            await future
        finally:
            self._changed.discard(future)

    def _replace(self, snapshot: dict[str, bytes]) -> None:
        # First who is there, so that what is under way at those who are not has somewhere to go.
        for key, value in snapshot.items():
            self._apply(Change(key, value))
        for key in (self._ids_by_key.keys() | self.skipped.keys()) - snapshot.keys():
            self._apply(Change(key, None))
        self._failure = None
        self._seen = True
        self._ready.set()
        self._announce()

    def _apply(self, change: Change) -> None:
        self.skipped.pop(change.key, None)
        if change.value is None:
            self._remove(self._ids_by_key.pop(change.key, None))
            return
        try:
            instance = Instance.from_json(change.value)
        except DiscoveryError as error:
            self.skipped[change.key] = error.message
            logger.warning("skipped a record: %s", error, extra=facts(key=change.key))
            return
        before = self._ids_by_key.get(change.key)
        self._ids_by_key[change.key] = instance.instance_id
        self.set.put(instance)
        if before != instance.instance_id:
            self._remove(before)

    def _remove(self, instance_id: int | None) -> None:
        """An instance's key is gone, or another's; it is gone with the last key it had."""
        if instance_id is not None and instance_id not in self._ids_by_key.values():
            self.set.remove(instance_id)

    def _announce(self) -> None:
        for future in self._changed:
            if not future.done():
                future.set_result(None)
