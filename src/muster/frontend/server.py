"""The frontend's HTTP service: listening, dispatch, shutdown."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Iterator

from prometheus_client import CollectorRegistry

from muster.config.guard import GuardSettings
from muster.config.settings import HttpSettings
from muster.errors import MusterError
from muster.frontend.api_error import ApiError
from muster.frontend.dashboard.live import Live
from muster.frontend.dashboard.sources import LiveSources
from muster.frontend.error_answers import answer_error, refuse
from muster.frontend.guard.admission import Admission
from muster.frontend.guard.door import Door
from muster.frontend.guard.guard import Guard
from muster.frontend.health import HealthRoutes, HealthState
from muster.frontend.limit_metrics import LimitMetrics
from muster.frontend.long_work import LongWork
from muster.frontend.metrics import FrontendMetrics
from muster.frontend.model_table import ModelTable
from muster.frontend.processes.siblings import Siblings
from muster.frontend.request_id import response_id
from muster.frontend.request_log import RequestLine
from muster.frontend.service_routes import service_routes
from muster.http.exchange import Exchange
from muster.http.limits import HttpLimits
from muster.http.server import HttpServer
from muster.log import facts, set_request

__all__ = ["Frontend"]

logger = logging.getLogger(__name__)

_WHILE_DRAINING = frozenset({"/health", "/live", "/metrics", "/v1/muster/models"})
_HANDOVER_S = 0.5
"""How long a process that leaves its port to others answers requests on new connections."""


class Frontend:
    """Serves the OpenAI API over the models of a table.

    Args:
        settings: Address, limits and the time a shutdown may take.
        table: The models; may change at any time.
        registry: Where its metrics are exposed, and what ``/metrics`` shows; by default its own.
        begin_traces: Begin a trace for requests that come without one, though nothing is exported.
        sources: What the dashboard shows besides the models of the table.
        guard: What protects it; by default nothing but limits on slow clients.
        admission: What stands before the models' workers, for ``/busy_threshold``.
        siblings: The other processes, where several share the port and answer as one.
        work: The threads of long requests; by default its own. Closed with it.
    """

    def __init__(
        self,
        settings: HttpSettings,
        table: ModelTable,
        *,
        registry: CollectorRegistry | None = None,
        begin_traces: bool = False,
        sources: LiveSources | None = None,
        guard: GuardSettings | None = None,
        admission: Admission | None = None,
        siblings: Siblings | None = None,
        work: LongWork | None = None,
    ) -> None:
        self._settings = settings
        admission = admission if admission is not None else Admission(GuardSettings())
        self._guard_settings = guard = guard if guard is not None else GuardSettings()
        registry = registry if registry is not None else CollectorRegistry()
        self._siblings = siblings
        self._state = HealthState()
        self._in_flight = 0
        self._quiet = asyncio.Event()
        metrics = FrontendMetrics(registry, table)
        registry.register(LimitMetrics(table))
        required = tuple(settings.require_models)
        sources = sources if sources is not None else LiveSources()
        self._live = Live(
            table, metrics, self._state, required=required, sources=sources, siblings=siblings
        )
        health = HealthRoutes(
            table,
            self._state,
            required=required,
            others=siblings.verdicts if siblings is not None else None,
            processes=siblings.reports if siblings is not None else None,
        )
        if siblings is not None:
            siblings.attach(
                metrics=metrics,
                registry=registry,
                admission=admission,
                verdict=health.verdict,
                served=lambda: [name for name, _ in table.names()],
                events=sources.events,
            )
        self._work = work if work is not None else LongWork()
        self._routes = service_routes(
            settings,
            table,
            metrics,
            registry,
            self._work,
            strict_parameters=guard.strict_parameters,
            begin_traces=begin_traces,
            health=health,
            live=self._live,
            admission=admission,
            shows=self._shows,
            siblings=siblings,
        )
        self._guard = Guard(guard, registry, siblings.limiter if siblings is not None else None)
        self._door = self._guard.door
        limits = HttpLimits(
            body_bytes=settings.body_limit_mb << 20,
            request_s=guard.request_timeout_s,
            body_bytes_per_s=guard.body_bytes_per_s,
            write_s=guard.write_timeout_s,
        )
        knows = self._door.knows if self._door is not None else None
        self._server = HttpServer(self._handle, refuse, limits, knows=knows)
        registry.register(self._server.counts)
        self._admin_server: HttpServer | None = None
        if self._guard.admin_door is not None:
            handle = functools.partial(self._handle, admin_door=self._guard.admin_door)
            self._admin_server = HttpServer(handle, refuse, limits)
            self._admin_server.counts = self._server.counts  # both ports are one service

    @property
    def port(self) -> int:
        """The port it listens on; 0 before ``start`` and after ``close``."""
        return self._server.port

    @property
    def admin_port(self) -> int:
        """The port of the admin routes; 0 if they are on the service's own or it does not listen."""
        return self._admin_server.port if self._admin_server is not None else 0

    @property
    def in_flight(self) -> int:
        """Requests being answered."""
        return self._in_flight

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigError: If an address cannot be bound, or a file of keys or certificates not used.
        """
        options = await self._guard.start()
        shared = {} if self._siblings is None else {"reuse_port": True}
        await self._server.start(self._settings.host, self._settings.port, options=options | shared)
        if self._admin_server is not None:
            guard = self._guard_settings
            await self._admin_server.start(guard.admin_host, guard.admin_port or 0, options=shared)
        self._live.start()
        logger.info("frontend listens", extra=facts(host=self._settings.host, port=self.port))

    async def drain(self) -> bool:
        """Refuse new requests (503) and wait for those in flight, as long as the settings allow.

        It listens for some seconds more, so that who comes is told to try elsewhere. One process of
        several that ends alone does not, for others take its place; what has just connected to it
        is answered first. Probes are still answered, with ``draining``. Idempotent.

        Returns:
            Whether all requests have been answered.
        """
        is_alone = self._siblings is not None and not self._siblings.all_drain
        if is_alone:
            self.stop_listening()
            await asyncio.sleep(_HANDOVER_S)
        self._state.draining = True
        self._live.end()
        if is_alone:
            self._leave()
        if not self._in_flight:
            return True
        self._quiet.clear()
        settings = self._settings
        logger.info(
            "responses in flight are finished",
            extra=facts(in_flight=self._in_flight, budget_s=settings.drain_timeout_s),
        )
        leaving = asyncio.get_running_loop().call_later(settings.refusing_s, self._leave)
        try:
            async with asyncio.timeout(settings.drain_timeout_s):
                await self._quiet.wait()
        except TimeoutError:
            logger.warning(
                "responses in flight were cut off",
                extra=facts(in_flight=self._in_flight, budget_s=settings.drain_timeout_s),
            )
            return False
        finally:
            leaving.cancel()
        return True

    def _leave(self) -> None:
        """Keep those connections only that a response is on its way on."""
        self.stop_listening()
        for server in self._servers():
            server.close_idle()

    def stop_listening(self) -> None:
        """Leave new connections to others; those that are there stay. Idempotent."""
        for server in self._servers():
            server.stop_listening()

    async def close(self) -> None:
        """Stop at once: cancel requests in flight, close all connections. Idempotent."""
        self._state.draining = True
        await self._live.close()
        for server in self._servers():
            await server.close()
        await self._guard.close()
        self._work.close()

    def _shows(self, path: str) -> bool:
        """Whether the service's own port answers this path."""
        return self._door is None or self._door.shows(path)

    def _servers(self) -> Iterator[HttpServer]:
        yield self._server
        if self._admin_server is not None:
            yield self._admin_server

    async def _handle(self, exchange: Exchange, admin_door: Door | None = None) -> None:
        exchange.request_id = response_id(exchange)
        set_request(exchange.request_id)
        self._in_flight += 1
        with RequestLine(exchange):
            await self._handle_open(exchange, admin_door or self._door)

    async def _handle_open(self, exchange: Exchange, door: Door | None) -> None:
        """Answer a request that has been counted in."""
        try:
            if self._state.draining and exchange.path not in _WHILE_DRAINING:
                exchange.close = True
                raise ApiError(503, "The service is shutting down", slug="draining")
            if door is None:
                await self._routes.find(exchange.method, exchange.path)(exchange)
            else:
                await door.handle(exchange, self._routes.find)
        except MusterError as error:
            answer_error(exchange, ApiError.from_error(error))
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._quiet.set()
