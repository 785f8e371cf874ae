"""The caller's end of responses: a listener that workers connect back to.

A subject is registered before its request is sent, because the response may arrive before the
acknowledgement.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Callable
from itertools import count
from typing import Any, TypeVar, cast

from muster.config.settings import RequestPlaneSettings
from muster.errors import CannotConnect, Disconnected, ProtocolError, TransportError
from muster.errors.error_class import ErrorClass
from muster.limits import connection_budget
from muster.wire.control import read_handshake
from muster.wire.frames import TwoPart, TwoPartReader
from muster.wire.items import ItemFrame
from muster.wire.loopback import LoopbackListener
from muster.wire.tcp.chunks import GREETING_BYTES, MAGIC, encode_greeting
from muster.wire.tcp.response_stream import ResponseStream
from muster.wire.tcp.shared import SharedLink
from muster.wire.tcp.sweep import Sweep
from muster.wire.tcp.tls import ServerTls, is_tls_record

__all__ = ["CallHome"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


class _HomeConnection(asyncio.Protocol):
    """A worker's connection back, or a stream on a shared one.

    Args:
        home: Who takes it.
        shared: Whether it is a stream on a shared connection: its first bytes hold its handshake.
    """

    __slots__ = ("_greeting", "_home", "_reader", "_shared", "_stream", "deadline", "transport")

    def __init__(self, home: CallHome, *, shared: bool = False) -> None:
        self._home = home
        self._shared = shared
        self._greeting = b""
        self._reader = TwoPartReader(home.settings.max_message_bytes)
        self._stream: ResponseStream[Any] | None = None
        self.transport: asyncio.Transport
        self.deadline = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if not self._shared:
            self._home.arrived(self)

    def data_received(self, data: bytes) -> None:
        if self._stream is not None:
            messages = self._reader.feed(data)
            if messages:
                self._stream.received(messages)
            if self._reader.error is not None:
                self._check_framing()
            return None
        return self._first_data(data)

    def _first_data(self, data: bytes) -> None:
        """What comes while it is not known which stream it is for."""
        if not self._shared:
            self._greeting += data
            if self._greeting[0] == MAGIC[0]:
                return self._greet()
            self._greeting = b""
        messages = self._reader.feed(data)
        if not messages:
            self._home.looks_wrong(data)
            return self._check_framing()
        stream = self._home.claim(messages[0])
        if stream is None:
            self.transport.close()
            return None
        self._home.sweep.discard(self)
        self._stream = stream
        stream.connected(self)
        del messages[0]
        if messages:
            stream.received(messages)
        return self._check_framing()

    def _greet(self) -> None:
        """Many responses will come this way: it is no connection of one any more."""
        if len(self._greeting) >= GREETING_BYTES:
            self._home.share(self, self._greeting)

    def _check_framing(self) -> None:
        error = self._reader.error
        if error is not None and self._stream is not None:
            self._stream.fail(error)
        if error is not None or (self._shared and self._stream is None):
            self.transport.close()

    def finish(self) -> None:
        """The stream has ended: close, sending what is written."""
        self.transport.close()

    def expire(self) -> None:
        """No handshake came in time."""
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._home.left(self)
        if self._stream is not None:
            self._stream.disconnected()


class CallHome:
    """Listens for workers' connections and gives each to the stream it is for.

    Args:
        settings: Deadlines and limits.
        sweep: Keeper of the process's deadlines.
        tls: How it listens, if with TLS.
    """

    def __init__(
        self, settings: RequestPlaneSettings, sweep: Sweep, tls: ServerTls | None = None
    ) -> None:
        self.settings = settings
        self.sweep = sweep
        self._tls = tls
        self._loopback: LoopbackListener | None = None
        self.address = ""
        self.advice = _ADVICE if tls is None else _ADVICE_TLS
        self._most = math.inf
        self.loop: asyncio.AbstractEventLoop
        self.now: Callable[[], float]
        self._server: asyncio.Server | None = None
        self._streams: dict[str, ResponseStream[Any]] = {}
        self._to_deliver: list[ResponseStream[Any]] = []
        self._connections: set[_HomeConnection] = set()
        self._links: set[SharedLink] = set()
        self._prefix = _subject_prefix()
        self._numbers = count(1)

    async def start(self, bind_host: str, advertise: Callable[[int], str]) -> None:
        """Listen on ``bind_host``; ``advertise`` makes the address of the port that was bound.

        Raises:
            CannotConnect: If the address or port cannot be used.
        """
        self._begin()
        self._most = connection_budget()
        port = self.settings.response_port or 0
        tls = {} if self._tls is None else self._tls.options()
        try:
            self._server = await self.loop.create_server(
                lambda: _HomeConnection(self), bind_host, port, backlog=4096, **tls
            )
        except (OSError, ValueError, OverflowError) as error:
            raise CannotConnect(
                f"cannot listen for responses on {bind_host}:{port}: {error}"
            ) from error
        self.address = advertise(self._server.sockets[0].getsockname()[1])

    def start_loopback(self) -> None:
        """Take connections from this process only."""
        self._begin()
        self._loopback = LoopbackListener(lambda: _HomeConnection(self))
        self.address = self._loopback.address

    def _begin(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.now = self.loop.time

    def open(self, peer: str, decode: Callable[[bytes], ItemFrame[T]]) -> ResponseStream[T]:
        """A new stream, registered under a subject of its own.

        Raises:
            TransportError: There are as many responses as this process may have connections.
        """
        if len(self._streams) + len(self._connections) >= self._most:
            raise _too_many(self._most)
        subject = f"{self._prefix}{next(self._numbers):012x}"
        stream = ResponseStream(self, subject, peer, decode)
        self._streams[subject] = stream
        self.sweep.add(stream)
        return stream

    def claim(self, message: TwoPart) -> ResponseStream[Any] | None:
        """The stream a handshake is for, once; ``None`` if nobody waits for it (any more)."""
        try:
            stream = self._streams.pop(read_handshake(message), None)
        except ProtocolError as error:
            logger.warning("a connection for responses was refused: %s", error)
            return None
        return stream

    def looks_wrong(self, data: bytes) -> None:
        """Remember if a connection begins as TLS does where we listen without."""
        if is_tls_record(data):
            self.advice = _ADVICE_PLAIN
            logger.warning("a worker connected back with TLS; this process listens without")

    def release(self, stream: ResponseStream[Any]) -> None:
        """Forget a stream that has ended."""
        self._streams.pop(stream.subject, None)
        self.sweep.discard(stream)

    def deliver_soon(self, stream: ResponseStream[Any]) -> None:
        """Have it hand over what it has once this wake-up's data is taken apart."""
        if not self._to_deliver:
            self.loop.call_soon(self._deliver)
        self._to_deliver.append(stream)

    def _deliver(self) -> None:
        streams, self._to_deliver = self._to_deliver, []
        for stream in streams:
            stream.deliver()

    def share(self, connection: _HomeConnection, greeting: bytes) -> None:
        """A connection has said that it will carry many responses; ``greeting`` and what follows."""
        self.left(connection)
        if not greeting.startswith(encode_greeting(self._prefix)):
            logger.warning(
                "a shared connection for responses was refused: it is for another caller"
            )
            connection.transport.close()
            return
        link = SharedLink(
            accept=lambda: _HomeConnection(self, shared=True), on_lost=self._links.discard
        )
        self._links.add(link)
        link.connection_made(connection.transport)
        connection.transport.set_protocol(link)
        if len(greeting) > GREETING_BYTES:
            link.data_received(greeting[GREETING_BYTES:])

    def arrived(self, connection: _HomeConnection) -> None:
        """Somebody has connected, and has a while to say for which stream."""
        self._connections.add(connection)
        connection.deadline = self.now() + self.settings.call_home_timeout_s
        self.sweep.add(connection)

    def left(self, connection: _HomeConnection) -> None:
        """A connection is closed."""
        self._connections.discard(connection)
        self.sweep.discard(connection)

    async def close(self) -> None:
        """Stop listening and end every stream that is open."""
        if self._server is not None:
            self._server.close()
        if self._loopback is not None:
            self._loopback.close()
        for stream in [*self._streams.values()]:
            stream.fail(Disconnected("this process is shutting down"))
        for link in [*self._links]:
            link.abort()
        for connection in [*self._connections]:
            connection.transport.abort()


_ADVICE = (
    "the worker must be able to reach that address; DYN_TCP_RESPONSE_STREAM_HOST sets it; if it "
    "connects with TLS only, this process must listen with TLS: DYN_TCP_TLS_CERT_PATH"
)
_ADVICE_TLS = (
    "the worker must be able to reach that address (DYN_TCP_RESPONSE_STREAM_HOST sets it), with TLS, "
    "and trust our certificate: DYN_TCP_TLS_CA_CERT_PATH there"
)
_ADVICE_PLAIN = (
    "a worker connected back with TLS, and this process listens without: DYN_TCP_TLS_CERT_PATH and "
    "DYN_TCP_TLS_KEY_PATH turn it on"
)


def _too_many(most: float) -> TransportError:
    error = TransportError(
        f"{most:g} responses are under way, as many as this process may have connections",
        hint="ulimit -n sets how many files and connections a process may have open",
    )
    error.error_class = ErrorClass.CAPACITY_EXHAUSTED
    return error


def _subject_prefix() -> str:
    """The first 24 characters of a version 4 UUID; the rest is a counter, so subjects are unique."""
    digits = os.urandom(9).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-8{digits[15:18]}-"
