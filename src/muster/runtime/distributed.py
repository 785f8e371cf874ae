"""One process's part in a fleet: its identity, its registry, and both ends of the request plane.

Nothing is started before it is needed: a process that only calls listens for responses, one that
serves takes requests, and the status server runs when a port is set for it.

Its end is one ordered sequence (see ``Phase``), the same for a signal, for ``shutdown()`` and for
leaving the ``async with`` block: readiness is withdrawn, models and instances leave the registry,
no more requests are taken, what is in flight is finished within a budget, everything is closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry

from muster.clock import SYSTEM_CLOCK
from muster.config.settings import Settings
from muster.discovery.base import Discovery
from muster.discovery.open import open_discovery
from muster.discovery.records import Instance
from muster.names import EndpointId, check_name
from muster.runtime.arguments import check_reach, settings_of
from muster.runtime.calling.calling import Calling
from muster.runtime.calling.choosers import RouterMode
from muster.runtime.calling.client import Client
from muster.runtime.components.component import Namespace
from muster.runtime.components.endpoint import Endpoint
from muster.runtime.ending import Ending
from muster.runtime.metadata.registry import MetadataArtifactRegistry
from muster.runtime.metrics.hierarchy import MetricsNode
from muster.runtime.metrics.requests import RequestMetrics
from muster.runtime.otel import OtelExporter, configure_otel
from muster.runtime.serving.health import HealthBoard, HealthReport
from muster.runtime.serving.planes import Planes
from muster.runtime.serving.serving import Service, Serving
from muster.runtime.shutdown import Phase, attempt
from muster.runtime.signals import ShutdownSignals
from muster.runtime.status.engine_routes import EngineCallback, EngineRoutes
from muster.runtime.status.lora_routes import EndpointLoras, LoraRoutes
from muster.runtime.status.server import StatusServer
from muster.wire.context import Context

__all__ = ["DistributedRuntime", "Service"]

logger = logging.getLogger(__name__)


class DistributedRuntime:
    """A process's runtime.

    Make one on the event loop it will live on; use it as ``async with DistributedRuntime() as
    runtime:``, or call ``shutdown()`` at the end. SIGTERM and SIGINT shut it down in order.

    Args:
        event_loop: Accepted so that calls from Dynamo carry over; it is always the running one.
        discovery_backend: Overrides the environment (``file``, ``etcd``, ``memory``/``mem``).
        request_plane: Overrides the environment (``tcp``, ``nats``, ``loopback``).
        enable_nats: Accepted so that calls from Dynamo carry over; NATS is connected to when the
            request plane needs it.
        event_plane: As ``enable_nats``; there is no event plane.
        response_plane: As ``enable_nats``: only ``tcp`` is spoken.
        settings: All settings, instead of reading them from the environment.
        discovery: A registry to use instead of opening the configured one; it is closed with the
            runtime.
        handle_signals: Whether signals shut the runtime down.

    Attributes:
        settings: As read or given.
        discovery: The registry.
        metadata: The files the status server serves.
        metrics_root: The runtime's level of the metrics; see ``MetricsNode``.
        metrics: What ``/metrics`` shows.

    Raises:
        ConfigError: If a setting is wrong, or two do not go together.
    """

    def __init__(
        self,
        event_loop: asyncio.AbstractEventLoop | None = None,
        discovery_backend: str | None = None,
        request_plane: str | None = None,
        enable_nats: bool | None = None,
        *,
        event_plane: str | None = None,
        response_plane: str | None = None,
        settings: Settings | None = None,
        discovery: Discovery | None = None,
        handle_signals: bool = True,
    ) -> None:
        del event_loop, enable_nats, event_plane
        settings = settings_of(
            settings,
            discovery_backend=discovery_backend,
            request_plane=request_plane,
            response_plane=response_plane,
        )
        if discovery is None:
            check_reach(settings)
            discovery = open_discovery(settings.discovery, settings.etcd)
        self.settings = settings
        self.discovery = discovery
        self.metadata = MetadataArtifactRegistry()
        self.metrics = CollectorRegistry()
        self.metrics_root = MetricsNode.root(lambda: self.instance_id)
        self.metrics.register(self.metrics_root)
        self._board = HealthBoard(
            starting_ready=settings.health.starting == "ready", instance_id=discovery.instance_id
        )
        self._planes = Planes(settings)
        self._serving = Serving(
            settings, discovery, self._planes, RequestMetrics(self.metrics_root), self._board
        )
        self._calling = Calling(settings, discovery, self._planes)
        self._engine_routes = EngineRoutes(settings.system)
        self._namespaces: dict[str, Namespace] = {}
        self._lock = asyncio.Lock()
        self._started = False
        self._status: StatusServer | None = None
        self._otel: OtelExporter | None = None
        self._ending = Ending(
            [
                (Phase.DEREGISTERING, self._serving.withdraw),
                (Phase.REFUSING, self._serving.refuse),
                (Phase.DRAINING, self._serving.drain),
            ],
            self._close_all,
            begun=self._board.shut_down,
            ended=self._ended,
        )
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

    # -- the process -------------------------------------------------------------------------

    async def start(self) -> None:
        """Start what the settings ask for: the status server, tracing. Idempotent.

        It is done when needed; calling it early only finds mistakes early.

        Raises:
            ConfigError: If an address, port or other setting cannot be used.
            DiscoveryError: The runtime is shutting down.
        """
        async with self._lock:
            self._ending.check_open()
            if self._started:
                return
            for line in self.settings.system.deprecations():
                logger.warning(line)
            self._otel = self._otel or configure_otel(self.settings.tracing)
            port = self.settings.system.port
            if self._status is None and port is not None and port >= 0:
                status = StatusServer(
                    self.settings.system,
                    self.metadata,
                    self.health,
                    self.metrics,
                    metadata=self.settings.metadata,
                    engine=self._engine_routes,
                    loras=LoraRoutes(self.settings.system, EndpointLoras(self._serving.handler_of)),
                )
                await status.start()
                self._status = status
            self._started = True

    @property
    def status_url(self) -> str | None:
        """Base URL of the status server for others, or ``None`` if it does not run."""
        return self._status.base_url if self._status is not None else None

    def health(self) -> HealthReport:
        """How this process is: ready while every endpoint it serves is; see ``HealthBoard``."""
        stale = self.discovery.staleness()
        if stale is None:
            self._board.registry_fresh()
        else:
            self._board.registry_stale(stale.since, stale.reason)
        return self._board.report(SYSTEM_CLOCK.monotonic() - self._began)

    def set_health_status(self, ready: bool) -> None:
        """Say how this process is, whatever its endpoints say; see ``HealthBoard.override``."""
        self._board.override(ready)

    def register_engine_route(self, route_name: str, callback: EngineCallback) -> None:
        """Let the status server answer ``/engine/<route_name>`` by ``callback``.

        Args:
            route_name: Path below ``/engine/``.
            callback: Awaited with the request's JSON object (``{}`` if there is none); what it
                returns is the answer's JSON, what it raises a status 500.

        Raises:
            InvalidArgument: The name is empty, or the callback cannot be called.
        """
        self._engine_routes.register(route_name, callback)

    # -- serving -----------------------------------------------------------------------------

    async def serve(
        self,
        endpoint: EndpointId,
        handler: Callable[[Any, Context], Any],
        *,
        graceful: bool = True,
        metrics_labels: Sequence[tuple[str, str]] = (),
        health_check_payload: dict[str, Any] | None = None,
    ) -> Service:
        """Serve ``endpoint`` and register this process's instance of it.

        Args:
            endpoint: Its id.
            handler: Takes a request and its context; returns an async iterator of items.
            graceful: Let requests in flight finish at the end.
            metrics_labels: Further labels of its request metrics.
            health_check_payload: A request that tells whether the engine works; sent while nothing
                else is, if ``DYN_HEALTH_CHECK_ENABLED`` says so.

        Raises:
            ConflictError: This process serves it already.
            ConfigError: The configured address, port or certificates cannot be used.
            CannotConnect: The request plane is NATS, and it cannot be reached.
            DiscoveryError: The registry cannot be written, or the runtime is shutting down; nothing
                is left behind.
            InvalidArgument: A label is none.
        """
        await self.start()
        return await self._serving.serve(
            endpoint,
            handler,
            graceful=graceful,
            metrics_labels=metrics_labels,
            health_check_payload=health_check_payload,
            host=urlsplit(self.status_url).hostname if self.status_url is not None else None,
        )

    async def register_instance(self, endpoint: EndpointId) -> None:
        """Put the instance of a served endpoint into the registry.

        Raises:
            NotRegisteredError: This process does not serve it.
            DiscoveryError: The registry cannot be written.
        """
        await self._serving.register(endpoint)

    async def unregister_instance(self, endpoint: EndpointId) -> None:
        """Take the instance out of the registry; requests that still come are served.

        Raises:
            NotRegisteredError: It is not there.
            DiscoveryError: The registry cannot be written.
        """
        await self._serving.unregister(endpoint)

    # -- calling -----------------------------------------------------------------------------

    async def open_calls(self) -> None:
        """Open the ways requests go before there is a client; idempotent.

        Raises:
            MusterError: As the first client would.
        """
        self._ending.check_open()
        await self._calling.open()

    async def client_of(self, endpoint: EndpointId, mode: RouterMode) -> Client:
        """A client of ``endpoint``; see ``Endpoint.client``."""
        self._ending.check_open()
        return await self._calling.client_of(endpoint, mode)

    def known_instances(self) -> list[Instance]:
        """The instances of every endpoint this process has a client of, as last seen; sorted."""
        return self._calling.known_instances()

    # -- ending ------------------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        """Where the process is in its life."""
        return self._ending.phase

    def on_withdraw(self, withdraw: Callable[[], Awaitable[None]]) -> None:
        """Run ``withdraw`` before the instances leave the registry; its failure is logged."""
        self._ending.on_withdraw(withdraw)

    def shutdown(self) -> None:
        """Start an orderly shutdown; ``serve_endpoint`` returns when it is through. Idempotent."""
        self._ending.start()

    async def close(self) -> None:
        """Shut down in order and wait for it; idempotent."""
        await self._ending.finish()

    async def wait_closed(self) -> None:
        """Wait until the runtime has shut down, whoever started that."""
        await self._ending.wait()

    def _ended(self) -> None:
        self._serving.tell_closed()
        if self._signals is not None:
            self._signals.remove(self.close)

    async def _close_all(self) -> None:
        """Everything is closed, whatever fails; what is left in the registry goes with it."""
        if self._status is not None:
            await attempt("closing the status server", self._status.close)
        await attempt("closing the request server", self._serving.close)
        await attempt("closing connections", self._calling.close)
        await attempt("leaving NATS", self._planes.close)
        await attempt("closing the registry", self.discovery.close)
        if self._otel is not None:
            await attempt("sending the last spans", self._otel.close)
