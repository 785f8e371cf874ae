"""The caller's connections to workers: few, shared, pipelined.

Requests are written without waiting for earlier acknowledgements; acknowledgements come in the
order of requests. Frames of one wake-up of the loop leave in one write.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import Any, cast

from muster.config.settings import RequestPlaneSettings
from muster.errors import CannotConnect, ConnectionTimeout, Disconnected, MusterError
from muster.tasks import TaskOwner
from muster.wire.frames import AckReader
from muster.wire.tcp.attempt import SharedAttempt
from muster.wire.tcp.response_stream import ResponseStream
from muster.wire.tcp.tls import CERTIFICATE_WANTED, TLS_WANTED, ClientTls, is_tls_record

__all__ = ["ConnectionPool"]

_SATURATED = 64
"""Unacknowledged requests on a connection at which another one is opened."""


class _RequestConnection(asyncio.Protocol):
    """A connection to one worker."""

    def __init__(self, peer: str, ack_limit: int, *, secure: bool) -> None:
        self._peer = peer
        self._secure = secure
        self._heard = False
        self._acks = AckReader(ack_limit)
        self._waiting: deque[ResponseStream[Any]] = deque()
        self._out: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport
        self.closed = False

    @property
    def waiting(self) -> int:
        """Requests sent and not acknowledged."""
        return len(self._waiting)

    def send(self, frame: list[bytes], stream: ResponseStream[Any]) -> None:
        """Queue a request for this wake-up's write."""
        self._waiting.append(stream)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out += frame

    def _flush(self) -> None:
        out, self._out = self._out, []
        if not self.closed:
            self.transport.write(b"".join(out))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if not self._heard:
            self._heard = True
            if is_tls_record(data) and not self._secure:
                self._abort(CannotConnect(f"{self._peer} speaks TLS", hint=TLS_WANTED))
                return
        for text in self._acks.feed(data):
            if not self._waiting:
                self._abort(Disconnected(f"{self._peer} acknowledged a request nobody sent"))
                return
            self._waiting.popleft().acknowledged(text)
        if self._acks.error is not None:
            self._abort(self._acks.error)

    def connection_lost(self, exc: Exception | None) -> None:
        detail = f": {exc}" if exc else ""
        if self._secure and not self._heard:
            # With TLS 1.3 the other side refuses a certificate after ours has taken its own.
            message = f"{self._peer} broke off TLS before it answered anything{detail}"
            self._lose(CannotConnect(message, hint=CERTIFICATE_WANTED))
        elif self._heard:
            self._lose(Disconnected(f"connection to {self._peer} lost{detail}"))
        else:
            message = f"connection to {self._peer}, without TLS, lost before any answer{detail}"
            self._lose(Disconnected(message, hint=TLS_WANTED))

    def _abort(self, error: MusterError) -> None:
        self._lose(error)
        self.transport.abort()

    def _lose(self, error: MusterError) -> None:
        self.closed = True
        waiting, self._waiting = self._waiting, deque()
        for stream in waiting:
            stream.unacknowledged(error)


class _Host:
    """The connections to one worker, and at most one more being opened."""

    __slots__ = ("connections", "opening")

    def __init__(self, tasks: TaskOwner, name: str) -> None:
        self.connections: list[_RequestConnection] = []
        self.opening: SharedAttempt[_RequestConnection] = SharedAttempt(tasks, name)


class ConnectionPool:
    """Connections by address. Lost ones are replaced when next needed.

    Args:
        settings: Deadlines and limits.
        tls: How workers that listen with TLS are checked; ``None`` for plain connections.
    """

    def __init__(self, settings: RequestPlaneSettings, tls: ClientTls | None = None) -> None:
        self._settings = settings
        self._tls = tls
        self._hosts: dict[tuple[str, int], _Host] = {}
        self._tasks = TaskOwner("connections")
        self._closed = False

    def ready(self, address: tuple[str, int]) -> _RequestConnection | None:
        """A connection that can take a request now, or ``None``: call ``connect``."""
        host = self._hosts.get(address)
        if host is None:
            return None
        best: _RequestConnection | None = None
        for connection in host.connections:
            if not connection.closed and (best is None or connection.waiting < best.waiting):
                best = connection
        if best is None:
            return None
        full = len(host.connections) >= self._settings.connections_per_host
        return best if best.waiting < _SATURATED or full else None

    async def connect(self, address: tuple[str, int]) -> _RequestConnection:
        """Open a connection; concurrent callers for one address share one attempt.

        Raises:
            CannotConnect: Nobody listens there, or it cannot be reached.
            ConnectionTimeout: No answer within the limit.
            Disconnected: The pool is closed, or was while the connection was being opened.
        """
        if self._closed:
            raise Disconnected("this process is shutting down")
        host = self._hosts.get(address)
        if host is None:
            host = self._hosts[address] = _Host(self._tasks, f"{address}")
        host.connections = [c for c in host.connections if not c.closed]
        return await host.opening.join(partial(self._open, address, host))

    async def _open(
        self, address: tuple[str, int], host: _Host
    ) -> _RequestConnection | MusterError:
        """The connection, or why there is none: every waiting request raises that for itself."""
        peer = f"{address[0]}:{address[1]}"
        limit = self._settings.connect_timeout_s
        loop = asyncio.get_running_loop()
        limits, secure = self._settings, self._tls is not None
        tls = {} if self._tls is None else self._tls.options(address[0])
        how = " with TLS" if secure else ""
        try:
            async with asyncio.timeout(limit):
                _, connection = await loop.create_connection(
                    lambda: _RequestConnection(peer, limits.max_message_bytes, secure=secure),
                    *address,
                    **tls,
                )
        except TimeoutError:
            return ConnectionTimeout(f"{peer} did not answer{how} within {limit:g} s")
        except (OSError, ValueError, OverflowError) as error:
            reason = str(error) or type(error).__name__
            return CannotConnect(f"cannot connect{how} to {peer}: {reason}")
        host.connections.append(connection)
        return connection

    async def close(self) -> None:
        """Close every connection; requests not yet acknowledged fail."""
        self._closed = True
        await self._tasks.close()
        for host in self._hosts.values():
            for connection in host.connections:
                connection.transport.close()
        self._hosts.clear()
