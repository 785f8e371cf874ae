"""The caller's end of responses: a listener that workers connect back to.

A subject is registered before its request is sent, because the response may arrive before the
acknowledgement. A ``ResponseStream`` goes through four phases, each with its own deadline: waiting
for the acknowledgement, for the connection back, for the prologue, and for items.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import os
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import Any, Generic, TypeVar, cast

import msgspec

from muster.config.settings import RequestPlaneSettings
from muster.errors import (
    CannotConnect,
    ConnectionTimeout,
    Disconnected,
    MusterError,
    Overloaded,
    ProtocolError,
    ResponseTimeout,
    StreamIncomplete,
    WorkerUnavailable,
)
from muster.wire.control import (
    ACK_OVERLOADED,
    ACK_UNAVAILABLE,
    KILL,
    SENTINEL,
    STOP,
    Annotated,
    ItemFrame,
    read_handshake,
    read_prologue,
)
from muster.wire.errors import exception_from
from muster.wire.frames import TwoPart, TwoPartReader, encode_two_part
from muster.wire.tcp.sweep import Sweep

__all__ = ["CallHome", "ResponseStream"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_STOP = encode_two_part(STOP, b"")
_KILL = encode_two_part(KILL, b"")
_HIGH_WATER = 1024
"""Items waiting for a slow reader at which its connection is no longer read."""


class Phase(enum.IntEnum):
    """What a response stream waits for."""

    ACK = 0
    CALL_HOME = 1
    PROLOGUE = 2
    ITEMS = 3
    ENDED = 4


class ResponseStream(Generic[T]):
    """One response: items in order, then a clean end or an error.

    Read it either with ``batch`` (everything that has arrived, for speed) or by iterating (one item
    at a time). The error, if there is one, is raised after the items that came before it, and
    raised again by every later read.
    """

    __slots__ = (
        "_connection",
        "_decode",
        "_error",
        "_home",
        "_items",
        "_paused",
        "_released",
        "_sent_stop",
        "_waiter",
        "deadline",
        "peer",
        "phase",
        "subject",
    )

    def __init__(
        self, home: CallHome, subject: str, peer: str, decode: Callable[[bytes], ItemFrame[T]]
    ) -> None:
        self._home = home
        self._decode = decode
        self._items: list[Annotated[T]] = []
        self._error: MusterError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._connection: _HomeConnection | None = None
        self._sent_stop = False
        self._paused = False
        self._released = False
        self.subject = subject
        self.peer = peer
        self.phase = Phase.ACK
        self.deadline = home.now() + home.settings.ack_timeout_s

    # -- reading -----------------------------------------------------------------------------

    async def opened(self) -> None:
        """Wait until the worker runs the request (its prologue, or an item, has come).

        Raises:
            MusterError: What the worker or the transport reports instead.
        """
        while self.phase < Phase.ITEMS:
            await self._wait()
        if self._error is not None and not self._items:
            raise self._error

    async def batch(self) -> list[Annotated[T]]:
        """All items that have arrived and not been read, at least one; empty at the clean end.

        Raises:
            MusterError: The failure that ended the stream, after the items before it.
        """
        while not self._items:
            if self.phase is Phase.ENDED:
                if self._error is not None:
                    raise self._error
                return []
            await self._wait()
        items, self._items = self._items, []
        if self._paused:
            self._resume()
        return items

    async def __aiter__(self) -> AsyncIterator[Annotated[T]]:
        """Items one at a time. Leaving the loop early does not stop the worker: use ``kill``."""
        while items := await self.batch():
            for item in items:
                yield item

    async def _wait(self) -> None:
        self._waiter = self._home.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _resume(self) -> None:
        self._paused = False
        if self._connection is not None:
            self._connection.transport.resume_reading()

    # -- stopping ----------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask the worker for an early, orderly end; what it still sends can be read."""
        if self.phase is not Phase.ENDED and not self._sent_stop:
            self._sent_stop = True
            if self._connection is not None:
                self._connection.transport.write(_STOP)

    def kill(self) -> None:
        """Drop the response: the worker is told and the connection closed. Idempotent."""
        if self.phase is Phase.ENDED:
            return
        self._sent_stop = True
        if self._connection is not None:
            self._connection.transport.write(_KILL)
        self._end(None)

    # -- what happens to it ------------------------------------------------------------------

    def acknowledged(self, text: bytes) -> None:
        """The worker's acknowledgement has come; a refusal ends the stream."""
        if text:
            self._end(_refusal(text, self.peer))
        elif self.phase is Phase.ACK:
            self.phase = Phase.CALL_HOME
            self.deadline = self._home.now() + self._home.settings.call_home_timeout_s

    def fail(self, error: MusterError) -> None:
        """End the stream with ``error``; a no-op once it has ended."""
        self._end(error)

    def connected(self, connection: _HomeConnection) -> None:
        """The worker has connected back."""
        self._connection = connection
        self.phase = Phase.PROLOGUE
        self.deadline = self._home.now() + self._home.settings.prologue_timeout_s
        if self._sent_stop:
            connection.transport.write(_STOP)

    def expire(self) -> None:
        """The deadline of the present phase has passed."""
        limits = self._home.settings
        errors: dict[Phase, MusterError] = {
            Phase.ACK: ConnectionTimeout(
                f"no acknowledgement from {self.peer} within {limits.ack_timeout_s:g} s",
                hint="the worker is overloaded or stopped; DYN_TCP_REQUEST_TIMEOUT sets the limit",
            ),
            Phase.CALL_HOME: ConnectionTimeout(
                f"{self.peer} accepted the request but did not connect back to "
                f"{self._home.address} within {limits.call_home_timeout_s:g} s",
                hint="the worker must be able to reach that address; "
                "DYN_TCP_RESPONSE_STREAM_HOST sets it",
            ),
            Phase.PROLOGUE: ResponseTimeout(
                f"{self.peer} connected back but did not start the response within "
                f"{limits.prologue_timeout_s:g} s"
            ),
            Phase.ITEMS: ResponseTimeout(
                f"nothing came from {self.peer} for {limits.idle_timeout_s:g} s",
                hint="DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS sets the limit",
            ),
        }
        if self.phase in errors:
            if self._connection is not None:
                self._connection.transport.write(_KILL)
            self._end(errors[self.phase])

    def received(self, messages: list[TwoPart]) -> None:
        """Messages after the handshake have come, in order."""
        try:
            for message in messages:
                self._take(message)
                if self.phase is Phase.ENDED:
                    return
        except ProtocolError as error:
            self._end(error)
            return
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._end(ProtocolError(f"an item from {self.peer} cannot be read: {error}"))
            return
        self.deadline = self._home.now() + self._home.settings.idle_timeout_s
        if len(self._items) >= _HIGH_WATER and not self._paused and self._connection:
            self._paused = True
            self._connection.transport.pause_reading()
        self._wake()

    def _take(self, message: TwoPart) -> None:
        if message.body:
            frame = self._decode(message.body)
            item = frame.data
            if item is not None:
                self._items.append(item)
                if item.failure is not None:
                    self._items.pop()
                    self._end(exception_from(item.failure))
            elif frame.complete_final:
                self._end(None)
        elif self.phase is Phase.PROLOGUE:
            failure = read_prologue(message)
            if failure is not None:
                self._end(exception_from(failure))
            self.phase = max(self.phase, Phase.ITEMS)
        elif message.header == SENTINEL:
            self._end(StreamIncomplete(f"{self.peer} ended the response without its final frame"))

    def disconnected(self) -> None:
        """The connection is closed, by either side."""
        self._connection = None
        if self.phase is Phase.ENDED:
            return
        if self._sent_stop:
            self._end(None)
        else:
            self._end(
                Disconnected(
                    f"Stream ended before generation completed (connection to {self.peer} lost)"
                )
            )

    def _end(self, error: MusterError | None) -> None:
        if self.phase is Phase.ENDED:
            return
        self.phase = Phase.ENDED
        self._error = error
        self._home.release(self)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.finish()
        self._wake()


def _refusal(text: bytes, peer: str) -> MusterError:
    """The error a refusing acknowledgement means."""
    reason = text.decode("utf-8", "replace")
    if reason.startswith(ACK_UNAVAILABLE):
        return WorkerUnavailable(f"{reason} (from {peer})")
    if reason.startswith(ACK_OVERLOADED.partition(":")[0]):
        return Overloaded(f"{reason} (from {peer})")
    return ProtocolError(f"{peer} refused the request: {reason}")


class _HomeConnection(asyncio.Protocol):
    """A worker's connection back."""

    __slots__ = ("_home", "_reader", "_stream", "deadline", "transport")

    def __init__(self, home: CallHome) -> None:
        self._home = home
        self._reader = TwoPartReader(home.settings.max_message_bytes)
        self._stream: ResponseStream[Any] | None = None
        self.transport: asyncio.Transport
        self.deadline = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._home.arrived(self)

    def data_received(self, data: bytes) -> None:
        messages = self._reader.feed(data)
        if self._stream is None:
            if not messages:
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
            self._stream.received(messages)
        return self._check_framing()

    def _check_framing(self) -> None:
        if self._reader.error is not None:
            if self._stream is not None:
                self._stream.fail(self._reader.error)
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
    """

    def __init__(self, settings: RequestPlaneSettings, sweep: Sweep) -> None:
        self.settings = settings
        self.sweep = sweep
        self.address = ""
        self.loop: asyncio.AbstractEventLoop
        self.now: Callable[[], float]
        self._server: asyncio.Server | None = None
        self._streams: dict[str, ResponseStream[Any]] = {}
        self._connections: set[_HomeConnection] = set()
        self._prefix = _subject_prefix()
        self._numbers = count(1)

    async def start(self, bind_host: str, advertise: Callable[[int], str]) -> None:
        """Listen on ``bind_host``; ``advertise`` makes the address of the port that was bound.

        Raises:
            CannotConnect: If the address or port cannot be used.
        """
        self.loop = asyncio.get_running_loop()
        self.now = self.loop.time
        port = self.settings.response_port or 0
        try:
            self._server = await self.loop.create_server(
                lambda: _HomeConnection(self), bind_host, port, backlog=4096
            )
        except OSError as error:
            raise CannotConnect(
                f"cannot listen for responses on {bind_host}:{port}: {error}"
            ) from error
        self.address = advertise(self._server.sockets[0].getsockname()[1])

    def open(self, peer: str, decode: Callable[[bytes], ItemFrame[T]]) -> ResponseStream[T]:
        """A new stream, registered under a subject of its own."""
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

    def release(self, stream: ResponseStream[Any]) -> None:
        """Forget a stream that has ended."""
        self._streams.pop(stream.subject, None)
        self.sweep.discard(stream)

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
        for stream in [*self._streams.values()]:
            stream.fail(Disconnected("this process is shutting down"))
        for connection in [*self._connections]:
            connection.transport.abort()


def _subject_prefix() -> str:
    """The first 24 characters of a version 4 UUID; the rest is a counter, so subjects are unique."""
    digits = os.urandom(9).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-8{digits[15:18]}-"
