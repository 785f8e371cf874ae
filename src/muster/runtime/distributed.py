"""One process's part in a fleet: its identity, its registry, and both ends of the request plane.

Nothing is started before it is needed: a process that only calls listens for responses, one that
serves listens for requests, and the status server runs when a port is set for it.

Shutdown is one ordered sequence, the same for a signal, for ``shutdown()`` and for leaving the
``async with`` block: withdraw (health says not ready, models and instances leave the registry),
drain (requests in flight end, within a budget), close.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Self

from prometheus_client import CollectorRegistry

from muster.clock import SYSTEM_CLOCK
from muster.config.settings import Settings
from muster.discovery.base import Discovery
from muster.discovery.open import open_discovery
from muster.discovery.records import INSTANCES, DeviceType, Instance, Transport, TransportType
from muster.errors import (
    ConfigError,
    ConflictError,
    DiscoveryError,
    MusterError,
    NotRegisteredError,
)
from muster.log import facts
from muster.names import EndpointId, check_name
from muster.runtime.choosers import RouterMode
from muster.runtime.client import Client
from muster.runtime.component import Endpoint, Namespace
from muster.runtime.instance_source import InstanceSource
from muster.runtime.metadata_registry import MetadataArtifactRegistry
from muster.runtime.request_metrics import EndpointObserver, RequestMetrics
from muster.runtime.signals import ShutdownSignals
from muster.runtime.status import HealthReport, StatusServer
from muster.tasks import TaskOwner
from muster.wire.address import bind_and_advertise, format_authority
from muster.wire.context import Context
from muster.wire.tcp.caller import TcpCaller
from muster.wire.tcp.server import TcpServer

__all__ = ["DistributedRuntime", "Service"]

logger = logging.getLogger(__name__)


class Service:
    """An endpoint this process serves."""

    def __init__(self, instance: Instance, path: str, *, graceful: bool) -> None:
        self.instance = instance
        self.path = path
        self.graceful = graceful
        self.ready = False
        self.closed = asyncio.Event()


class DistributedRuntime:
    """A process's runtime.

    Make one on the event loop it will live on; use it as ``async with DistributedRuntime() as
    runtime:``, or call ``shutdown()`` at the end. SIGTERM and SIGINT shut it down in order.

    Args:
        event_loop: Accepted so that calls from Dynamo carry over; it is always the running one.
        discovery_backend: Overrides the environment (``file``, ``memory``/``mem``).
        request_plane: Overrides the environment (``tcp``).
        settings: All settings, instead of reading them from the environment.
        discovery: A registry to use instead of opening the configured one; it is closed with the
            runtime.
        handle_signals: Whether signals shut the runtime down.

    Raises:
        ConfigError: If a setting is wrong.
    """

    def __init__(
        self,
        event_loop: asyncio.AbstractEventLoop | None = None,
        discovery_backend: str | None = None,
        request_plane: str | None = None,
        *,
        settings: Settings | None = None,
        discovery: Discovery | None = None,
        handle_signals: bool = True,
    ) -> None:
        del event_loop
        if settings is None:
            backend = {"mem": "memory"}.get(discovery_backend or "", discovery_backend)
            settings = Settings.load(
                flags={"discovery.backend": backend, "request_plane.plane": request_plane}
            )
        elif discovery_backend is not None or request_plane is not None:
            raise ConfigError("give either settings or discovery_backend and request_plane")
        self.settings = settings
        self.discovery = discovery or open_discovery(settings.discovery)
        self.metadata = MetadataArtifactRegistry()
        self.metrics = CollectorRegistry()
        self._request_metrics = RequestMetrics(self.metrics)
        self._namespaces: dict[str, Namespace] = {}
        self._services: dict[EndpointId, Service] = {}
        self._sources: dict[EndpointId, InstanceSource] = {}
        self._tasks = TaskOwner("runtime")
        self._lock = asyncio.Lock()
        self._server: TcpServer | None = None
        self._authority = ""
        self._caller: TcpCaller | None = None
        self._status: StatusServer | None = None
        self._withdraw: list[Callable[[], Awaitable[None]]] = []
        self._closing: asyncio.Task[None] | None = None
        self._withdrawn = False
        self._closed = asyncio.Event()
        self._began = SYSTEM_CLOCK.monotonic()
        self._signals = ShutdownSignals.of(asyncio.get_running_loop()) if handle_signals else None
        if self._signals is not None:
            self._signals.add(self.close, self.discovery.close_now)

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -- names -------------------------------------------------------------------------------

    @property
    def instance_id(self) -> int:
        """This process's u64 identity in the registry."""
        return self.discovery.instance_id

    def namespace(self, name: str) -> Namespace:
        """The namespace of this name; asking twice gives the same object.

        Raises:
            InvalidArgument: If it has a character outside ``a-z 0-9 - _``; use ``namespace`` of a
                namespace for a nested one.
        """
        return self.namespace_of(check_name(name, what="namespace"))

    def namespace_of(self, name: str) -> Namespace:
        """The namespace of a name somebody else chose, taken as it is."""
        return self._namespaces.setdefault(name, Namespace(self, name))

    def endpoint(self, path: str) -> Endpoint:
        """The endpoint ``namespace.component.endpoint``, with or without ``dyn://`` before it.

        Raises:
            InvalidArgument: If the path has not three parts. As with Dynamo, any characters may be
                in them.
        """
        return self.endpoint_of(EndpointId.parse(path))

    def endpoint_of(self, endpoint: EndpointId) -> Endpoint:
        """The endpoint of an id."""
        namespace = self.namespace_of(endpoint.namespace)
        return namespace.component_of(endpoint.component).endpoint(endpoint.name)

    # -- serving -----------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the status server if a port is set for it; idempotent, and done when needed.

        Raises:
            ConfigError: If its address or port cannot be used.
            DiscoveryError: The runtime is shutting down.
        """
        async with self._lock:
            self._check_open()
            port = self.settings.system.port
            if self._status is None and port is not None and port >= 0:
                status = StatusServer(
                    self.settings.system,
                    self.metadata,
                    self.health,
                    self.metrics,
                    metadata=self.settings.metadata,
                )
                await status.start()
                self._status = status

    @property
    def status_url(self) -> str | None:
        """Base URL of the status server for others, or ``None`` if it does not run."""
        return self._status.base_url if self._status is not None else None

    def health(self) -> HealthReport:
        """Ready while every endpoint served is, there is at least one, and nothing is closing."""
        endpoints = {
            endpoint.name: service.ready and not self._withdrawn
            for endpoint, service in self._services.items()
        }
        return HealthReport(
            ready=bool(endpoints) and all(endpoints.values()),
            uptime_s=SYSTEM_CLOCK.monotonic() - self._began,
            endpoints=endpoints,
        )

    async def serve(
        self, endpoint: EndpointId, handler: Callable[[Any, Context], Any], *, graceful: bool = True
    ) -> Service:
        """Serve ``endpoint`` and register this process's instance of it.

        Raises:
            ConflictError: This process serves it already.
            ConfigError: The configured address or port cannot be used.
            DiscoveryError: The registry cannot be written, or the runtime is shutting down; nothing
                is left behind.
        """
        await self.start()
        server = await self._request_server()
        self._check_open()
        if endpoint in self._services:
            raise ConflictError(f"this process serves {endpoint} already")
        path = f"{self.instance_id:x}/{endpoint}"
        instance = Instance(
            namespace=endpoint.namespace,
            component=endpoint.component,
            endpoint=endpoint.name,
            instance_id=self.instance_id,
            transport=Transport(TransportType.TCP.value, f"{self._authority}/{path}"),
            device_type=_device().value,
            request_plane_codec=self.settings.request_plane.codec,
        )
        service = Service(instance, path, graceful=graceful)
        self._services[endpoint] = service
        observer = EndpointObserver(self._request_metrics, endpoint, self.instance_id)
        server.add(path, handler, observer)
        try:
            await self.register_instance(endpoint)
        except BaseException:
            self._services.pop(endpoint, None)
            await server.remove(path, drain_timeout_s=0)
            raise
        logger.info(
            "endpoint serves",
            extra=facts(endpoint=str(endpoint), instance=f"{self.instance_id:x}"),
        )
        return service

    async def register_instance(self, endpoint: EndpointId) -> None:
        """Put the instance of a served endpoint into the registry.

        Raises:
            NotRegisteredError: This process does not serve it.
            DiscoveryError: The registry cannot be written.
        """
        service = self._service(endpoint)
        await self.discovery.register(INSTANCES, service.instance.key, service.instance.to_json())
        service.ready = True

    async def unregister_instance(self, endpoint: EndpointId) -> None:
        """Take the instance out of the registry; requests that still come are served.

        Raises:
            NotRegisteredError: It is not there.
            DiscoveryError: The registry cannot be written.
        """
        service = self._service(endpoint)
        await self.discovery.deregister(INSTANCES, service.instance.key)
        service.ready = False

    def _service(self, endpoint: EndpointId) -> Service:
        service = self._services.get(endpoint)
        if service is None:
            raise NotRegisteredError(f"this process does not serve {endpoint}")
        return service

    def _check_open(self) -> None:
        if self._closing is not None:
            raise DiscoveryError("this runtime is shutting down, or has")

    async def _request_server(self) -> TcpServer:
        async with self._lock:
            self._check_open()
            if self._server is None:
                plane = self.settings.request_plane
                addresses = await asyncio.to_thread(bind_and_advertise, plane.host)
                server = TcpServer(plane)
                port = await server.start(addresses.bind_host)
                self._authority = format_authority(addresses.advertise_host, port)
                self._server = server
            return self._server

    # -- calling -----------------------------------------------------------------------------

    async def client_of(self, endpoint: EndpointId, mode: RouterMode) -> Client:
        """A client of ``endpoint``; see ``Endpoint.client``."""
        async with self._lock:
            self._check_open()
            if self._caller is None:
                caller = TcpCaller(self.settings.request_plane)
                await caller.start()
                self._caller = caller
            source = self._sources.get(endpoint)
            if source is None:
                source = InstanceSource(self.discovery, endpoint, self.settings.request_plane)
                self._sources[endpoint] = source
                self._tasks.start(source.run(), name=f"instances of {endpoint}")
        await source.ready()
        return Client(endpoint, source, self._caller, mode)

    def known_instances(self) -> list[Instance]:
        """The instances of every endpoint this process has a client of, as last seen; sorted."""
        return sorted(
            member.instance
            for source in self._sources.values()
            for member in source.set.members.values()
        )

    # -- ending ------------------------------------------------------------------------------

    def on_withdraw(self, withdraw: Callable[[], Awaitable[None]]) -> None:
        """Run ``withdraw`` first thing when the runtime shuts down; its failure is logged."""
        self._withdraw.append(withdraw)

    def shutdown(self) -> None:
        """Start an orderly shutdown; ``serve_endpoint`` returns when it is through. Idempotent."""
        if self._closing is None:
            self._closing = self._tasks.launch(self._close(), name="shutdown")

    async def close(self) -> None:
        """Shut down in order and wait for it; idempotent."""
        self.shutdown()
        if self._closing is not None:
            await asyncio.shield(self._closing)

    async def wait_closed(self) -> None:
        """Wait until the runtime has shut down, whoever started that."""
        await self._closed.wait()

    async def _close(self) -> None:
        try:
            await self._withdraw_all()
            await self._drain_all()
        finally:
            await self._close_all()
            for service in self._services.values():
                service.closed.set()
            if self._signals is not None:
                self._signals.remove(self.close)
            self._closed.set()
            logger.debug("runtime closed")

    async def _withdraw_all(self) -> None:
        """Everything is tried, whatever fails: what is left goes when the registry is closed."""
        self._withdrawn = True
        for withdraw in [*self._withdraw]:
            await _attempt("withdrawing", withdraw)
        for endpoint, service in [*self._services.items()]:
            if service.ready:
                await _attempt("withdrawing", partial(self._unregister, endpoint))

    async def _unregister(self, endpoint: EndpointId) -> None:
        with contextlib.suppress(NotRegisteredError):
            await self.unregister_instance(endpoint)

    async def _drain_all(self) -> None:
        if self._server is None:
            return
        budget = self.settings.request_plane.drain_timeout_s
        async with asyncio.TaskGroup() as group:
            for service in [*self._services.values()]:
                group.create_task(self._drain(service, budget if service.graceful else 0.0))

    async def _drain(self, service: Service, budget_s: float) -> None:
        assert self._server is not None  # noqa: S101 - checked by the caller
        if not await self._server.remove(service.path, drain_timeout_s=budget_s):
            logger.warning(
                "requests in flight were cut off",
                extra=facts(endpoint=str(service.instance.endpoint_id), budget_s=budget_s),
            )

    async def _close_all(self) -> None:
        """Everything is closed, whatever fails."""
        if self._status is not None:
            await _attempt("closing the status server", self._status.close)
        if self._server is not None:
            await _attempt("closing the request server", self._server.close)
        await _attempt("ending tasks", self._tasks.close)
        if self._caller is not None:
            await _attempt("closing connections", self._caller.close)
        await _attempt("closing the registry", self.discovery.close)


async def _attempt(what: str, step: Callable[[], Awaitable[None]]) -> None:
    """One step of a shutdown: its failure is logged and does not keep the next from happening."""
    try:
        await step()
    except MusterError as error:
        logger.warning("%s failed: %s", what, error)
    except Exception:
        logger.exception("%s failed", what)


def _device() -> DeviceType:
    """What this machine computes on, by the device file of NVIDIA's driver."""
    return DeviceType.CUDA if Path("/dev/nvidiactl").exists() else DeviceType.CPU
