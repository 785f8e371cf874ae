"""The ways this process takes and sends requests, opened when they are first needed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

from muster.config.settings import Settings
from muster.discovery.records import Transport, TransportType
from muster.names import EndpointId
from muster.wire.address import bind_and_advertise
from muster.wire.caller import Caller, RequestSender
from muster.wire.dispatch import Dispatcher
from muster.wire.local import LocalServer
from muster.wire.tcp.server import TcpServer
from muster.wire.tcp.tls import ClientTls, ServerTls, client_tls, server_tls

if TYPE_CHECKING:
    from muster.wire.nats.connection import NatsConnection

__all__ = ["Planes", "RequestServer"]


class RequestServer(Protocol):
    """Takes requests one way."""

    async def listen(self, endpoint: EndpointId, instance_id: int) -> tuple[Transport, str]:
        """Take requests for an endpoint's instance.

        Returns:
            What its record says of how it is reached, and its path at the dispatcher.

        Raises:
            MusterError: It cannot be done.
        """
        ...

    async def leave(self, path: str) -> None:
        """Take no more requests for that path."""
        ...

    def stop_accepting(self) -> None:
        """Take no more connections."""
        ...

    async def close(self) -> None:
        """Close everything."""
        ...


class _Tcp:
    def __init__(self, server: TcpServer, authority: str) -> None:
        self._server = server
        self._authority = authority

    async def listen(self, endpoint: EndpointId, instance_id: int) -> tuple[Transport, str]:
        path = f"{instance_id:x}/{endpoint}"
        return Transport(TransportType.TCP.value, f"{self._authority}/{path}"), path

    async def leave(self, path: str) -> None:
        """The dispatcher refuses what still comes."""

    def stop_accepting(self) -> None:
        self._server.stop_accepting()

    async def close(self) -> None:
        await self._server.close()


class _Loopback:
    def __init__(self, server: LocalServer) -> None:
        self._server = server

    async def listen(self, endpoint: EndpointId, instance_id: int) -> tuple[Transport, str]:
        path = f"{instance_id:x}/{endpoint}"
        return Transport("loopback", f"{self._server.name}/{path}"), path

    async def leave(self, path: str) -> None:
        """The dispatcher refuses what still comes."""

    def stop_accepting(self) -> None:
        """Callers are in this process: there are no connections."""

    async def close(self) -> None:
        self._server.close()


class Planes:
    """Opens what the settings name; one a process.

    Args:
        settings: All settings.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._nats: NatsConnection | None = None
        self._lock = asyncio.Lock()
        self._tls: tuple[ServerTls | None, ClientTls | None] | None = None

    @property
    def spoken(self) -> Collection[str]:
        """Kinds of transport this process can call."""
        if self._settings.request_plane.plane == "loopback":
            return ("loopback",)
        return ("tcp", "nats_tcp") if self._speaks_nats else ("tcp",)

    @property
    def _speaks_nats(self) -> bool:
        return self._settings.request_plane.plane == "nats" or bool(self._settings.nats.server)

    async def tls(self) -> tuple[ServerTls | None, ClientTls | None]:
        """How this process listens and connects, if with TLS.

        Raises:
            ConfigError: The certificates cannot be used.
        """
        async with self._lock:
            if self._tls is None:
                settings = self._settings.request_tls
                self._tls = await asyncio.to_thread(
                    lambda: (server_tls(settings), client_tls(settings))
                )
            return self._tls

    async def open_server(self, dispatcher: Dispatcher) -> RequestServer:
        """Take requests the way the settings say.

        Raises:
            ConfigError: The address, port or certificates cannot be used.
            CannotConnect: NATS cannot be reached.
        """
        plane = self._settings.request_plane
        if plane.plane == "loopback":
            return _Loopback(LocalServer(dispatcher))
        if plane.plane == "nats":
            from muster.runtime.serving.nats_plane import NatsPlane

            connection = self._nats_connection()
            await connection.client()
            return NatsPlane(connection, dispatcher)
        listen_tls, _ = await self.tls()
        addresses = await asyncio.to_thread(bind_and_advertise, plane.host)
        server = TcpServer(plane, dispatcher, listen_tls)
        return _Tcp(server, await server.start(addresses))

    async def open_caller(self) -> Caller:
        """Send requests, and listen for responses.

        Raises:
            ConfigError: The address or certificates cannot be used.
            CannotConnect: The port for responses cannot be used.
        """
        listen_tls, connect_tls = await self.tls()
        nats: RequestSender | None = None
        if self._speaks_nats:
            from muster.wire.nats.sender import NatsSender

            nats = NatsSender(self._nats_connection(), self._settings.nats)
        caller = Caller(
            self._settings.request_plane,
            listen_tls=listen_tls,
            connect_tls=connect_tls,
            nats=nats,
        )
        await caller.start()
        return caller

    def _nats_connection(self) -> NatsConnection:
        if self._nats is None:
            # Here, because its client takes a fifth of a second to import.
            from muster.wire.nats.connection import NatsConnection

            self._nats = NatsConnection(self._settings.nats)
        return self._nats

    async def close(self) -> None:
        """Disconnect from NATS, if connected."""
        if self._nats is not None:
            await self._nats.close()
