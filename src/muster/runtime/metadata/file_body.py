"""Bytes of a private copy as an HTTP response body, in constant memory.

What is not in the page cache is read in a thread; what is cached is read on the loop where the
system can promise not to block (Linux's ``RWF_NOWAIT``).

Invariant: exactly as many bytes are sent as ``content-length`` said, or the connection is closed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Self

from aiohttp import web

from muster.errors import SourceError

__all__ = ["PIECE_BYTES", "OpenFile", "send_body"]

PIECE_BYTES = 512 * 1024
"""Bytes read and written at a time, hence the memory a transfer takes."""

_STALL_TIMEOUT_S = 60.0
"""How long a client may take to accept one piece before its connection is closed."""

_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)


class OpenFile:
    """Part of a file held open, read piece by piece into one buffer.

    Args:
        descriptor: Of the file; closed with this object.
        start: First byte to read.
        stop: Where to end, exclusive.
    """

    __slots__ = ("_buffer", "_fd", "_offset", "_stop")

    def __init__(self, descriptor: int, start: int, stop: int) -> None:
        self._fd = descriptor
        self._offset = start
        self._stop = stop
        self._buffer = memoryview(bytearray(min(PIECE_BYTES, stop - start)))

    @property
    def remaining(self) -> int:
        """Bytes not yet read."""
        return self._stop - self._offset

    def read_blocking(self, filled: int = 0) -> memoryview:
        """Read the next piece, after ``filled`` bytes of it that are in the buffer already.

        The piece shares the buffer: it is valid until the next read. It is shorter than the buffer
        only at the end of the file.

        Raises:
            SourceError: If reading fails, or the file is shorter than ``stop``.
        """
        piece = self._buffer[: min(len(self._buffer), self.remaining)]
        while filled < len(piece):
            try:
                count = os.preadv(self._fd, [piece[filled:]], self._offset + filled)
            except OSError as error:
                raise SourceError(f"cannot read on at byte {self._offset}: {error}") from error
            if not count:
                raise SourceError(f"the file ended at byte {self._offset + filled} of {self._stop}")
            filled += count
        self._offset += len(piece)
        return piece

    def read_cached(self) -> int:
        """Read what can be had of the next piece without waiting, and return how much that was."""
        if _NOWAIT is None:
            return 0
        piece = self._buffer[: min(len(self._buffer), self.remaining)]
        try:
            return os.preadv(self._fd, [piece], self._offset, _NOWAIT)
        except OSError:  # not cached, or a file system that cannot say: the blocking read decides
            return 0

    async def read(self) -> memoryview:
        """The next piece, read in a thread unless it is cached whole. As ``read_blocking``."""
        filled = self.read_cached()
        if filled == min(len(self._buffer), self.remaining):
            return self.read_blocking(filled)
        return await asyncio.to_thread(self.read_blocking, filled)

    def close(self) -> None:
        """Close the file; idempotent."""
        # Forgotten before it is closed: a read abandoned in a thread must not meet a reused number.
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def send_body(
    request: web.BaseRequest,
    response: web.StreamResponse,
    file: OpenFile,
    on_bytes: Callable[[int], None],
) -> None:
    """Send ``file`` as the body of ``response``, which has all its headers but is not prepared.

    The file is closed in the end. A client that accepts nothing for a minute is disconnected.

    Args:
        request: What is answered.
        response: Gets its ``content-length`` here.
        file: What to send.
        on_bytes: Told how many bytes went out, after each piece.

    Raises:
        SourceError: The file cannot be read (nothing was sent), or fails while it is sent, or the
            client stalls (the connection was closed).
    """
    with file:
        response.content_length = file.remaining
        piece = await file.read()
        await response.prepare(request)
        transport = request.transport
        if transport is not None:
            # The one buffer is read into again as soon as a write returns: pause for any byte left.
            transport.set_write_buffer_limits(high=0)
        try:
            while piece:
                async with asyncio.timeout(_STALL_TIMEOUT_S):
                    await response.write(piece)
                on_bytes(len(piece))
                if not file.remaining:
                    break
                piece = await file.read()
        except (SourceError, TimeoutError) as error:
            if transport is not None:
                transport.abort()
            if isinstance(error, SourceError):
                raise
            raise SourceError(f"the client took nothing for {_STALL_TIMEOUT_S:g} s") from error
