"""Listening, and the set of connections."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from muster.errors import ConfigError
from muster.http.connection import HttpConnection
from muster.http.counts import HttpCounts
from muster.http.handler import Handler, Knows, Refuse
from muster.http.limits import HttpLimits
from muster.tasks import TaskOwner

__all__ = ["HttpServer"]

_BACKLOG = 4096
_FLUSH_S = 1.0
"""How long a closed connection's client may take to read what was sent to it."""


class HttpServer:
    """Accepts connections and runs ``handler`` for every request on them.

    Args:
        handler: Answers requests.
        refuse: Answers what is malformed, too large or too slow.
        limits: Bounds on requests.
        knows: Whether more than a small body is read of a request with this head; all, if left out.

    Attributes:
        counts: What has happened to its connections.
    """

    def __init__(
        self, handler: Handler, refuse: Refuse, limits: HttpLimits, *, knows: Knows | None = None
    ) -> None:
        self._handler = handler
        self._refuse = refuse
        self._limits = limits
        self._knows = knows
        self.counts = HttpCounts()
        self._connections: set[HttpConnection] = set()
        self._all_gone = asyncio.Event()
        self._tasks = TaskOwner("http")
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port it listens on; 0 if it does not."""
        if self._server is None or not self._server.sockets:
            return 0
        return int(self._server.sockets[0].getsockname()[1])

    async def start(
        self, host: str, port: int, *, options: Mapping[str, Any] | None = None
    ) -> None:
        """Listen.

        Args:
            host: Address to bind to.
            port: Port; 0 lets the system pick.
            options: Further arguments for the event loop's ``create_server``, such as ``ssl``.

        Raises:
            ConfigError: If the address cannot be bound; says why.
        """
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                self._connect, host, port, backlog=_BACKLOG, **(options or {})
            )
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"cannot listen on {host} port {port}: {error}",
                hint="another process may have the port; choose one with --http-port",
            ) from error

    def stop_listening(self) -> None:
        """Accept nothing more; connections that are there stay."""
        if self._server is not None:
            self._server.close()

    def close_idle(self) -> None:
        """Close connections without a request, and the others after their response."""
        for connection in list(self._connections):
            connection.close_when_idle()

    async def finish(self, timeout_s: float) -> bool:
        """Close as ``close_idle`` does, and wait at most that long for all connections to be gone.

        Returns:
            Whether none is left.
        """
        self.close_idle()
        try:
            async with asyncio.timeout(timeout_s):
                while self._connections:
                    await self._all_gone.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Stop listening, cancel what is being handled, close every connection. Idempotent.

        What has been written is still sent, to clients that read it at once.
        """
        self.stop_listening()
        await self._tasks.close()
        for connection in list(self._connections):
            connection.close()
        if self._connections:
            asyncio.get_running_loop().call_later(_FLUSH_S, self._abort)
            await self._all_gone.wait()
        self._server = None

    def _abort(self) -> None:
        for connection in list(self._connections):
            connection.abort()

    def _connect(self) -> HttpConnection:
        return HttpConnection(
            self._handler,
            self._refuse,
            self._limits,
            opened=self._opened,
            closed=self._closed,
            knows=self._knows,
            counts=self.counts,
        )

    def _opened(self, connection: HttpConnection) -> asyncio.Task[None]:
        self._connections.add(connection)
        self._all_gone.clear()
        return self._tasks.launch(connection.serve(), name="connection")

    def _closed(self, connection: HttpConnection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._all_gone.set()
