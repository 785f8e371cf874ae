"""The HTTP server every worker has: health, metrics, metadata files, and a worker's own routes.

It decides nothing: health is asked for, everything else comes from its registry. Routes and
bodies are those of Dynamo 1.6.1's system status server, with three faults left out: ``/live`` says
whether the process lives and nothing else, health is served as JSON, and files are streamed.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import Counter
from collections.abc import Callable
from typing import Self

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from muster.config.settings import MetadataSettings, SystemSettings
from muster.errors import ConfigError
from muster.http.exchange import Exchange
from muster.http.replies import refuse_method, reply_text
from muster.http.server import HttpServer
from muster.log import facts
from muster.runtime.metadata.answers import MetadataAnswers
from muster.runtime.metadata.registry import MetadataArtifactRegistry
from muster.runtime.serving.health import HealthReport, StaleRegistry
from muster.runtime.status.engine_routes import EngineRoutes
from muster.runtime.status.lora_routes import LoraRoutes
from muster.runtime.status.request_body import TOO_LARGE, body_limits
from muster.wire.address import Addresses, bind_and_advertise, format_authority

__all__ = ["HealthReport", "StatusServer"]

logger = logging.getLogger(__name__)

_ALLOW = "GET,HEAD"
_METRICS = "/metrics"
_METADATA = "/metadata"
_NO_ROUTE = "Route not found"
_NO_METADATA = "Discovery metadata not available"
_NANOS = 1_000_000_000


class _Uptime(msgspec.Struct, frozen=True):
    secs: int
    nanos: int


class _HealthBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """The JSON body: the first three fields and their words are Dynamo's."""

    status: str
    uptime: _Uptime
    endpoints: dict[str, str]
    instance_id: str | None = None
    reasons: tuple[str, ...] = ()
    registry: StaleRegistry | None = None


def _word(ready: bool) -> str:
    return "ready" if ready else "notready"


def _body(report: HealthReport, *, live: bool = False) -> bytes:
    """The body of the readiness page, or of the liveness page, which knows no reasons."""
    secs, nanos = divmod(int(report.uptime_s * _NANOS), _NANOS)
    body = _HealthBody(
        status=_word(report.ready or live),
        uptime=_Uptime(secs, nanos),
        endpoints={name: _word(state) for name, state in report.endpoints.items()},
        instance_id=None if report.instance_id is None else f"{report.instance_id:x}",
        reasons=() if live else report.reasons,
        registry=report.registry,
    )
    return msgspec.json.encode(body)


class StatusServer:
    """Serves ``/health``, ``/live``, ``/metrics``, files, callbacks and LoRAs.

    Files: see ``MetadataAnswers``. The paths of the first two can be set.

    Args:
        settings: Where to listen and what to advertise; a port of ``None`` counts as 0.
        registry: The files to serve; read at every request.
        health: Called at every health request, on the event loop; must not block.
        metrics: What ``/metrics`` shows; the server adds its own counts while it runs.
        metadata: How files are served.
        engine: The callbacks under ``/engine``; closed with the server.
        loras: The routes of ``/v1/loras``; closed with the server.
    """

    def __init__(
        self,
        settings: SystemSettings,
        registry: MetadataArtifactRegistry,
        health: Callable[[], HealthReport],
        metrics: CollectorRegistry,
        *,
        metadata: MetadataSettings | None = None,
        engine: EngineRoutes | None = None,
        loras: LoraRoutes | None = None,
    ) -> None:
        self._settings = settings
        self._files = MetadataAnswers(registry, metadata or MetadataSettings())
        self._health = health
        self._metrics = metrics
        self._engine = engine
        self._routes = [routes for routes in (engine, loras) if routes is not None]
        self._plain: dict[str, Callable[[Exchange], None]] = {
            settings.health_path: self._get_health,
            settings.live_path: self._get_live,
            _METRICS: self._get_metrics,
            _METADATA: _get_metadata,
        }
        self._http: HttpServer | None = None
        self._addresses: Addresses | None = None
        self._port = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigError: If the host means nothing here, the port is taken or forbidden, two pages
                have the same path, or the server is turned off (port -1) or running already.
        """
        port = self._settings.port or 0
        if port < 0:
            raise ConfigError(f"the status server is turned off (port {port})")
        if self._http is not None:
            raise ConfigError("the status server is running already")
        _check_paths(self._settings)
        addresses = await asyncio.to_thread(
            bind_and_advertise, self._settings.host, advertise=self._settings.advertise_host
        )
        http = HttpServer(self._answer, self._refuse, body_limits(self._settings))
        try:
            await http.start(addresses.bind_host, port)
        except ConfigError as error:
            raise _cannot_listen(addresses.bind_host, port, error.__cause__) from error
        self._http, self._addresses, self._port = http, addresses, http.port
        self._files.register_metrics(self._metrics)
        logger.info("status server listens", extra=facts(url=self.base_url))

    async def close(self, timeout_s: float = 2.0) -> None:
        """Stop listening, cancel callbacks, and give transfers under way ``timeout_s`` seconds.

        Idempotent. A callback that does not stop is let go of after two seconds.
        """
        http, self._http, self._addresses = self._http, None, None
        if http is None:
            return
        http.stop_listening()
        for routes in self._routes:
            await routes.close()
        await http.finish(timeout_s)
        await http.close()
        self._files.unregister_metrics(self._metrics)

    @property
    def port(self) -> int:
        """The port it listens on; 0 before ``start``."""
        return self._port

    @property
    def base_url(self) -> str:
        """``http://host:port`` for others to connect to.

        Raises:
            ConfigError: If the server does not run.
        """
        if self._addresses is None:
            raise ConfigError("the status server does not run, so it has no address")
        return f"http://{format_authority(self._addresses.advertise_host, self._port)}"

    async def _answer(self, exchange: Exchange) -> None:
        path = exchange.path
        if await self._files.answer(exchange, path):
            return
        answer = self._plain.get(path)
        if answer is None:
            await self._route(exchange, path)
        elif exchange.method not in ("GET", "HEAD"):
            refuse_method(exchange, allow=_ALLOW)
        else:
            answer(exchange)

    async def _route(self, exchange: Exchange, path: str) -> None:
        for routes in self._routes:
            if await routes.answer(exchange, path):
                return
        reply_text(exchange, 404, _NO_ROUTE)

    def _refuse(self, exchange: Exchange, status: int, message: str) -> None:
        """Answer what did not arrive, or what no route could answer."""
        if self._engine is None or not self._engine.refuse(exchange, status, message):
            reply_text(exchange, status, TOO_LARGE if status == 413 else message)

    def _get_health(self, exchange: Exchange) -> None:
        report = self._health()
        exchange.respond(200 if report.ready else 503, _body(report))

    def _get_live(self, exchange: Exchange) -> None:
        exchange.respond(200, _body(self._health(), live=True))

    def _get_metrics(self, exchange: Exchange) -> None:
        encode, content_type = choose_encoder(exchange.header(b"accept"))
        exchange.respond(200, encode(self._metrics), content_type=content_type)


def _get_metadata(exchange: Exchange) -> None:
    """A page Dynamo has on Kubernetes only; elsewhere it says this."""
    reply_text(exchange, 404, _NO_METADATA)


def _check_paths(settings: SystemSettings) -> None:
    """Complain about paths that two pages have."""
    paths = Counter([settings.health_path, settings.live_path, _METRICS, _METADATA])
    path, times = paths.most_common(1)[0]
    if times > 1:
        raise ConfigError(
            f"two pages of the status server have the path {path}",
            hint="set DYN_SYSTEM_HEALTH_PATH and DYN_SYSTEM_LIVE_PATH to different paths",
        )


def _cannot_listen(host: str, port: int, error: BaseException | None) -> ConfigError:
    where = format_authority(host, port)
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return ConfigError(
            f"cannot start the status server: port {port} is in use on {host}",
            hint="stop what uses it, choose another with DYN_SYSTEM_PORT, "
            "or 0 to let the system pick one",
        )
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return ConfigError(
        f"cannot start the status server on {where}: {reason}",
        hint="choose another address with DYN_SYSTEM_HOST or another port with DYN_SYSTEM_PORT",
    )
