"""Bytes of a file on their way into a socket, in constant memory and without blocking the loop.

The system moves them itself (``sendfile``), on a second descriptor of the socket: uvloop has no
``sendfile`` of its own, and does not let others wait for a socket that is its transport's. What is
not in the page cache is read in a thread first: ``sendfile`` would make the loop wait for the disk.
Files of a few megabytes are mapped and written from there, which a single client gets nearly twice as
fast as what ``sendfile`` hands over page by page; transfers of one file share its mapping.
"""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import weakref
from collections.abc import Awaitable, Callable

from muster.errors import SourceError

__all__ = ["PIECE_BYTES", "FileTransfer", "can_send_files", "read_piece"]

PIECE_BYTES = 512 * 1024
"""Bytes sent at a time, hence the memory a transfer takes where the system cannot send by itself."""

_MAPPED_BYTES = 8 * 1024 * 1024
"""Up to here a file is mapped: ``sendfile`` takes less of our time, which counts for large ones."""
_REACH_BYTES = 2 * 1024 * 1024
"""Written at a time of what is mapped."""

_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)
_CANNOT = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTSOCK})
"""What ``sendfile`` says of files and sockets it is not made for."""

_maps: weakref.WeakValueDictionary[tuple[int, ...], mmap.mmap] = weakref.WeakValueDictionary()
"""Files being sent, by device, inode, size, time of change and how much is mapped."""


class FileTransfer:
    """One part of a file and one client.

    Args:
        descriptor: Of the file; stays the caller's.
        start: First byte to send.
        stop: Where to end, exclusive.
        on_sent: Told how many bytes each piece had.
    """

    __slots__ = ("_descriptor", "_map", "_offset", "_on_sent", "_stop")

    def __init__(
        self, descriptor: int, start: int, stop: int, on_sent: Callable[[int], None]
    ) -> None:
        self._descriptor = descriptor
        self._offset = start
        self._stop = stop
        self._on_sent = on_sent
        self._map: mmap.mmap | None = None

    async def by_system(self, transport: asyncio.Transport, stall_s: float) -> bool:
        """Let the system send; ``False``, with the rest left to send, if it cannot send this file.

        Nothing may be in the transport's buffer, and nothing be written to it meanwhile; the
        transport is one that ``can_send_files``.

        Raises:
            TimeoutError: If the client does not take one piece within ``stall_s`` seconds.
            SourceError: If the file cannot be read or is too short.
            ConnectionError: If the client has gone.
        """
        try:
            out = os.dup(transport.get_extra_info("socket").fileno())
        except OSError as error:  # closed by now, or no descriptor to be had
            raise ConnectionResetError("the client has gone") from error
        try:
            self._map = _mapped(self._descriptor, self._stop)
            while self._offset < self._stop:
                async with asyncio.timeout(stall_s):
                    if not await self._send_piece(out):
                        return False
        finally:
            self._map = None
            os.close(out)
        return True

    async def by_pieces(
        self, write: Callable[[bytes], None], drained: Callable[[], Awaitable[None]]
    ) -> None:
        """Read and write piece by piece.

        Raises:
            SourceError: If the file cannot be read or is too short.
        """
        while self._offset < self._stop:
            piece = await read_piece(self._descriptor, self._offset, self._end_of_piece())
            write(piece)
            self._advance(len(piece))
            await drained()

    async def _send_piece(self, out: int) -> bool:
        """Send a piece; ``False`` if the system cannot send this file to this socket."""
        end = self._end_of_piece()
        # The socket may take more at once; within the limit of time it has to take a piece.
        reach = end if self._map is None else min(self._offset + _REACH_BYTES, self._stop)
        if not _is_cached(self._descriptor, self._offset, reach):
            await asyncio.to_thread(_read_blocking, self._descriptor, self._offset, reach)
        while self._offset < end:
            try:
                sent = self._send_some(out, reach)
            except (BlockingIOError, InterruptedError):
                await _writable(out)
                continue
            except ConnectionError:
                raise
            except OSError as error:
                if error.errno in _CANNOT:
                    return False
                raise _unreadable(self._offset, error) from error
            if not sent:
                raise _too_short(self._offset, self._stop)
            self._advance(sent)
        await asyncio.sleep(0)  # a client that never makes us wait must not keep the others waiting
        return True

    def _send_some(self, out: int, reach: int) -> int:
        if self._map is None:
            return os.sendfile(out, self._descriptor, self._offset, reach - self._offset)
        # Only the system touches the view: of a file that was cut it says so, and does not kill us.
        with memoryview(self._map) as view:
            return os.write(out, view[self._offset : reach])

    def _end_of_piece(self) -> int:
        return min(self._offset + PIECE_BYTES, self._stop)

    def _advance(self, count: int) -> None:
        self._offset += count
        self._on_sent(count)


def can_send_files(transport: asyncio.Transport) -> bool:
    """Whether what the system sends is what the client is to get: not where it is encrypted here."""
    return (
        hasattr(os, "sendfile")
        and transport.get_extra_info("socket") is not None
        and transport.get_extra_info("sslcontext") is None
    )


async def read_piece(descriptor: int, start: int, stop: int) -> bytes:
    """Bytes of a file, read here if they are cached, and in a thread otherwise.

    Raises:
        SourceError: If it cannot be read, or ends before ``stop``.
    """
    if _NOWAIT is not None and stop > start:
        data = bytearray(stop - start)
        try:
            count = os.preadv(descriptor, [data], start, _NOWAIT)
        except OSError:  # not cached, or a file system that cannot say: the blocking read decides
            count = 0
        if count == len(data):
            return bytes(data)
    return await asyncio.to_thread(_read_blocking, descriptor, start, stop)


def _mapped(descriptor: int, size: int) -> mmap.mmap | None:
    """The first ``size`` bytes of a file that is not large, if it has them and can be mapped."""
    if not 0 < size <= _MAPPED_BYTES:
        return None
    try:
        status = os.fstat(descriptor)
        key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, size)
        found = _maps.get(key)
        if found is None:
            found = _maps[key] = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
    except (OSError, ValueError):
        return None
    return found


async def _writable(descriptor: int) -> None:
    """Wait until a socket takes more."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(descriptor, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _is_cached(descriptor: int, start: int, stop: int) -> bool:
    """Whether reading a piece would not wait for the disk, as far as its two ends tell."""
    if _NOWAIT is None or start >= stop:
        return False
    byte = bytearray(1)
    try:
        return all(
            os.preadv(descriptor, [byte], offset, _NOWAIT) == 1 for offset in (start, stop - 1)
        )
    except OSError:  # not cached, or a file system that cannot say
        return False


def _read_blocking(descriptor: int, start: int, stop: int) -> bytes:
    pieces: list[bytes] = []
    offset = start
    while offset < stop:
        try:
            piece = os.pread(descriptor, stop - offset, offset)
        except OSError as error:
            raise _unreadable(offset, error) from error
        if not piece:
            raise _too_short(offset, stop)
        pieces.append(piece)
        offset += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _unreadable(offset: int, error: OSError) -> SourceError:
    return SourceError(f"cannot read on at byte {offset}: {error}")


def _too_short(offset: int, stop: int) -> SourceError:
    return SourceError(f"the file ended at byte {offset} of {stop}")
