"""A file as an HTTP response body, in constant memory.

Opening and reading what is not in the page cache happens in a thread; what is cached is read on the
loop where the system can promise not to block (Linux's ``RWF_NOWAIT``). Memory mapping would be no
faster and would kill the process if the file shrank.

Invariant: exactly as many bytes are sent as ``content-length`` said, or the connection is closed.
"""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Self

from aiohttp import hdrs, web

from muster.errors import SourceError

__all__ = ["PIECE_BYTES", "OpenFile", "send_file", "send_headers_of"]

PIECE_BYTES = 512 * 1024
"""Bytes read and written at a time, hence the memory a transfer takes."""

_STALL_TIMEOUT_S = 60.0
"""How long a client may take to accept one piece before its connection is closed."""

_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)


class OpenFile:
    """A regular file held open, read piece by piece into one buffer.

    Use ``open`` in a thread, and close it or use it as a context manager.
    """

    __slots__ = ("_buffer", "_fd", "_offset", "size")

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._offset = 0
        self._buffer = memoryview(bytearray(min(PIECE_BYTES, size)))
        self.size = size

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open ``path``. Its size is that of the file opened, whatever the name means later.

        Raises:
            SourceError: If it cannot be opened or is not a regular file.
        """
        try:
            # O_NONBLOCK: a FIFO in the file's place must not hold the thread for ever.
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
        except (OSError, ValueError) as error:
            raise SourceError(f"cannot open {path}: {error}") from error
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise SourceError(f"{path} is not a regular file")
        return cls(fd, status.st_size)

    @property
    def remaining(self) -> int:
        """Bytes not yet read."""
        return self.size - self._offset

    def read_blocking(self, filled: int = 0) -> memoryview:
        """Read the next piece, after ``filled`` bytes of it that are in the buffer already.

        The piece shares the buffer: it is valid until the next read. It is shorter than the buffer
        only at the end of the file.

        Raises:
            SourceError: If reading fails, or the file has become shorter than ``size``.
        """
        piece = self._buffer[: min(len(self._buffer), self.remaining)]
        while filled < len(piece):
            try:
                count = os.preadv(self._fd, [piece[filled:]], self._offset + filled)
            except OSError as error:
                raise SourceError(f"cannot read on at byte {self._offset}: {error}") from error
            if not count:
                raise SourceError(f"the file ended at byte {self._offset + filled} of {self.size}")
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


def _open_and_read(path: Path) -> tuple[OpenFile, memoryview]:
    """Both in one visit to a thread."""
    file = OpenFile.open(path)
    try:
        return file, file.read_blocking()
    except BaseException:
        file.close()
        raise


def _response(size: int) -> web.StreamResponse:
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: "application/octet-stream"})
    response.content_length = size
    return response


async def send_headers_of(request: web.BaseRequest, path: Path) -> web.StreamResponse:
    """Answer a HEAD request for the file at ``path`` without reading it.

    Raises:
        SourceError: If it cannot be opened; nothing was sent.
    """
    file = await asyncio.to_thread(OpenFile.open, path)
    file.close()
    response = _response(file.size)
    await response.prepare(request)
    return response


async def send_file(request: web.BaseRequest, path: Path) -> web.StreamResponse:
    """Answer a GET request with the file at ``path``.

    A client that accepts nothing for a minute is disconnected.

    Raises:
        SourceError: If the file cannot be opened or read at all (nothing was sent), or fails or
            ends early while it is sent (the connection was closed).
    """
    file, piece = await asyncio.to_thread(_open_and_read, path)
    with file:
        response = _response(file.size)
        await response.prepare(request)
        transport = request.transport
        if transport is not None:
            # The one buffer is read into again as soon as a write returns: pause for any byte left.
            transport.set_write_buffer_limits(high=0)
        try:
            while piece:
                async with asyncio.timeout(_STALL_TIMEOUT_S):
                    await response.write(piece)
                if not file.remaining:
                    break
                piece = await file.read()
        except (SourceError, TimeoutError) as error:
            if transport is not None:
                transport.abort()
            if isinstance(error, SourceError):
                raise
            raise SourceError(f"the client took nothing for {_STALL_TIMEOUT_S:g} s") from error
    return response
