"""Files of this host as a source: opened once, checked, read in threads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

from muster.content.disk import CHUNK_BYTES
from muster.digest import Digest
from muster.errors import SourceError, TooLargeError
from muster.model.fetch.place import LocalPlace

__all__ = ["LocalSource"]

# O_NONBLOCK: opening a pipe must not wait for its writer
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


class LocalSource:
    """Reads regular files; links are followed, as in a model hub's cache.

    Args:
        idle_timeout_s: Limit on each read. A read that hangs (a network file system that is gone)
            is left to its thread.
    """

    def __init__(self, *, idle_timeout_s: float) -> None:
        self._idle_timeout_s = idle_timeout_s

    @contextlib.asynccontextmanager
    async def open(
        self, place: LocalPlace, *, digest: Digest, start: int = 0, cap_bytes: int
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """See ``FileSource.open``.

        Raises:
            SourceError: Missing, unreadable, not a regular file, or silent for too long.
            TooLargeError: It is larger than ``cap_bytes``.
        """
        del digest  # a file on the disk has no version to ask for
        file = _File(place.path, start, cap_bytes)
        body = self._read(file, str(place))
        try:
            yield body
        finally:
            await body.aclose()
            file.close()

    async def _read(self, file: _File, shown: str) -> AsyncGenerator[bytes, None]:
        while True:
            try:
                async with asyncio.timeout(self._idle_timeout_s):
                    chunk = await asyncio.to_thread(file.read)
            except TimeoutError as error:
                raise SourceError(
                    f"reading {shown} took longer than {self._idle_timeout_s:g} s"
                ) from error
            if not chunk:
                return
            yield chunk


class _File:
    """One open file that may be closed while a thread still reads it: then that thread closes it."""

    def __init__(self, path: Path, start: int, cap_bytes: int) -> None:
        self._path = path
        self._start = start
        self._cap_bytes = cap_bytes
        self._descriptor: int | None = None
        self._lock = threading.Lock()
        self._reading = False
        self._closed = False

    def read(self) -> bytes:
        """The next piece; empty at the end."""
        with self._lock:
            if self._closed:
                return b""
            self._reading = True
        try:
            return os.read(self._open(), CHUNK_BYTES)
        except OSError as error:
            raise SourceError(
                f"cannot read {self._path}: {error.strerror}",
                hint="mount it at the same path on this host, give its directory with "
                "--model-path, or let the worker serve its files",
            ) from error
        finally:
            self._end_read()

    def close(self) -> None:
        """Close it now, or when the read in progress returns. Does not wait."""
        with self._lock:
            self._closed = True
            if not self._reading:
                self._release()

    def _end_read(self) -> None:
        with self._lock:
            self._reading = False
            if self._closed:
                self._release()

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = os.open(self._path, _READ)
            status = os.fstat(self._descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise SourceError(f"{self._path} is not a regular file")
            if status.st_size > self._cap_bytes:
                raise TooLargeError(
                    f"{self._path} is {status.st_size} bytes, exceeds cap {self._cap_bytes}"
                )
            os.lseek(self._descriptor, self._start, os.SEEK_SET)
        return self._descriptor

    def _release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
