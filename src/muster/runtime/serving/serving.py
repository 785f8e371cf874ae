"""What this process serves: its endpoints, their instances in the registry, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from muster.config.settings import Settings
from muster.discovery.base import Discovery
from muster.discovery.records import INSTANCES, DeviceType, Instance, TransportType
from muster.errors import ConflictError, DiscoveryError, NotRegisteredError
from muster.log import facts
from muster.names import EndpointId
from muster.runtime.metrics.requests import EndpointObserver, RequestMetrics
from muster.runtime.serving.canary import Canary, first_item
from muster.runtime.serving.health import HealthBoard
from muster.runtime.serving.planes import Planes, RequestServer
from muster.runtime.shutdown import attempt
from muster.tasks import TaskOwner
from muster.wire.context import Context
from muster.wire.dispatch import Dispatcher
from muster.wire.tcp.dialer import Dialer

__all__ = ["Service", "Serving"]

logger = logging.getLogger(__name__)


class Service:
    """An endpoint this process serves."""

    def __init__(
        self, instance: Instance, path: str, observer: EndpointObserver, *, graceful: bool
    ) -> None:
        self.instance = instance
        self.path = path
        self.observer = observer
        self.graceful = graceful
        self.ready = False
        self.canary: Canary | None = None
        self.closed = asyncio.Event()


class Serving:
    """All endpoints of one process.

    Args:
        settings: All settings.
        discovery: The registry.
        planes: Opens the way requests come.
        metrics: Request metrics.
        board: Told how each endpoint is.
    """

    def __init__(
        self,
        settings: Settings,
        discovery: Discovery,
        planes: Planes,
        metrics: RequestMetrics,
        board: HealthBoard,
    ) -> None:
        self._settings = settings
        self._discovery = discovery
        self._planes = planes
        self._metrics = metrics
        self._board = board
        self._tasks = TaskOwner("serving")
        self._closed = False
        self._lock = asyncio.Lock()
        self._dialer: Dialer | None = None
        self._dispatcher: Dispatcher | None = None
        self._server: RequestServer | None = None
        self.services: dict[EndpointId, Service] = {}

    # -- serving -----------------------------------------------------------------------------

    async def serve(
        self,
        endpoint: EndpointId,
        handler: Callable[[Any, Context], Any],
        *,
        graceful: bool,
        metrics_labels: Sequence[tuple[str, str]],
        health_check_payload: dict[str, Any] | None,
        host: str | None,
    ) -> Service:
        """Serve ``endpoint`` and register its instance; see ``DistributedRuntime.serve``.

        ``host`` is where this process serves files, for records whose transport names none.
        """
        server, dispatcher = await self._open()
        if endpoint in self.services:
            raise ConflictError(f"this process serves {endpoint} already")
        observer = EndpointObserver(self._metrics, endpoint, metrics_labels)
        instance_id = self._discovery.instance_id
        transport, path = await self._listen(server, endpoint, instance_id, observer)
        instance = Instance(
            namespace=endpoint.namespace,
            component=endpoint.component,
            endpoint=endpoint.name,
            instance_id=instance_id,
            transport=transport,
            device_type=_device().value,
            request_plane_codec=self._settings.request_plane.codec,
            host=None if transport.kind == TransportType.TCP else host,
        )
        service = Service(instance, path, observer, graceful=graceful)
        self.services[endpoint] = service
        dispatcher.add(path, handler, observer)
        probed = self._settings.health.canary and health_check_payload is not None
        self._board.add(endpoint, proven=not probed)
        try:
            await self._register_or_not(endpoint)
        except BaseException:
            await self._undo(endpoint, service)
            raise
        if probed:
            self._start_canary(endpoint, service, health_check_payload)
        logger.info(
            "endpoint serves", extra=facts(endpoint=str(endpoint), instance=f"{instance_id:x}")
        )
        return service

    async def _register_or_not(self, endpoint: EndpointId) -> None:
        """Register; who is cancelled meanwhile leaves no record behind."""
        self._check_open()
        registering = self._tasks.launch(self.register(endpoint), name=f"register {endpoint}")
        try:
            await asyncio.shield(registering)
        except asyncio.CancelledError:
            if registering.cancelled():
                self._check_open()  # not who called was cancelled, but the registration
            await asyncio.wait({registering})
            if not registering.cancelled() and registering.exception() is None:
                await attempt("leaving the registry", partial(self._unregister, endpoint))
            raise

    def _check_open(self) -> None:
        if self._closed:
            raise DiscoveryError("this runtime is shutting down, or has")

    async def _listen(
        self,
        server: RequestServer,
        endpoint: EndpointId,
        instance_id: int,
        observer: EndpointObserver,
    ) -> tuple[Any, str]:
        try:
            return await server.listen(endpoint, instance_id)
        except BaseException:
            observer.close()
            raise

    async def _undo(self, endpoint: EndpointId, service: Service) -> None:
        self.services.pop(endpoint, None)
        self._board.remove(endpoint)
        service.observer.close()
        if self._server is not None:
            await self._server.leave(service.path)
        if self._dispatcher is not None:
            await self._dispatcher.remove(service.path, drain_timeout_s=0)

    def _start_canary(self, endpoint: EndpointId, service: Service, payload: Any) -> None:
        async def probe(request: Any) -> Any:
            assert self._dispatcher is not None  # noqa: S101 - it serves the endpoint
            return await first_item(self._dispatcher.stream(service.path, request))

        service.canary = Canary(endpoint, payload, probe, self._board, self._settings.health)
        service.observer.on_item = service.canary.item
        service.canary.start()

    async def _open(self) -> tuple[RequestServer, Dispatcher]:
        async with self._lock:
            self._check_open()
            if self._dispatcher is None:
                _, connect_tls = await self._planes.tls()
                self._dialer = Dialer(self._settings.request_plane, connect_tls)
                self._dispatcher = Dispatcher(
                    self._settings.request_plane,
                    self._metrics.work_handler,
                    self._dialer.connect_back,
                )
            if self._server is None:
                self._server = await self._planes.open_server(self._dispatcher)
            return self._server, self._dispatcher

    def handler_of(self, name: str) -> Callable[[Any], AsyncIterator[Any]] | None:
        """What answers a request in this process for the endpoint of that name, if there is one."""
        for endpoint, service in self.services.items():
            if endpoint.name == name and self._dispatcher is not None:
                return partial(self._dispatcher.stream, service.path)
        return None

    # -- the registry ------------------------------------------------------------------------

    async def register(self, endpoint: EndpointId) -> None:
        """Put the instance of a served endpoint into the registry.

        Raises:
            NotRegisteredError: This process does not serve it.
            DiscoveryError: The registry cannot be written.
        """
        service = self._service(endpoint)
        await self._discovery.register(INSTANCES, service.instance.key, service.instance.to_json())
        service.ready = True
        self._board.registered(endpoint)

    async def unregister(self, endpoint: EndpointId) -> None:
        """Take the instance out of the registry; requests that still come are served.

        Raises:
            NotRegisteredError: It is not there.
            DiscoveryError: The registry cannot be written.
        """
        service = self._service(endpoint)
        await self._discovery.deregister(INSTANCES, service.instance.key)
        service.ready = False
        self._board.withdrawn(endpoint)

    def _service(self, endpoint: EndpointId) -> Service:
        service = self.services.get(endpoint)
        if service is None:
            raise NotRegisteredError(f"this process does not serve {endpoint}")
        return service

    # -- ending ------------------------------------------------------------------------------

    async def withdraw(self) -> None:
        """Take every instance out of the registry, and give callers a moment to hear of it."""
        ready = [endpoint for endpoint, service in self.services.items() if service.ready]
        for service in self.services.values():
            if service.canary is not None:
                await attempt("ending a canary", service.canary.close)
        for endpoint in ready:
            await attempt("leaving the registry", partial(self._unregister, endpoint))
        if any(self.services[endpoint].graceful for endpoint in ready):
            await asyncio.sleep(self._settings.request_plane.withdraw_grace_s)

    async def _unregister(self, endpoint: EndpointId) -> None:
        with contextlib.suppress(NotRegisteredError):
            await self.unregister(endpoint)

    async def refuse(self) -> None:
        """Take no more connections, and nothing more from NATS."""
        if self._server is not None:
            self._server.stop_accepting()
            for service in self.services.values():
                await self._server.leave(service.path)

    async def drain(self) -> None:
        """Refuse what still comes, and finish what is in flight, within the budget."""
        budget = self._settings.request_plane.drain_timeout_s
        async with asyncio.TaskGroup() as group:
            for service in [*self.services.values()]:
                group.create_task(self._drain(service, budget if service.graceful else 0.0))

    async def _drain(self, service: Service, budget_s: float) -> None:
        if self._dispatcher is None:
            return
        if not await self._dispatcher.remove(service.path, drain_timeout_s=budget_s):
            logger.warning(
                "requests in flight were cut off",
                extra=facts(endpoint=str(service.instance.endpoint_id), budget_s=budget_s),
            )

    async def close(self) -> None:
        """Close what requests came by; whoever waits for a service to end is told."""
        async with self._lock:  # what is being opened is closed below
            self._closed = True
        await attempt("ending registrations", self._tasks.close)
        for service in self.services.values():
            service.observer.close()
        if self._dispatcher is not None:
            await attempt("ending requests", self._dispatcher.close)
        if self._server is not None:
            await attempt("closing the request server", self._server.close)
        if self._dialer is not None:
            await attempt("closing connections to callers", self._dialer.close)

    def tell_closed(self) -> None:
        """Let those go on who wait for a service to end."""
        for service in self.services.values():
            service.closed.set()


def _device() -> DeviceType:
    """What this machine computes on, by the device file of NVIDIA's driver."""
    return DeviceType.CUDA if Path("/dev/nvidiactl").exists() else DeviceType.CPU
