"""Whom this process calls: its clients, and the instances they know."""

from __future__ import annotations

import asyncio

from muster.config.settings import Settings
from muster.discovery.base import Discovery
from muster.discovery.records import Instance
from muster.errors import DiscoveryError
from muster.names import EndpointId
from muster.runtime.calling.choosers import RouterMode
from muster.runtime.calling.client import Client
from muster.runtime.calling.instance_source import InstanceSource
from muster.runtime.serving.planes import Planes
from muster.runtime.shutdown import attempt
from muster.tasks import TaskOwner
from muster.wire.caller import Caller

__all__ = ["Calling"]


class Calling:
    """All clients of one process; they share connections and what is known of instances.

    Args:
        settings: All settings.
        discovery: The registry.
        planes: Opens the ways requests go.
    """

    def __init__(self, settings: Settings, discovery: Discovery, planes: Planes) -> None:
        self._settings = settings
        self._discovery = discovery
        self._planes = planes
        self._lock = asyncio.Lock()
        self._caller: Caller | None = None
        self._sources: dict[EndpointId, InstanceSource] = {}
        self._tasks = TaskOwner("instances")
        self._closed = False

    async def open(self) -> None:
        """Open the ways requests go, which the first client would do; idempotent.

        Raises:
            ConfigError: An address or certificates cannot be used.
            CannotConnect: The port for responses cannot be used.
            DiscoveryError: This runtime is shutting down.
        """
        async with self._lock:
            await self._open_caller()

    async def client_of(self, endpoint: EndpointId, mode: RouterMode) -> Client:
        """A client of ``endpoint``; see ``Endpoint.client``."""
        async with self._lock:
            caller = await self._open_caller()
            source = self._sources.get(endpoint)
            if source is None:
                source = InstanceSource(
                    self._discovery, endpoint, self._settings.request_plane, self._planes.spoken
                )
                self._sources[endpoint] = source
                self._tasks.start(source.run(), name=f"instances of {endpoint}")
        await source.ready()
        return Client(endpoint, source, caller, mode)

    async def _open_caller(self) -> Caller:
        """With the lock held."""
        if self._closed:
            raise DiscoveryError("this runtime is shutting down, or has")
        if self._caller is None:
            self._caller = await self._planes.open_caller()
        return self._caller

    def known_instances(self) -> list[Instance]:
        """The instances of every endpoint there is a client of, as last seen; sorted."""
        return sorted(
            member.instance
            for source in self._sources.values()
            for member in source.set.members.values()
        )

    async def close(self) -> None:
        """End every stream and forget every instance."""
        async with self._lock:  # what is being opened is closed below
            self._closed = True
        await attempt("ending the watches of instances", self._tasks.close)
        if self._caller is not None:
            await attempt("closing connections", self._caller.close)
