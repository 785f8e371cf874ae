"""One response at its caller: items in order, then a clean end or an error.

A ``ResponseStream`` goes through four phases, each with its own deadline: waiting for the
acknowledgement, for the connection back, for the prologue, and for items.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, Protocol, TypeVar

from muster.config.settings import RequestPlaneSettings
from muster.errors import Disconnected, MusterError, ProtocolError, StreamIncomplete
from muster.wire.codec import NOT_DECODABLE
from muster.wire.control import KILL, STOP, read_prologue
from muster.wire.errors import exception_from
from muster.wire.frames import TwoPart, encode_two_part
from muster.wire.items import SENTINEL, Annotated, ItemFrame
from muster.wire.span import SpanProxy
from muster.wire.tcp.phase import Phase, overdue, refusal

__all__ = ["Home", "HomeConnection", "ResponseStream"]

T = TypeVar("T")

_STOP = encode_two_part(STOP, b"")
_KILL = encode_two_part(KILL, b"")
_HIGH_WATER = 1024
"""Items waiting for a slow reader at which its connection is no longer read."""


class HomeConnection(Protocol):
    """The worker's connection back, as a stream uses it."""

    transport: asyncio.Transport

    def finish(self) -> None:
        """The stream has ended: close, sending what is written."""
        ...


class Home(Protocol):
    """Where a stream is registered; see ``CallHome``."""

    settings: RequestPlaneSettings
    address: str
    advice: str
    loop: asyncio.AbstractEventLoop
    now: Callable[[], float]

    def release(self, stream: ResponseStream[Any]) -> None:
        """Forget a stream that has ended."""
        ...

    def deliver_soon(self, stream: ResponseStream[Any]) -> None:
        """Call the stream's ``deliver`` once all that has come in this wake-up is taken apart."""
        ...


class ResponseStream(Generic[T]):
    """One response: items in order, then a clean end or an error.

    Read it with ``batch`` (everything that has arrived), by iterating (one item at a time), or with
    ``read`` (everything, handed over without waking a task each time). The error, if there is one,
    is raised after the items that came before it, and raised again by every later read.

    Attributes:
        failure: What ended the stream, if it did not end well.
        reported: Whether the worker's handler reported that failure as an item; otherwise the
            transport found it, or the request was refused.
        on_end: Called once with the stream when it has ended, for whatever reason. Must not raise.
        span: The request's span at its caller, ended with the stream; if anybody records spans.
    """

    __slots__ = (
        "_connection",
        "_decode",
        "_home",
        "_items",
        "_paused",
        "_reader",
        "_released",
        "_sent_stop",
        "_silence_s",
        "_waiter",
        "deadline",
        "failure",
        "on_end",
        "peer",
        "phase",
        "reported",
        "span",
        "subject",
    )

    def __init__(
        self, home: Home, subject: str, peer: str, decode: Callable[[bytes], ItemFrame[T]]
    ) -> None:
        self._home = home
        self._decode = decode
        self._items: list[Annotated[T]] = []
        self._waiter: asyncio.Future[bool] | None = None
        self._reader: Callable[[list[Annotated[T]]], bool] | None = None
        self._connection: HomeConnection | None = None
        self._sent_stop = False
        self._paused = False
        self._released = False
        self._silence_s = home.settings.idle_timeout_s
        self.subject = subject
        self.peer = peer
        self.failure: MusterError | None = None
        self.reported = False
        self.on_end: Callable[[ResponseStream[Any]], None] | None = None
        self.span: SpanProxy | None = None
        self.phase = Phase.ACK
        self.deadline = home.now() + home.settings.ack_timeout_s

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.phase is Phase.ENDED

    @property
    def unread(self) -> int:
        """How many items have arrived and not been read."""
        return len(self._items)

    # -- reading -----------------------------------------------------------------------------

    async def opened(self) -> None:
        """Wait until the worker runs the request (its prologue, or an item, has come).

        Raises:
            MusterError: What the worker or the transport reports instead.
        """
        while self.phase < Phase.ITEMS:
            await self._wait()
        if self.failure is not None and not self._items:
            raise self.failure

    async def batch(self) -> list[Annotated[T]]:
        """All items that have arrived and not been read, at least one; empty at the clean end.

        Raises:
            MusterError: The failure that ended the stream, after the items before it.
        """
        while not self._items:
            if self.phase is Phase.ENDED:
                if self.failure is not None:
                    raise self.failure
                return []
            await self._wait()
        return self._taken()

    async def read(self, take: Callable[[list[Annotated[T]]], bool]) -> bool:
        """Hand over what arrives, as ``batch`` would return it, until ``take`` has had enough.

        A task that waits here sleeps on while its items are handed over, between two other things
        the loop does: for whoever has hundreds of streams, waking a task is most of the cost.

        Args:
            take: Gets at least one item at a time; says whether it wants more. Must not wait, and
                may be called in another context than the caller's. What it raises ends the reading
                and is raised here.

        Returns:
            ``True`` if ``take`` has had enough: reading may go on later. ``False`` at the clean end.

        Raises:
            MusterError: As ``batch``.
        """
        while items := await self.batch():
            if not take(items):
                return True
            if self.phase is not Phase.ENDED and await self._handing_over(take):
                return True
        return False

    async def _handing_over(self, take: Callable[[list[Annotated[T]]], bool]) -> bool:
        """Let ``deliver`` call ``take``; returns whether it has had enough, else it has ended."""
        self._reader = take
        try:
            return await self._wait()
        finally:
            self._reader = None

    def deliver(self) -> None:
        """Hand what has arrived to who reads; whatever else there is to say is the task's to find."""
        reader, waiter = self._reader, self._waiter
        if reader is None or waiter is None or waiter.done():
            return
        self._waiter = None  # should it drop the stream, its own word still comes first
        try:
            wants_more = reader(self._taken())
        except Exception as error:  # noqa: BLE001 - it is raised to who reads
            if not waiter.done():
                waiter.set_exception(error)
        else:
            if wants_more and self.phase is not Phase.ENDED:
                self._waiter = waiter
            elif not waiter.done():
                waiter.set_result(not wants_more)

    def _taken(self) -> list[Annotated[T]]:
        items, self._items = self._items, []
        if self._paused:
            self._resume()
        return items

    async def __aiter__(self) -> AsyncIterator[Annotated[T]]:
        """Items one at a time. Leaving the loop early does not stop the worker: use ``kill``."""
        while items := await self.batch():
            for item in items:
                yield item

    async def _wait(self) -> bool:
        """Wait until something has happened; returns whether it is that a reader has enough."""
        self._waiter = self._home.loop.create_future()
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(False)

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

    def expect_end(self) -> None:
        """Its worker has left the registry: bear silence for a shorter time from now on."""
        settings = self._home.settings
        self._silence_s = min(self._silence_s, settings.left_stream_timeout_s)
        if self.phase >= Phase.PROLOGUE:
            self.deadline = min(self.deadline, self._home.now() + self._silence_s)

    # -- what happens to it ------------------------------------------------------------------

    def acknowledged(self, text: bytes) -> None:
        """The worker's acknowledgement has come; a refusal ends the stream."""
        if text:
            self._end(refusal(text, self.peer))
        elif self.phase is Phase.ACK:
            self.phase = Phase.CALL_HOME
            self.deadline = self._home.now() + self._home.settings.call_home_timeout_s

    def fail(self, error: MusterError) -> None:
        """End the stream with ``error``; a no-op once it has ended."""
        self._end(error)

    def unacknowledged(self, error: MusterError) -> None:
        """The connection the request went by is lost, and its acknowledgement with it.

        Ends the stream, unless the worker has connected back: then it has the request.
        """
        if self.phase is Phase.ACK:
            self._end(error)

    def connected(self, connection: HomeConnection) -> None:
        """The worker has connected back."""
        self._connection = connection
        self.phase = Phase.PROLOGUE
        self.deadline = self._home.now() + self._home.settings.prologue_timeout_s
        if self._sent_stop:
            connection.transport.write(_STOP)

    def expire(self) -> None:
        """The deadline of the present phase has passed."""
        if self.phase is Phase.ENDED:
            return
        if self._connection is not None:
            self._connection.transport.write(_KILL)
        home = self._home
        late = overdue(
            self.phase, self.peer, home.settings, silence_s=self._silence_s,
            address=home.address, advice=home.advice,
        )  # fmt: skip
        self._end(late)

    def received(self, messages: list[TwoPart]) -> None:
        """Messages after the handshake have come, in order."""
        items = self._items
        had_items = bool(items)
        try:
            for message in messages:
                body = message[1]
                if body:
                    frame = self._decode(body)
                    item = frame.data
                    if item is not None and item.failure is None:  # almost always
                        items.append(item)
                        continue
                    self._take_end(frame)
                else:
                    self._take_word(message)
                if self.phase is Phase.ENDED:
                    return
        except ProtocolError as error:
            self._end(error)
            return
        except NOT_DECODABLE as error:
            self._end(ProtocolError(f"an item from {self.peer} cannot be read: {error}"))
            return
        self.deadline = self._home.now() + self._silence_s
        if len(items) >= _HIGH_WATER and not self._paused and self._connection:
            self._paused = True
            self._connection.transport.pause_reading()
        if self._reader is None:
            self._wake()
        elif items and not had_items:
            self._home.deliver_soon(self)

    def _take_end(self, frame: ItemFrame[T]) -> None:
        """A message that carries no item: the failure of the handler, or the mark of the end."""
        item = frame.data
        if item is not None and item.failure is not None:
            self.reported = True
            self._end(exception_from(item.failure))
        elif frame.complete_final:
            self._end(None)

    def _take_word(self, message: TwoPart) -> None:
        """A message without a body: how the response begins, or that it is over."""
        if self.phase is Phase.PROLOGUE:
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
        self.failure = error
        self._home.release(self)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.finish()
        self._wake()
        if self.span is not None:
            if error is not None:
                self.span.set_status("error", error.message)
            self.span.end()
        if self.on_end is not None:
            self.on_end(self)
