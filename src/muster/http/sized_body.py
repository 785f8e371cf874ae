"""The body of a response whose length its head has announced.

Invariant: exactly as many bytes are sent as were announced, or the connection is cut: an exchange
counts as finished only once all of them are on their way.
"""

from __future__ import annotations

from collections.abc import Callable

from muster.http.sink import ResponseSink

__all__ = ["SizedBody"]


class SizedBody:
    """Sends a body in parts; ``Exchange.start_sized`` makes it.

    Args:
        sink: Where the parts go.
        length: Bytes announced and not yet sent.
        finish: Called once all have been sent.
    """

    __slots__ = ("_finish", "_left", "_sink")

    def __init__(self, sink: ResponseSink, length: int, finish: Callable[[], None]) -> None:
        self._sink = sink
        self._left = length
        self._finish = finish
        if not length:
            finish()

    @property
    def left(self) -> int:
        """Bytes that are still to be sent."""
        return self._left

    async def write(self, data: bytes) -> None:
        """Send a part, and wait while the client is too far behind.

        Raises:
            ValueError: If that is more than was announced; nothing is sent.
            SlowReaderError: If the client takes next to nothing for too long; it is cut off.
        """
        self._check(len(data))
        self._sink.send(data)
        self._take(len(data))
        if self._sink.congested:
            await self._sink.drained()

    async def send_file(
        self,
        descriptor: int,
        start: int,
        stop: int,
        *,
        on_sent: Callable[[int], None] | None = None,
    ) -> None:
        """Send bytes ``start`` to ``stop`` (exclusive) of a file, in memory that does not grow.

        The descriptor stays the caller's, open and its position unmoved. What is not in the page
        cache is read in a thread. If this raises, the connection is cut with the exchange's end.

        Args:
            descriptor: Of a regular file.
            start: First byte.
            stop: Where to end.
            on_sent: Told how many bytes have been handed to the system, after each piece.

        Raises:
            ValueError: If that is more than was announced; nothing is sent.
            SourceError: If the file cannot be read or ends before ``stop``.
            ConnectionError: If the client has gone.
            SlowReaderError: If the client takes next to nothing for too long; it is cut off.
        """
        self._check(stop - start)
        if stop > start:
            await self._sink.send_file(descriptor, start, stop, on_sent or _ignore)
            self._take(stop - start)

    def _check(self, size: int) -> None:
        if size > self._left:
            raise ValueError(f"{size} bytes are more than the {self._left} left of the body")

    def _take(self, size: int) -> None:
        self._left -= size
        if not self._left:
            self._finish()


def _ignore(_: int) -> None:
    """Nobody counts."""
