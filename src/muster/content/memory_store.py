"""Verified bytes in memory, for when no disk takes them: one file of memory a blob.

The paths it gives work for whoever opens them in this process, and only there; they end with the
store. Where the system has no files of memory, blobs are kept in a private temporary directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Final

from muster.content.disk import store_errors, write_all
from muster.content.promise import Promise
from muster.digest import Digest
from muster.errors import StoreError

__all__ = ["HAS_MEMORY_FILES", "MemoryStore", "StagedMemory"]

HAS_MEMORY_FILES: Final = hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir()
"""Whether this system has files of memory, and paths to them."""

_DOING = "cannot keep a blob in memory"


class MemoryStore:
    """Blobs by digest in files of memory. Any thread; ``close`` lets go of them all.

    Args:
        memory_files: Whether to use files of memory, else a temporary directory.
    """

    def __init__(self, *, memory_files: bool = HAS_MEMORY_FILES) -> None:
        self._memory_files = memory_files
        self._lock = threading.Lock()
        self._blobs: dict[Digest, _Held] = {}
        self._directory: Path | None = None
        self._closed = False

    def find(self, digest: Digest) -> Path | None:
        """A path to the blob's bytes, or ``None``."""
        with self._lock:
            held = self._blobs.get(digest)
            return None if held is None else held.path

    def stage(self, digest: Digest, *, cap_bytes: int, source: str) -> StagedMemory:
        """Start to put a blob here; see ``Store.stage``."""
        return StagedMemory(self, Promise(digest, cap_bytes=cap_bytes, source=source))

    def close(self) -> None:
        """Forget every blob; paths given out mean nothing any more. Idempotent."""
        with self._lock:
            blobs, self._blobs = self._blobs, {}
            directory, self._directory = self._directory, None
            self._closed = True
        for held in blobs.values():
            held.close()
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)

    def new_file(self) -> _Held:
        """An empty file to write a blob to; for ``StagedMemory``.

        Raises:
            StoreError: There is none, or the store is closed.
        """
        with store_errors(_DOING):
            if self._memory_files:
                flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
                descriptor = os.memfd_create("muster-blob", flags)
                return _Held(descriptor, Path(f"/proc/self/fd/{descriptor}"), is_named=False)
            with self._lock:
                self._require_open()
                if self._directory is None:
                    self._directory = Path(tempfile.mkdtemp(prefix="muster-blobs-"))
                descriptor, name = tempfile.mkstemp(dir=self._directory)
            return _Held(descriptor, Path(name), is_named=True)

    def keep(self, digest: Digest, file: _Held) -> Path:
        """Take over ``file``, which holds the blob's bytes; for ``StagedMemory``.

        Raises:
            StoreError: The store is closed; ``file`` is then, too.
        """
        with self._lock:
            if self._closed or digest in self._blobs:
                file.close()
                self._require_open()
            else:
                self._blobs[digest] = file
            return self._blobs[digest].path

    def _require_open(self) -> None:
        if self._closed:
            raise StoreError(f"{_DOING}: the store is closed")


class _Held:
    """An open file that holds, or will hold, a blob."""

    def __init__(self, descriptor: int, path: Path, *, is_named: bool) -> None:
        self.descriptor = descriptor
        self.path = path
        self._is_named = is_named

    def seal(self) -> None:
        """Let nobody write it any more."""
        os.fchmod(self.descriptor, 0o444)
        if not self._is_named:
            seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, seals | fcntl.F_SEAL_SEAL)

    def close(self) -> None:
        """Let go of it."""
        os.close(self.descriptor)
        if self._is_named:
            with contextlib.suppress(OSError):
                self.path.unlink()


class StagedMemory:
    """One attempt to put one blob into a ``MemoryStore``; see ``Staged``."""

    def __init__(self, store: MemoryStore, promise: Promise) -> None:
        self._store = store
        self._promise = promise
        self._file: _Held | None = None
        self._ended = False

    def __enter__(self) -> StagedMemory:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.discard()

    @property
    def size_bytes(self) -> int:
        """Bytes written so far."""
        return self._promise.size_bytes

    @property
    def has_ended(self) -> bool:
        """Whether it was committed or discarded."""
        return self._ended

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data``; raises as ``Staged.write``."""
        self._require_open()
        self._promise.admit(data)
        file = self._open()
        with store_errors(_DOING):
            write_all(file.descriptor, memoryview(data))
        self._promise.taken(data)

    def commit(self, *, durable: bool = True) -> Path:
        """Check the digest and keep the bytes; raises as ``Staged.commit``."""
        self._require_open()
        try:
            self._promise.check()
            file = self._open()
            with store_errors(_DOING):
                file.seal()
            self._file = None
            return self._store.keep(self._promise.digest, file)
        finally:
            self.discard()

    def discard(self) -> None:
        """Drop the attempt; idempotent."""
        self._ended = True
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _require_open(self) -> None:
        if self._ended:
            raise StoreError(f"{_DOING}: this attempt has ended")

    def _open(self) -> _Held:
        if self._file is None:
            self._file = self._store.new_file()
        return self._file
