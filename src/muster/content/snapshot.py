"""A private copy of a file, taken once: what was hashed is what is read, whatever becomes of the file.

The copy has no name. It lives as long as somebody holds it open, nobody else can reach or change it,
and ``kill -9`` leaves nothing behind. Where no directory can take it, it is kept in memory.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from blake3 import blake3

from muster.content.disk import CHUNK_BYTES, Fingerprint, write_all
from muster.digest import Digest
from muster.errors import ContentError, DigestMismatchError, StoreError, TooLargeError
from muster.log import facts

__all__ = ["Snapshot", "take_snapshot"]

logger = logging.getLogger(__name__)

# O_NONBLOCK: opening a pipe must not wait for its writer
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_UNNAMED: int | None = getattr(os, "O_TMPFILE", None)


class Snapshot:
    """Bytes nobody can change any more, in an unnamed file.

    Attributes:
        source: The file they were copied from.
        fingerprint: What that file looked like then; a different one later may mean other bytes.
        digest: Their digest.
        size_bytes: How many they are.
    """

    __slots__ = ("_descriptor", "_lock", "digest", "fingerprint", "size_bytes", "source")

    def __init__(
        self, descriptor: int, *, source: Path, fingerprint: Fingerprint, digest: Digest, size: int
    ) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self.source = source
        self.fingerprint = fingerprint
        self.digest = digest
        self.size_bytes = size

    def open_fd(self) -> int:
        """A descriptor of its own for the caller, who closes it.

        It stays good when the snapshot is closed. Read it with ``os.pread``: the position is shared.

        Raises:
            ContentError: The snapshot is closed.
        """
        with self._lock:
            if self._descriptor < 0:
                raise ContentError(f"the copy of {self.source} was closed")
            return os.dup(self._descriptor)

    def close(self) -> None:
        """Let go of the bytes; whoever reads them now reads on. Idempotent."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


def take_snapshot(
    path: str | os.PathLike[str],
    *,
    directory: Path | None = None,
    expected: Digest | None = None,
    max_bytes: int | None = None,
) -> Snapshot:
    """Copy the file at ``path`` while hashing it, from one reading. Blocks.

    Args:
        path: The file; links are followed.
        directory: Where the unnamed copy is kept; by default the temporary directory.
        expected: What the bytes must hash to.
        max_bytes: Most bytes taken.

    Raises:
        DigestMismatchError: It has other bytes than ``expected``.
        TooLargeError: It has more than ``max_bytes``.
        ContentError: It is missing, not a regular file, or cannot be read.
        StoreError: The copy can be kept neither on the disk nor in memory.
    """
    source = Path(path)
    with _opened(source) as descriptor:
        fingerprint = Fingerprint.of(os.fstat(descriptor))
        if not fingerprint.is_file:
            raise ContentError(f"Not a file: {source}")
        if max_bytes is not None and fingerprint.size_bytes > max_bytes:
            raise TooLargeError(
                f"{source} is {fingerprint.size_bytes} bytes, the limit is {max_bytes}"
            )
        copy, digest, size = _copy(descriptor, source, directory, max_bytes)
    if expected is not None and digest != expected:
        os.close(copy)
        raise DigestMismatchError(
            f"{source} changed while it was being registered: it was {expected}, now it is {digest}",
            hint="register the model when nothing writes to its directory any more",
        )
    return Snapshot(copy, source=source, fingerprint=fingerprint, digest=digest, size=size)


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[int]:
    try:
        descriptor = os.open(source, _READ)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ContentError(f"File not found: {source}") from error
    except (OSError, ValueError) as error:
        raise ContentError(f"Cannot read {source}: {error}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _copy(
    descriptor: int, source: Path, directory: Path | None, max_bytes: int | None
) -> tuple[int, Digest, int]:
    """Copy to the disk or, if that refuses, to memory."""
    place = directory or Path(tempfile.gettempdir())
    try:
        return _copy_into(_unnamed_file(place), descriptor, source, max_bytes)
    except OSError as error:
        if not hasattr(os, "memfd_create"):
            raise StoreError(
                f"cannot keep a copy of {source} in {place}: {error.strerror}",
                hint="set MUSTER_SNAPSHOT_DIR to a directory with space that this process may write",
            ) from error
        logger.warning(
            "keeping a copy in memory, because the disk does not take it",
            extra=facts(file_name=source, directory=place, reason=error.strerror),
        )
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        memory = os.memfd_create("muster-snapshot", os.MFD_CLOEXEC)
        return _copy_into(memory, descriptor, source, max_bytes)
    except OSError as error:
        raise StoreError(f"cannot keep a copy of {source}: {error.strerror}") from error


def _copy_into(
    target: int, descriptor: int, source: Path, max_bytes: int | None
) -> tuple[int, Digest, int]:
    """Copy and hash into ``target``, which is closed on failure; write errors leave as OSError."""
    hasher = blake3()
    size = 0
    try:
        for piece in _pieces(descriptor, source, max_bytes):
            size += len(piece)
            hasher.update(piece)
            write_all(target, memoryview(piece))
    except BaseException:
        os.close(target)
        raise
    return target, Digest(hasher.hexdigest()), size


def _pieces(descriptor: int, source: Path, max_bytes: int | None) -> Iterator[bytes]:
    size = 0
    while True:
        try:
            piece = os.read(descriptor, CHUNK_BYTES)
        except OSError as error:
            raise ContentError(f"Cannot read {source}: {error.strerror}") from error
        if not piece:
            return
        size += len(piece)
        if max_bytes is not None and size > max_bytes:
            raise TooLargeError(f"{source} grew beyond {max_bytes} bytes while it was read")
        yield piece


def _unnamed_file(directory: Path) -> int:
    """An empty file without a name in ``directory``, readable and writable by its holder only."""
    if _UNNAMED is not None:
        try:
            return os.open(
                directory, _UNNAMED | os.O_RDWR | os.O_CLOEXEC, stat.S_IRUSR | stat.S_IWUSR
            )
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
                raise
    descriptor, name = tempfile.mkstemp(prefix=".muster-snapshot-", dir=directory)
    Path(name).unlink()
    return descriptor
