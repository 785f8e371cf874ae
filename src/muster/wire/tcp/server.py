"""The worker's end of the request plane over TCP: requests in, acknowledgements out."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from muster.config.settings import RequestPlaneSettings
from muster.errors import ConfigError
from muster.wire.address import Addresses, format_authority
from muster.wire.dispatch import Dispatcher
from muster.wire.frames import RequestReader, encode_ack
from muster.wire.tcp.tls import ServerTls, is_tls_record

__all__ = ["TcpServer"]

logger = logging.getLogger(__name__)

_BACKLOG = 4096


class _Connection(asyncio.Protocol):
    """A caller's connection; acknowledgements leave in the order of requests."""

    def __init__(self, server: TcpServer) -> None:
        self._server = server
        self._reader = RequestReader(server.max_message_bytes)
        self._heard = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        if not self._heard:
            self._heard = True
            if is_tls_record(data):
                logger.warning("closed a connection: a caller speaks TLS, this process does not")
                self._transport.close()
                return
        accept = self._server.dispatcher.accept
        acks = [
            encode_ack(accept(frame.path, frame.headers, frame.payload))
            for frame in self._reader.feed(data)
        ]
        error = self._reader.error
        if error is not None:
            acks.append(encode_ack(f"Read error: {error}".encode()))
        if acks:
            self._transport.write(b"".join(acks))
        if error is not None:
            self._transport.close()

    def close(self) -> None:
        self._transport.close()


class TcpServer:
    """Listens; what comes is the dispatcher's.

    Args:
        settings: Address and limits.
        dispatcher: Takes the requests.
        tls: How it listens, if with TLS.
    """

    def __init__(
        self,
        settings: RequestPlaneSettings,
        dispatcher: Dispatcher,
        tls: ServerTls | None = None,
    ) -> None:
        self._port = settings.port or 0
        self._tls = tls
        self._server: asyncio.Server | None = None
        self.max_message_bytes = settings.max_message_bytes
        self.dispatcher = dispatcher
        self.connections: set[_Connection] = set()

    async def start(self, addresses: Addresses) -> str:
        """Listen; returns ``host:port`` for others to connect to.

        Raises:
            ConfigError: If the address or port cannot be used.
        """
        loop = asyncio.get_running_loop()
        tls = {} if self._tls is None else self._tls.options()
        try:
            self._server = await loop.create_server(
                lambda: _Connection(self),
                addresses.bind_host,
                self._port,
                backlog=_BACKLOG,
                **tls,
            )
        except (OSError, ValueError, OverflowError) as error:
            raise ConfigError(
                f"cannot listen for requests on {addresses.bind_host}:{self._port}: {error}",
                hint="DYN_TCP_RPC_HOST and DYN_TCP_RPC_PORT set the address",
            ) from error
        port = int(self._server.sockets[0].getsockname()[1])
        return format_authority(addresses.advertise_host, port)

    def stop_accepting(self) -> None:
        """Take no more connections; those there are stay. Idempotent."""
        if self._server is not None:
            self._server.close()

    async def close(self) -> None:
        """Close every connection."""
        self.stop_accepting()
        for connection in [*self.connections]:
            connection.close()
