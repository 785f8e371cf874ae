"""A blob on its way into the store: a temporary file, hashed and capped while it is written.

The file lies beside the blob it will become, under a name no other writer can have, and gets the
blob's name only when it is complete and has the right digest. Whatever goes wrong
before that, nothing is left but, after ``kill -9``, the temporary file; ``sweep`` removes that.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final

from muster.content.directory import make_private_directory
from muster.content.disk import Fingerprint, store_errors, write_all
from muster.content.promise import Promise
from muster.errors import StoreError

__all__ = ["LIVE_NAMES", "StagedBlob", "temporary_name"]

LIVE_NAMES: Final[set[str]] = set()
"""Names of the temporary files this process is writing. A file with this process's number that is
not among them was left by an earlier process: in a container the number is the same every time."""

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


def temporary_name(stem: str, kind: str = "tmp") -> str:
    """``<stem>.<kind>.<pid>.<32 random hex>``: no two calls on any machine give the same."""
    return f"{stem}.{kind}.{os.getpid()}.{uuid.uuid4().hex}"


class StagedBlob:
    """One attempt to put one blob into the store; made by ``BlobStore.stage``.

    Nothing touches the disk before the first ``write`` or ``commit``, so that making one is free
    and cannot leak. Either ``commit`` or ``discard`` ends it; as a context manager it discards what
    was not committed. Blocking; one thread at a time.

    Args:
        target: The blob's final path.
        root: The store's root; directories between it and ``target`` are made.
        promise: What the bytes must be.
        on_commit: Told the fingerprint of the file in place.
    """

    __slots__ = (
        "_descriptor",
        "_ended",
        "_on_commit",
        "_promise",
        "_root",
        "_target",
        "_temporary",
    )

    def __init__(
        self,
        target: Path,
        *,
        root: Path,
        promise: Promise,
        on_commit: Callable[[Fingerprint], None],
    ) -> None:
        self._target = target
        self._root = root
        self._promise = promise
        self._on_commit = on_commit
        self._descriptor: int | None = None
        self._temporary: Path | None = None
        self._ended = False

    def __enter__(self) -> StagedBlob:
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
        """Whether it was committed or discarded, and so has nothing on the disk."""
        return self._ended

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data``.

        Raises:
            TooLargeError: It would pass the cap; nothing of ``data`` is written.
            StoreError: The disk refused, or the attempt has ended.
        """
        self._require_open()
        self._promise.admit(data)
        with store_errors(f"cannot write a blob under {self._target.parent}"):
            write_all(self._open(), memoryview(data))
        self._promise.taken(data)

    def commit(self, *, durable: bool = True) -> Path:
        """Check the digest and put the blob in place.

        A blob that is there already is replaced by the same bytes; readers see one or the other.

        Args:
            durable: Have the bytes on the disk before the blob has its name. Else a machine that
                loses its power may leave a blob with other bytes, which the next process finds by
                hashing it, and puts aside: for what can be had again.

        Returns:
            The blob's path.

        Raises:
            DigestMismatchError: The bytes are not the ones asked for; nothing is left behind.
            StoreError: The disk refused, or the attempt has ended; nothing is left behind.
        """
        self._require_open()
        try:
            self._promise.check()
            with store_errors(f"cannot store {self._target}"):
                self._publish(durable=durable)
        finally:
            self.discard()
        return self._target

    def discard(self) -> None:
        """Remove the temporary file if there is one; idempotent, and a no-op after ``commit``."""
        self._ended = True
        # What cannot be closed or removed now is removed by the sweep; the caller's error matters more.
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None
        if self._temporary is not None:
            with contextlib.suppress(OSError):
                self._temporary.unlink()
            self._forget()

    def _require_open(self) -> None:
        if self._ended:
            # going on would store the rest of the bytes under the digest of all of them
            raise StoreError(f"cannot store {self._target}: this attempt has ended")

    def _open(self) -> int:
        if self._descriptor is not None:
            return self._descriptor
        make_private_directory(self._root, self._target.parent)
        temporary = self._target.with_name(temporary_name(self._target.name))
        LIVE_NAMES.add(temporary.name)
        self._temporary = temporary
        self._descriptor = os.open(temporary, _CREATE, 0o600)
        return self._descriptor

    def _publish(self, *, durable: bool) -> None:
        descriptor = self._open()
        temporary = self._temporary
        assert temporary is not None  # noqa: S101 - _open made it; for the type checker
        os.fchmod(descriptor, 0o444)
        if durable:
            os.fsync(descriptor)
        fingerprint = Fingerprint.of(os.fstat(descriptor))
        # invariant: a blob's name is the digest of its bytes; only complete, checked files get one
        temporary.replace(self._target)
        self._forget()
        self._on_commit(fingerprint)
        # The directory is not synced: that costs as much as the file's sync, and what is at stake is
        # the name of a blob that is had again.

    def _forget(self) -> None:
        if self._temporary is not None:
            LIVE_NAMES.discard(self._temporary.name)
            self._temporary = None
