"""This process's connection to NATS; shared by its caller and its server."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Any

import nats.errors
from nats.aio.client import Client

from muster.config.settings import NatsSettings
from muster.errors import CannotConnect, ConfigError
from muster.log import facts

__all__ = ["NatsConnection"]

logger = logging.getLogger(__name__)

DEFAULT_SERVER = "nats://localhost:4222"
_DEFAULT_USER = "user"
_RECONNECT_S = 0.5
_CLOSE_S = 2.0


class NatsConnection:
    """Connects when first needed, and connects again for ever when it is lost.

    Args:
        settings: The servers and who we are.
    """

    def __init__(self, settings: NatsSettings) -> None:
        self._settings = settings
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self._told = False
        self._closing = False

    async def client(self) -> Client:
        """The connected client; one that has lost its connection for now is given too.

        Raises:
            ConfigError: A certificate or key cannot be used.
            CannotConnect: No server answers, or none lets us in.
        """
        async with self._connecting:
            if self._client is None:
                self._client = await self._connect()
            return self._client

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection at present."""
        return self._client is not None and bool(self._client.is_connected)

    @property
    def servers(self) -> str:
        """For messages."""
        return self._settings.server or DEFAULT_SERVER

    async def _connect(self) -> Client:
        options = await asyncio.to_thread(_login, self._settings)
        client = Client()
        limit = self._settings.startup_timeout_s
        try:
            async with asyncio.timeout(limit):
                await client.connect(
                    servers=[server.strip() for server in self.servers.split(",")],
                    name="muster",
                    connect_timeout=max(1, int(limit)),
                    reconnect_time_wait=_RECONNECT_S,  # type: ignore[arg-type] # it takes fractions
                    max_reconnect_attempts=-1,
                    allow_reconnect=True,
                    error_cb=self._failed,
                    disconnected_cb=self._lost,
                    reconnected_cb=self._back,
                    **options,
                )
        except (nats.errors.Error, OSError, TimeoutError, ValueError) as error:
            await _close(client)
            raise CannotConnect(
                f"cannot connect to NATS at {self.servers}: {str(error) or 'no answer'}",
                hint="NATS_SERVER and NATS_AUTH_* say where it is and who we are there",
            ) from error
        return client

    async def _failed(self, error: Exception) -> None:
        if not self._told and not isinstance(error, nats.errors.SlowConsumerError):
            self._told = True
            logger.warning("trouble with NATS", extra=facts(servers=self.servers, reason=error))

    async def _lost(self) -> None:
        if self._closing:
            return
        logger.warning("lost NATS; connecting again", extra=facts(servers=self.servers))

    async def _back(self) -> None:
        self._told = False
        logger.info("connected to NATS again", extra=facts(servers=self.servers))

    async def close(self) -> None:
        """Send what is written and disconnect; idempotent."""
        self._closing = True
        async with self._connecting:
            if self._client is not None:
                await _close(self._client)
                self._client = None


async def _close(client: Client) -> None:
    try:
        async with asyncio.timeout(_CLOSE_S):
            if client.is_connected:
                await client.flush()
            await client.close()
    except (nats.errors.Error, OSError, TimeoutError):
        logger.debug("closing the connection to NATS failed", exc_info=True)


def _login(settings: NatsSettings) -> dict[str, Any]:
    """Arguments of the client that say who we are; reads files."""
    options: dict[str, Any] = {}
    for name, path in (("user_credentials", settings.credentials), ("nkeys_seed", settings.nkey)):
        if path is not None:
            if not path.is_file():
                raise ConfigError(f"there is no file {path} to log in to NATS with")
            options[name] = str(path)
    if settings.token is not None:
        options["token"] = settings.token
    elif not options:
        options["user"] = settings.username or _DEFAULT_USER
        options["password"] = settings.password or _DEFAULT_USER
    if settings.ca or settings.insecure or settings.client_certificate:
        options["tls"] = _tls(settings)
    return options


def _tls(settings: NatsSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca)
        if settings.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if settings.client_certificate is not None:
            context.load_cert_chain(settings.client_certificate, settings.client_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the certificates for NATS cannot be used: {error}",
            hint="look at the files NATS_TLS_* name",
        ) from error
    return context
