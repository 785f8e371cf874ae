"""Looking at a blob's file: whether it is one, and has the bytes its name says."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

import msgspec
from blake3 import blake3

from muster.content.disk import Fingerprint
from muster.digest import Digest
from muster.errors import StoreError

__all__ = ["Examined", "examine"]

# O_NONBLOCK: opening a pipe that someone put in a blob's place must not hang
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_USE: int = getattr(os, "O_NOATIME", 0)
_NOT_OURS_TO_READ = {errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENXIO}
_USED_GRAIN_S = 60.0
_PIECE_BYTES = 256 * 1024
"""Stays in a core's cache between reading and hashing, and is memory that need not be got anew."""


class Examined(msgspec.Struct, frozen=True):
    """What was found under a blob's name; ``problem`` is empty if it is right."""

    seen: Fingerprint
    problem: str


def examine(
    path: Path, digest: Digest, *, known: Fingerprint | None, used_at: float | None
) -> Examined | None:
    """Look at the file at ``path``, which should hold ``digest``'s bytes. No link is followed.

    Args:
        path: The blob.
        digest: What it should hash to.
        known: A state of it that was right; in that state it is not hashed again.
        used_at: The wall clock's time to note as that of its last use, in seconds since the epoch,
            if it is hashed; ``None`` if this look is no use of it.

    Returns:
        ``None`` if there is nothing.

    Raises:
        StoreError: The disk does not let us look.
    """
    try:
        descriptor = _open(path, 0 if used_at is not None else _NO_USE)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno not in _NOT_OURS_TO_READ:
            raise StoreError(f"cannot read {path}: {error.strerror}") from error
        try:
            return Examined(Fingerprint.of(path.lstat()), str(error.strerror))
        except OSError:
            return None
    try:
        status = os.fstat(descriptor)
        seen = Fingerprint.of(status)
        if seen == known:
            return Examined(seen, "")
        if used_at is not None and used_at - status.st_atime > _USED_GRAIN_S:
            # A mount may not keep times of use. Before hashing: a write that this hides is found.
            with contextlib.suppress(OSError):
                os.utime(descriptor, ns=(int(used_at * 1e9), status.st_mtime_ns))
        return Examined(seen, _problem(descriptor, digest, seen))
    finally:
        os.close(descriptor)


def _open(path: Path, flags: int) -> int:
    if flags:
        with contextlib.suppress(PermissionError):  # only the owner may ask for it
            return os.open(path, _READ | flags)
    return os.open(path, _READ)


def _problem(descriptor: int, digest: Digest, seen: Fingerprint) -> str:
    if not seen.is_file:
        return "it is not a regular file"
    hasher = blake3()
    buffer = memoryview(bytearray(min(_PIECE_BYTES, seen.size_bytes + 1)))
    try:
        while count := os.readv(descriptor, [buffer]):
            hasher.update(buffer[:count])
        after = Fingerprint.of(os.fstat(descriptor))
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    if after != seen:
        return "it changed while it was read"
    got = Digest(hasher.hexdigest())
    return "" if got == digest else f"its bytes hash to {got}"
