"""Verified bytes in memory, for when no disk takes them: one file of memory a blob.

The paths it gives work like any other for whoever opens them in this process, and go with it.
"""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path
from types import TracebackType

from blake3 import blake3

from muster.content.disk import store_errors, write_all
from muster.digest import Digest
from muster.errors import DigestMismatchError, StoreError, TooLargeError

__all__ = ["MemoryStore", "StagedMemory"]


class MemoryStore:
    """Blobs by digest in files of memory. Any thread; ``close`` lets go of them all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blobs: dict[Digest, tuple[int, Path]] = {}

    def find(self, digest: Digest) -> Path | None:
        """A path to the blob's bytes, or ``None``."""
        with self._lock:
            held = self._blobs.get(digest)
        return None if held is None else held[1]

    def stage(self, digest: Digest, *, cap_bytes: int, source: str) -> StagedMemory:
        """Start to put a blob here; see ``BlobStore.stage``."""
        return StagedMemory(self, digest, cap_bytes=cap_bytes, source=source)

    def close(self) -> None:
        """Forget every blob; paths given out mean nothing any more. Idempotent."""
        with self._lock:
            blobs, self._blobs = self._blobs, {}
        for descriptor, _ in blobs.values():
            os.close(descriptor)

    def keep(self, digest: Digest, descriptor: int) -> Path:
        """Take over ``descriptor``, which holds the blob's bytes; for ``StagedMemory``."""
        with self._lock:
            if digest in self._blobs:
                os.close(descriptor)
            else:
                self._blobs[digest] = (descriptor, Path(f"/proc/self/fd/{descriptor}"))
            return self._blobs[digest][1]


class StagedMemory:
    """One attempt to put one blob into a ``MemoryStore``; as ``StagedBlob``."""

    def __init__(self, store: MemoryStore, digest: Digest, *, cap_bytes: int, source: str) -> None:
        self._store = store
        self._digest = digest
        self._cap_bytes = cap_bytes
        self._source = source
        self._hash = blake3()
        self._descriptor: int | None = None
        self._ended = False
        self._size_bytes = 0

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
        return self._size_bytes

    @property
    def has_ended(self) -> bool:
        """Whether it was committed or discarded."""
        return self._ended

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data``; raises as ``StagedBlob.write``."""
        self._require_open()
        size_bytes = self._size_bytes + len(data)
        if size_bytes > self._cap_bytes:
            raise TooLargeError(
                f"{self._source} body exceeds cap {self._cap_bytes}",
                hint="the file is larger than the card says, or than MUSTER_FETCH_MAX_BYTES allows",
            )
        with store_errors("cannot keep a blob in memory"):
            write_all(self._open(), memoryview(data))
        self._hash.update(data)
        self._size_bytes = size_bytes

    def commit(self) -> Path:
        """Check the digest and keep the bytes; raises as ``StagedBlob.commit``."""
        self._require_open()
        try:
            got = Digest(self._hash.hexdigest())
            if got != self._digest:
                raise DigestMismatchError(
                    f"checksum mismatch for {self._source}: expected {self._digest}, got {got}",
                    hint="the file changed after the model was registered; register it again",
                )
            with store_errors("cannot keep a blob in memory"):
                descriptor = self._open()
            self._descriptor = None
            return self._store.keep(self._digest, descriptor)
        finally:
            self.discard()

    def discard(self) -> None:
        """Drop the attempt; idempotent."""
        self._ended = True
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _require_open(self) -> None:
        if self._ended:
            raise StoreError("cannot keep a blob in memory: this attempt has ended")

    def _open(self) -> int:
        if self._descriptor is None:
            if hasattr(os, "memfd_create"):
                self._descriptor = os.memfd_create("muster-blob", os.MFD_CLOEXEC)
            else:
                with tempfile.TemporaryFile() as file:
                    self._descriptor = os.dup(file.fileno())
        return self._descriptor
