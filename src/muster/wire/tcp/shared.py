"""Many streams on one connection, between two processes of Muster.

A response over a connection of its own costs both sides a socket, its handshake and its end, and
each of its items a system call. Here a connection carries all responses of one worker to one
caller: each is a ``SharedEnd``, a transport for the same protocols as a socket's, and what all of
them write in one wake-up of the loop leaves in one write.

A slow reader holds up nobody else: it is said to the sender of that stream alone (``PAUSE``), and
the connection is read all the time.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any, cast

from muster.wire.tcp.chunks import (
    CLOSE,
    DATA,
    OPEN,
    PAUSE,
    RESUME,
    ChunkReader,
    chunk_head,
)

__all__ = ["SharedEnd", "SharedLink"]

logger = logging.getLogger(__name__)

_PIECE_BYTES = 1 << 20
"""Most bytes of a chunk: a large item lets others pass between its pieces."""
_HIGH_WATER_BYTES = 1 << 20
_KEEPALIVE = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4))
"""A connection may be silent for long: it is kept alive on its way, and its loss is noticed."""


class SharedLink(asyncio.Protocol):
    """One end of a shared connection.

    Args:
        accept: Makes the protocol of a stream the other side opens; ``None`` if it may open none.
        on_lost: Called once, when the connection is gone.

    Attributes:
        usable: Whether new streams should be opened.
        full: Whether the connection takes no more for now.
    """

    def __init__(
        self,
        *,
        accept: Callable[[], asyncio.Protocol] | None = None,
        on_lost: Callable[[SharedLink], None] | None = None,
    ) -> None:
        self._accept = accept
        self._on_lost = on_lost
        self._reader = ChunkReader(_PIECE_BYTES)
        self._ends: dict[int, SharedEnd] = {}
        self._next = 0
        self._out: list[bytes] = []
        self._writers: list[Callable[[], None]] = []
        self._scheduled = False
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport
        self.full = False
        self.usable = True

    # -- the connection ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there; also called by who hands over one that is already in use."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        _keep_alive(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        ends = self._ends
        for kind, number, piece in self._reader.feed(data):
            end = ends.get(number)
            if end is not None:
                end.take(kind, piece)
            elif kind == OPEN:
                self._opened(number, piece)
            # Anything else is for a stream that was closed on this side meanwhile.
        if self._reader.error is not None:
            logger.warning("closed a shared connection: %s", self._reader.error)
            self.transport.abort()

    def _opened(self, number: int, piece: bytes) -> None:
        if self._accept is None:
            self.send(CLOSE, number)
            return
        protocol = self._accept()
        end = self._ends[number] = SharedEnd(self, number, protocol)
        protocol.connection_made(end)
        end.take(OPEN, piece)

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        ends, self._ends = self._ends, {}
        for end in ends.values():
            end.lost(exc)
        if self._on_lost is not None:
            self._on_lost(self)

    def pause_writing(self) -> None:
        self.full = True
        for end in [*self._ends.values()]:
            end.hold()

    def resume_writing(self) -> None:
        self.full = False
        for end in [*self._ends.values()]:
            end.go_on()

    def close(self) -> None:
        """Write what has gathered and close the connection; every stream on it is lost."""
        self._flush()
        self.transport.close()

    def abort(self) -> None:
        """Close the connection at once; every stream on it is lost."""
        self.transport.abort()

    # -- its streams -------------------------------------------------------------------------

    def open(self, protocol: asyncio.Protocol) -> None:
        """Open a stream with ``protocol`` at this end; its first write opens it at the other."""
        self._next += 1
        end = SharedEnd(self, self._next, protocol, kind=OPEN)
        self._ends[self._next] = end
        protocol.connection_made(end)

    def before_writing(self, write: Callable[[], None]) -> None:
        """Call ``write`` once, right before this wake-up's write."""
        self._writers.append(write)
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._flush)

    def send(self, kind: int, number: int, data: bytes = b"") -> None:
        """Put a chunk to what this wake-up writes."""
        self._out.append(chunk_head(kind, number, len(data)))
        if data:
            self._out.append(data)
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._flush)

    def forget(self, number: int) -> None:
        """The stream is closed on this side."""
        self._ends.pop(number, None)

    def _flush(self) -> None:
        while self._writers:
            writers, self._writers = self._writers, []
            for write in writers:
                write()
        self._scheduled = False
        out, self._out = self._out, []
        if out and not self.transport.is_closing():
            self.transport.write(b"".join(out))


class SharedEnd(asyncio.Transport):
    """One end of one stream.

    Args:
        link: What carries it.
        number: Its number there.
        protocol: Who reads and writes.
        kind: What its first write is: ``OPEN`` for who begins.
    """

    __slots__ = (
        "_closing",
        "_held",
        "_kind",
        "_link",
        "_number",
        "_paused_there",
        "_protocol",
        "_reading",
    )

    def __init__(
        self, link: SharedLink, number: int, protocol: asyncio.Protocol, *, kind: int = DATA
    ) -> None:
        super().__init__()
        self._link = link
        self._number = number
        self._protocol = protocol
        self._kind = kind
        self._closing = False
        self._reading = True
        self._paused_there = False
        self._held = False

    # -- as a transport ----------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send; dropped once the stream is closing."""
        if self._closing or not data:
            return
        if len(data) > _PIECE_BYTES:
            view = memoryview(data)
            for at in range(0, len(view), _PIECE_BYTES):
                self._link.send(self._kind, self._number, bytes(view[at : at + _PIECE_BYTES]))
                self._kind = DATA
        else:
            self._link.send(self._kind, self._number, bytes(data))
            self._kind = DATA

    def before_writing(self, write: Callable[[], None]) -> None:
        """As ``SharedLink.before_writing``."""
        self._link.before_writing(write)

    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self._closing

    def close(self) -> None:
        """Close; the other side gets what was written first."""
        if self._closing:
            return
        self._closing = True
        self._link.forget(self._number)
        if self._kind == DATA:
            self._link.send(CLOSE, self._number)
        self._link.loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        """Close because the other side does not do as it should: nothing new goes this way."""
        self._link.usable = False
        self.close()

    def pause_reading(self) -> None:
        """Have the other side send no more; what is under way still comes."""
        if self._reading and not self._closing:
            self._reading = False
            self._link.send(PAUSE, self._number)

    def resume_reading(self) -> None:
        """Have the other side send again."""
        if not self._reading and not self._closing:
            self._reading = True
            self._link.send(RESUME, self._number)

    def is_reading(self) -> bool:
        """Whether the other side may send."""
        return self._reading

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the connection that carries it."""
        return self._link.transport.get_extra_info(name, default)

    # -- as the link calls it ----------------------------------------------------------------

    def take(self, kind: int, piece: bytes) -> None:
        """A chunk has come."""
        if kind <= DATA:
            try:
                self._protocol.data_received(piece)
            except Exception as error:  # noqa: BLE001 - one stream's fault must not cost the others
                self._fail(error)
        elif kind == CLOSE:
            self._link.forget(self._number)
            self.lost(None)
        elif kind == PAUSE:
            self._paused_there = True
            self.hold()
        else:
            self._paused_there = False
            self.go_on()

    def lost(self, reason: Exception | None) -> None:
        """The other side, or the connection, is gone."""
        if not self._closing:
            self._closing = True
            self._protocol.connection_lost(reason)

    def hold(self) -> None:
        """The protocol is to write no more for now."""
        if not self._held:
            self._held = True
            self._protocol.pause_writing()

    def go_on(self) -> None:
        """It may write again, unless there is another reason why not."""
        if self._held and not self._paused_there and not self._link.full:
            self._held = False
            self._protocol.resume_writing()

    def _fail(self, error: Exception) -> None:
        message = "Fatal error: protocol.data_received() call failed."
        told = {"message": message, "exception": error, "protocol": self._protocol}
        self._link.loop.call_exception_handler(told)
        self.close()


def _keep_alive(sock: socket.socket | None) -> None:
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, seconds in _KEEPALIVE:
        option = getattr(socket, name, None)  # not everywhere
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, seconds)
