"""The few file-system steps the store is made of, each with the guarantee it gives.

Blocking; called in threads. Outside the ``store_errors`` scope these raise ``OSError``: the store's
public methods open that scope, so that nothing foreign leaves them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from muster.errors import StoreError

__all__ = [
    "CHUNK_BYTES",
    "Fingerprint",
    "put_back",
    "remove_entry",
    "store_errors",
    "sync_directory",
    "write_all",
]

CHUNK_BYTES = 1 << 20
"""Bytes read, hashed or written at a time."""

_HINTS = {
    errno.ENOSPC: "free some space, or set MUSTER_CACHE_DIR to a directory on another disk",
    errno.EDQUOT: "free some space, or set MUSTER_CACHE_DIR to a directory on another disk",
}
_HINT = "set MUSTER_CACHE_DIR to a directory this process may write"


class Fingerprint(msgspec.Struct, frozen=True):
    """What changes when a file is replaced or written: if it is the same, so are the bytes.

    Not proof against someone who sets times back; who can do that can write the cache anyway.
    """

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    is_file: bool

    @classmethod
    def of(cls, status: os.stat_result) -> Fingerprint:
        """The fingerprint in a ``stat`` result."""
        return cls(
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            stat.S_ISREG(status.st_mode),
        )


@contextlib.contextmanager
def store_errors(doing: str) -> Iterator[None]:
    """Turn an ``OSError`` inside into a ``StoreError`` that says what was being done."""
    try:
        yield
    except OSError as error:
        hint = _HINTS.get(error.errno or 0, _HINT)
        raise StoreError(f"{doing}: {error.strerror or error}", hint=hint) from error


def remove_entry(path: Path) -> None:
    """Remove a file, a link (not what it leads to) or a whole directory."""
    if stat.S_ISDIR(path.lstat().st_mode):
        shutil.rmtree(path)
    else:
        path.unlink()


def put_back(aside: Path, path: Path) -> None:
    """Let ``aside`` have the name ``path`` again; if something has it by now, remove ``aside``."""
    try:
        os.link(aside, path, follow_symlinks=False)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        if not os.path.lexists(path):
            aside.rename(path)
            return
    remove_entry(aside)


def sync_directory(path: Path) -> None:
    """Make the entries of ``path`` survive a crash of the machine."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a directory. All that is at stake is a refetch.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: memoryview) -> None:
    """Write all of ``data``; the system may take it in parts."""
    while data:
        data = data[os.write(descriptor, data) :]
