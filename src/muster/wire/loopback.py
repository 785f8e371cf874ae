"""Connections within one process: an ``asyncio`` transport without a socket.

Callers and workers of one process talk through the same protocols as over TCP, byte for byte; only
what carries the bytes is a function call. Places to connect to are known by an address of the form
``loopback/<number>``.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["LoopbackListener", "connect_loopback", "is_loopback"]

P = TypeVar("P", bound=asyncio.Protocol)

_PREFIX = "loopback/"
_HIGH_WATER_BYTES = 1 << 18
_listeners: dict[str, LoopbackListener] = {}
_numbers = itertools.count(1)


def is_loopback(address: str) -> bool:
    """Whether ``address`` names a place in this process."""
    return address.startswith(_PREFIX)


class LoopbackListener:
    """A place to connect to, until it is closed.

    Args:
        make: Makes the protocol of each connection.
    """

    def __init__(self, make: Callable[[], asyncio.Protocol]) -> None:
        self.make = make
        self.address = f"{_PREFIX}{next(_numbers)}"
        _listeners[self.address] = self

    def close(self) -> None:
        """Take no more connections; idempotent."""
        _listeners.pop(self.address, None)


def connect_loopback(address: str, make: Callable[[], P]) -> P:
    """Connect to ``address`` with the protocol ``make`` gives.

    Raises:
        ConnectionRefusedError: Nobody listens there, in this process.
    """
    listener = _listeners.get(address)
    if listener is None:
        raise ConnectionRefusedError(f"nobody in this process listens on {address}")
    ours, theirs = make(), listener.make()
    there, back = _Pipe(), _Pipe()
    near, far = _End(ours, reads=back, writes=there), _End(theirs, reads=there, writes=back)
    theirs.connection_made(far)
    ours.connection_made(near)
    return ours


class _Pipe:
    """Bytes on their way in one direction.

    Attributes:
        parts: Written and not read.
        size: Bytes in them.
        closed: Whether nothing more will be written.
        on_change: Called when there is something to read, or the end to see.
        on_room: Called when everything has been read.
    """

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        self.closed = False
        self.on_change: Callable[[], None]
        self.on_room: Callable[[], None]

    def write(self, data: bytes) -> None:
        """Add data."""
        self.parts.append(data)
        self.size += len(data)
        self.on_change()

    def read(self) -> bytes:
        """Take everything."""
        data, self.parts, self.size = b"".join(self.parts), [], 0
        self.on_room()
        return data

    def close(self, *, discard: bool) -> None:
        """Write nothing more; ``discard`` drops what has not been read."""
        self.closed = True
        if discard:
            self.parts, self.size = [], 0
        self.on_change()


class _End(asyncio.Transport):
    """One end. What it writes reaches the other end's protocol in the loop's next turn."""

    def __init__(self, protocol: asyncio.Protocol, *, reads: _Pipe, writes: _Pipe) -> None:
        super().__init__()
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._in = reads
        self._out = writes
        self._reading = True
        self._scheduled = False
        self._closing = False
        self._lost = False
        self._full = False
        reads.on_change = self._schedule
        writes.on_room = self._room

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send; dropped once this end is closing."""
        if self._closing or not data:
            return
        self._out.write(bytes(data))
        if self._out.size > _HIGH_WATER_BYTES and not self._full:
            self._full = True
            self._protocol.pause_writing()

    def is_closing(self) -> bool:
        """Whether this end is closed, or about to be."""
        return self._closing

    def close(self) -> None:
        """Close; the other end gets what was written first."""
        self._close(discard=False)

    def abort(self) -> None:
        """Close; the other end gets no more."""
        self._close(discard=True)

    def pause_reading(self) -> None:
        """Take nothing until ``resume_reading``."""
        self._reading = False

    def resume_reading(self) -> None:
        """Take what has come, and what comes."""
        self._reading = True
        self._schedule()

    def is_reading(self) -> bool:
        """Whether data is taken."""
        return self._reading

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Nothing is known of a connection without a socket."""
        return default

    def _schedule(self) -> None:
        if not self._scheduled and (self._in.parts or self._in.closed):
            self._scheduled = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        if self._lost or not self._reading:
            return
        if self._in.parts and not self._closing:
            try:
                self._protocol.data_received(self._in.read())
            except Exception as error:  # noqa: BLE001 - as the loop does with a socket's protocol
                self._fail(error)
        if self._in.closed and not self._in.parts:
            self._close(discard=True)

    def _fail(self, error: Exception) -> None:
        message = "Fatal error: protocol.data_received() call failed."
        told = {"message": message, "exception": error, "protocol": self._protocol}
        self._loop.call_exception_handler(told)
        self._close(discard=True, reason=error)

    def _room(self) -> None:
        if self._full and not self._lost:
            self._full = False
            self._protocol.resume_writing()

    def _close(self, *, discard: bool, reason: Exception | None = None) -> None:
        if not self._closing:
            self._closing = True
            self._out.close(discard=discard)
            self._loop.call_soon(self._lose, reason)

    def _lose(self, reason: Exception | None) -> None:
        self._lost = True
        self._protocol.connection_lost(reason)
