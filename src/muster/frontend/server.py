"""The frontend's HTTP service: listening, dispatch, errors, shutdown."""

from __future__ import annotations

import asyncio
import logging

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from muster.config.settings import HttpSettings
from muster.errors import MusterError
from muster.frontend.api_error import ApiError
from muster.frontend.health import HealthRoutes, HealthState
from muster.frontend.http.connection import HttpLimits
from muster.frontend.http.exchange import Exchange
from muster.frontend.http.server import HttpServer
from muster.frontend.metrics import FrontendMetrics
from muster.frontend.model_table import ModelTable
from muster.frontend.openai.chat import ChatApi
from muster.frontend.openai.completions import CompletionApi
from muster.frontend.openai.models import ModelRoutes
from muster.frontend.openai.route import GenerationRoute
from muster.frontend.request_id import response_id
from muster.frontend.routes import RouteTable
from muster.log import facts, set_request

__all__ = ["Frontend"]

logger = logging.getLogger(__name__)

_WHILE_DRAINING = frozenset({"/health", "/live", "/metrics", "/v1/muster/models"})
_REFUSALS = {
    400: "bad_request",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    431: "headers_too_large",
    500: "internal_error",
}


class Frontend:
    """Serves the OpenAI API over the models of a table.

    Args:
        settings: Address, limits and the time a shutdown may take.
        table: The models; may change at any time.
        registry: Where its metrics are exposed, and what ``/metrics`` shows; by default its own.
        begin_traces: Begin a trace for requests that come without one, though nothing is exported.
    """

    def __init__(
        self,
        settings: HttpSettings,
        table: ModelTable,
        *,
        registry: CollectorRegistry | None = None,
        begin_traces: bool = False,
    ) -> None:
        self._settings = settings
        self._registry = registry if registry is not None else CollectorRegistry()
        self._state = HealthState()
        self._in_flight = 0
        self._quiet = asyncio.Event()
        self._routes = self._make_routes(table, begin_traces=begin_traces)
        self._server = HttpServer(
            self._handle, self._refuse, HttpLimits(body_bytes=settings.body_limit_mb << 20)
        )

    def _make_routes(self, table: ModelTable, *, begin_traces: bool) -> RouteTable:
        metrics = FrontendMetrics(self._registry, table)
        health = HealthRoutes(table, self._state, required=self._settings.require_models)
        models = ModelRoutes(table)
        routes = RouteTable()
        chat = GenerationRoute(ChatApi(), table, metrics, begin_traces=begin_traces)
        completions = GenerationRoute(CompletionApi(), table, metrics, begin_traces=begin_traces)
        routes.add("POST", "/v1/chat/completions", chat.handle)
        routes.add("POST", "/v1/completions", completions.handle)
        routes.add("GET", "/v1/models", models.list)
        routes.add("GET", "/v1/models/*", models.one)
        routes.add("GET", "/health", health.health)
        routes.add("GET", "/live", health.live)
        routes.add("GET", "/v1/muster/models", health.models)
        routes.add("GET", "/metrics", self._metrics)
        return routes

    @property
    def port(self) -> int:
        """The port it listens on; 0 before ``start`` and after ``close``."""
        return self._server.port

    @property
    def in_flight(self) -> int:
        """Requests being answered."""
        return self._in_flight

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigError: If the address cannot be bound.
        """
        await self._server.start(self._settings.host, self._settings.port)
        logger.info("frontend listens", extra=facts(host=self._settings.host, port=self.port))

    async def drain(self) -> bool:
        """Refuse new requests (503) and wait for those in flight, as long as the settings allow.

        Probes are still answered, with ``draining``. Idempotent.

        Returns:
            Whether all requests have been answered.
        """
        self._state.draining = True
        self._server.close_idle()
        if self._in_flight:
            self._quiet.clear()
            try:
                async with asyncio.timeout(self._settings.drain_timeout_s):
                    await self._quiet.wait()
            except TimeoutError:
                logger.warning("drain timed out", extra=facts(in_flight=self._in_flight))
                return False
        return True

    async def close(self) -> None:
        """Stop at once: cancel requests in flight, close all connections. Idempotent."""
        self._state.draining = True
        await self._server.close()

    async def _handle(self, exchange: Exchange) -> None:
        exchange.request_id = response_id(exchange)
        set_request(exchange.request_id)
        self._in_flight += 1
        try:
            if self._state.draining and exchange.path not in _WHILE_DRAINING:
                exchange.close = True
                raise ApiError(503, "The service is shutting down", slug="draining")
            await self._routes.find(exchange.method, exchange.path)(exchange)
        except MusterError as error:
            self._answer_error(exchange, ApiError.from_error(error))
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._quiet.set()

    def _answer_error(self, exchange: Exchange, error: ApiError) -> None:
        if error.status >= 500:
            logger.warning(
                "request failed",
                extra=facts(
                    x_request_id=exchange.request_id,
                    path=exchange.path,
                    status=error.status,
                    code=error.slug,
                    error=error.message,
                ),
            )
        exchange.respond(error.status, error.body(), headers=error.headers)

    def _refuse(self, exchange: Exchange, status: int, message: str) -> None:
        """Answer what never became a request."""
        exchange.request_id = exchange.request_id or response_id(exchange)
        self._answer_error(exchange, ApiError(status, message, slug=_REFUSALS.get(status)))

    async def _metrics(self, exchange: Exchange) -> None:
        exchange.respond(200, generate_latest(self._registry), content_type=CONTENT_TYPE_LATEST)
