"""Files of one bucket's directory: the only place of the file backend that touches the disk.

A record is a file whose name is its key, percent-encoded; it appears by a hard link or a rename of
a complete temporary file, so a reader never sees half of one (formats of Dynamo 1.6.1's file
store). Calls block and are safe from any thread and any process. Operating system errors leave as
``DiscoveryError``; nothing here decides whether a record is alive.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import fcntl
import logging
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from muster.discovery.keys import MAX_RECORD_BYTES
from muster.errors import ConflictError, DiscoveryError
from muster.log import facts

__all__ = ["TEMP_PREFIX", "Found", "RecordDirectory", "Stamp"]

logger = logging.getLogger(__name__)

TEMP_PREFIX = ".tmp_"
"""Names that start so are files being written; no reader looks at them."""
_TEMP_AGE_S = 600.0
_LOCK_TIMEOUT_S = 0.1
# A name may turn out to be a link, a pipe or a socket; reading must neither follow nor wait.
_READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NO_RECORD = frozenset({errno.ENOENT, errno.ELOOP, errno.ENXIO})


class Found(enum.Enum):
    """What was found where a file of ours should be."""

    OURS = "ours"
    REPLACED = "replaced"
    GONE = "gone"


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """Which file it was, and its time and length, when it was looked at."""

    inode: int
    mtime_ns: int
    size: int

    def like(self, other: Stamp) -> bool:
        """Whether it is the same file with the same length, whatever its time."""
        return self.inode == other.inode and self.size == other.size


def _stamp(status: os.stat_result) -> Stamp | None:
    """The stamp of a regular file that may hold a record; ``None`` for anything else."""
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_RECORD_BYTES:
        return None
    return Stamp(status.st_ino, status.st_mtime_ns, status.st_size)


@contextlib.contextmanager
def _translated(doing: str, path: str) -> Iterator[None]:
    """Turn the operating system's errors into ours."""
    try:
        yield
    except OSError as error:
        raise DiscoveryError(
            f"cannot {doing} {path}: {error.strerror or error}",
            hint="check the registry's directory (DYN_FILE_KV), its permissions and free space",
        ) from error


class RecordDirectory:
    """The directory of one bucket. It need not exist until something is written.

    Args:
        path: Absolute path.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def path_of(self, name: str) -> str:
        """Path of the file ``name``."""
        return f"{self.path}/{name}"

    def ensure(self) -> None:
        """Make the directory and those above it, unless they exist.

        Raises:
            DiscoveryError: If that is not possible.
        """
        with _translated("make the directory", self.path):
            Path(self.path).mkdir(parents=True, exist_ok=True)

    def identity(self) -> tuple[int, int] | None:
        """Which directory is at the path: device and inode; ``None`` if there is none."""
        try:
            status = Path(self.path).stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def scan(self, wall: float) -> dict[str, Stamp]:
        """All files that may be records, by name; deletes temporary files of dead writers.

        Args:
            wall: The wall clock's time, to tell a temporary file's age.

        Raises:
            DiscoveryError: If the directory exists and cannot be read.
        """
        found: dict[str, Stamp] = {}
        with _translated("list", self.path):
            try:
                entries = os.scandir(self.path)
            except FileNotFoundError:
                return found
            with entries:
                for entry in entries:
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if entry.name.startswith(TEMP_PREFIX):
                        self._sweep(entry.name, wall - status.st_mtime)
                    elif stamp := _stamp(status):
                        found[entry.name] = stamp
        return found

    def _sweep(self, name: str, age_s: float) -> None:
        if age_s > _TEMP_AGE_S:
            with contextlib.suppress(OSError):
                Path(self.path_of(name)).unlink()
                logger.info("deleted a leftover of a dead writer", extra=facts(file=name))

    def stamp(self, name: str) -> Stamp | None:
        """The file's stamp now; ``None`` if it is gone or cannot be a record.

        Raises:
            DiscoveryError: If it cannot be looked at.
        """
        with _translated("look at", self.path_of(name)):
            try:
                return _stamp(os.lstat(self.path_of(name)))
            except FileNotFoundError:
                return None

    def read(self, name: str) -> tuple[Stamp, bytes] | None:
        """The file's bytes, and its stamp from before they were read.

        ``None`` if it is gone or cannot be a record. A later change of the bytes shows as another
        stamp.

        Raises:
            DiscoveryError: If it cannot be read.
        """
        with _translated("read", self.path_of(name)):
            try:
                descriptor = os.open(self.path_of(name), _READ_FLAGS)
            except OSError as error:
                if error.errno in _NO_RECORD:
                    return None
                raise
            try:
                stamp = _stamp(os.fstat(descriptor))
                return (stamp, _read_all(descriptor, stamp.size)) if stamp else None
            finally:
                os.close(descriptor)

    def write(self, name: str, value: bytes, *, create: bool) -> int:
        """Put a complete file in place; returns its inode.

        Args:
            name: The file's name.
            value: Its bytes.
            create: Leave a file that is there as it is, and raise.

        Raises:
            ConflictError: ``create`` and there is a file.
            DiscoveryError: If it cannot be written.
        """
        path = self.path_of(name)
        with _translated("write", path):
            temporary, inode = self._write_temporary(value)
            try:
                self._put_in_place(temporary, path, create=create)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    Path(temporary).unlink()
        return inode

    def _write_temporary(self, value: bytes) -> tuple[str, int]:
        temporary = self.path_of(f"{TEMP_PREFIX}{secrets.token_hex(8)}")
        descriptor = self._open_new(temporary)
        try:
            _write_all(descriptor, value)
            return temporary, os.fstat(descriptor).st_ino
        except OSError:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
            raise
        finally:
            os.close(descriptor)

    @staticmethod
    def _put_in_place(temporary: str, path: str, *, create: bool) -> None:
        if not create:
            Path(temporary).rename(path)
            return
        try:
            os.link(temporary, path)
        except FileExistsError as error:
            raise ConflictError(f"{path} exists already") from error

    def _open_new(self, path: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o666)
        except FileNotFoundError:
            Path(self.path).mkdir(parents=True, exist_ok=True)
            return os.open(path, flags, 0o666)

    def touch(self, name: str, inode: int) -> Found:
        """Set the file's time to now if it is still the one with that inode.

        Raises:
            DiscoveryError: If its time cannot be set.
        """
        with _translated("refresh", self.path_of(name)):
            return self._if_ours(name, inode, os.utime)

    def remove(self, name: str, inode: int) -> Found:
        """Delete the file if it is still the one with that inode.

        Raises:
            DiscoveryError: If it cannot be deleted.
        """
        with _translated("delete", self.path_of(name)):
            return self._if_ours(name, inode, os.unlink)

    def _if_ours(self, name: str, inode: int, act: Callable[[str], None]) -> Found:
        path = self.path_of(name)
        try:
            if os.lstat(path).st_ino != inode:
                return Found.REPLACED
            act(path)
        except FileNotFoundError:
            return Found.GONE
        return Found.OURS

    def remove_stale(self, name: str, stamp: Stamp) -> bool:
        """Delete a file nobody has touched since ``stamp``; whether it is gone now.

        Deleting is done under a lock on the directory: otherwise two that clear the same leftover
        could delete the record that a third has just created in its place.

        Raises:
            DiscoveryError: If it cannot be deleted.
        """
        path = self.path_of(name)
        with _translated("delete", path):
            try:
                with self._locked() as locked:
                    if not locked or self.stamp(name) != stamp:
                        return self.stamp(name) is None
                    Path(path).unlink()
            except FileNotFoundError:
                return True
        return True

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        """Hold the directory's lock; gives ``False`` if another holds it for too long."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield _lock(descriptor)
        finally:
            os.close(descriptor)


def _lock(descriptor: int) -> bool:
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        except OSError:
            # A file system without locks: the check right before deleting has to do.
            return True
        else:
            return True


def _read_all(descriptor: int, size: int) -> bytes:
    """The first ``size`` bytes, or what is there if it is less."""
    data = os.read(descriptor, size)
    while len(data) < size and (more := os.read(descriptor, size - len(data))):
        data += more
    return data


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
