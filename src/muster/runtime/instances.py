"""The live instances of one endpoint, as this process sees them.

Three sets, each with a reason for what it leaves out: *discovered* (in the registry), *routable*
(reachable by a transport we speak and not avoided after a failure), and *free* (routable, sorted
by id, ready for a chooser).
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from muster.discovery.base import Change, Discovery
from muster.discovery.records import INSTANCES, Instance
from muster.errors import CannotConnect, DiscoveryError
from muster.log import facts
from muster.names import EndpointId
from muster.wire.tcp.caller import TcpTarget

__all__ = ["InstanceSet", "InstanceSource", "Member"]

logger = logging.getLogger(__name__)

_PAUSE_S = 1.0
"""Pause before a registry that could not be watched is tried again."""


class Member(msgspec.Struct, frozen=True):
    """An instance, and where its requests go; without a target it cannot be reached, and why."""

    instance: Instance
    target: TcpTarget | None
    reason: str = ""

    @classmethod
    def of(cls, instance: Instance) -> Member:
        """Read the instance's address."""
        if instance.transport.kind != "tcp":
            return cls(instance, None, f"transport {instance.transport.kind!r} is not spoken here")
        try:
            target = TcpTarget.parse(instance.transport.address, instance.request_plane_codec)
        except CannotConnect as error:
            return cls(instance, None, str(error))
        return cls(instance, target)


class InstanceSet:
    """Decides who may get a request; no I/O, time is passed in.

    Args:
        inhibit_s: How long an instance is avoided after a failure; 0 never avoids.
    """

    def __init__(self, inhibit_s: float) -> None:
        self._inhibit_s = inhibit_s
        self._members: dict[int, Member] = {}
        self._avoided: dict[int, float] = {}
        self._free: tuple[int, ...] = ()
        self._recheck = float("inf")

    @property
    def members(self) -> dict[int, Member]:
        """All discovered instances by id."""
        return self._members

    def put(self, instance: Instance) -> None:
        """An instance is there, or has changed; only a change forgets what it was avoided for."""
        known = self._members.get(instance.instance_id)
        if known is not None and known.instance == instance:
            return
        self._members[instance.instance_id] = Member.of(instance)
        self._avoided.pop(instance.instance_id, None)
        self._recount()

    def remove(self, instance_id: int) -> None:
        """An instance is gone; a no-op if it was not there."""
        self._members.pop(instance_id, None)
        self._avoided.pop(instance_id, None)
        self._recount()

    def avoid(self, instance_id: int, now: float) -> None:
        """An instance could not be reached: leave it out for a while."""
        if self._inhibit_s > 0 and instance_id in self._members:
            self._avoided[instance_id] = now + self._inhibit_s
            self._recount()

    def free(self, now: float) -> tuple[int, ...]:
        """Ids that may get a request now, sorted."""
        if now >= self._recheck:
            self._avoided = {key: until for key, until in self._avoided.items() if until > now}
            self._recount()
        return self._free

    def next_return(self) -> float | None:
        """When the first avoided instance may get requests again; ``None`` if none is avoided."""
        return min(self._avoided.values(), default=None)

    def exclusions(self, now: float) -> dict[int, str]:
        """Why each instance that is not free is not."""
        free = set(self.free(now))
        return {
            key: member.reason or f"avoided for {self._avoided[key] - now:.1f} s after a failure"
            for key, member in self._members.items()
            if key not in free
        }

    def _recount(self) -> None:
        self._free = tuple(
            sorted(
                key
                for key, member in self._members.items()
                if member.target is not None and key not in self._avoided
            )
        )
        self._recheck = min(self._avoided.values(), default=float("inf"))


class InstanceSource:
    """Keeps an ``InstanceSet`` up to date from the registry; one an endpoint and process.

    Args:
        discovery: The registry.
        endpoint: The endpoint to watch.
        inhibit_s: See ``InstanceSet``.
    """

    def __init__(self, discovery: Discovery, endpoint: EndpointId, inhibit_s: float) -> None:
        self._discovery = discovery
        self._endpoint = endpoint
        self._changed: set[asyncio.Future[None]] = set()
        self._ids_by_key: dict[str, int] = {}
        self._ready = asyncio.Event()
        self._failure: DiscoveryError | None = None
        self.set = InstanceSet(inhibit_s)

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
            self._failure = DiscoveryError(
                f"the instances of {self._endpoint} are not watched any more"
            )
            self._ready.set()

    async def _watched_to_the_end(self) -> bool:
        """Whether the watch ended because the registry was closed, not because it failed."""
        try:
            async with self._discovery.watch(INSTANCES, str(self._endpoint)) as watch:
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
            DiscoveryError: The last look at it failed.
        """
        await self._ready.wait()
        if self._failure is not None:
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
        for key in self._ids_by_key.keys() - snapshot.keys():
            self._apply(Change(key, None))
        for key, value in snapshot.items():
            self._apply(Change(key, value))
        self._failure = None
        self._ready.set()
        self._announce()

    def _apply(self, change: Change) -> None:
        if change.value is None:
            gone = self._ids_by_key.pop(change.key, None)
            if gone is not None:
                self.set.remove(gone)
            return
        try:
            instance = Instance.from_json(change.value)
        except DiscoveryError as error:
            logger.warning("skipped a record: %s", error, extra=facts(key=change.key))
            return
        before = self._ids_by_key.get(change.key)
        if before is not None and before != instance.instance_id:
            self.set.remove(before)
        self._ids_by_key[change.key] = instance.instance_id
        self.set.put(instance)

    def _announce(self) -> None:
        for future in self._changed:
            if not future.done():
                future.set_result(None)
