"""Leases: which blobs a live process uses, said in a file, so that pruning leaves them alone.

::

    <root>/leases/<pid>.<32 hex>.json      {"mark": {...}, "blobs": ["<64 hex>", ...]}

A lease holds while its process lives. Of a process that cannot be seen from here, on another host or
in another container, only the lease's age speaks: it holds for five minutes after the last beat.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import threading
import uuid
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final

import msgspec

from muster.content.directory import make_private_directory
from muster.content.liveness import ProcessMark
from muster.content.staging import LIVE_NAMES, temporary_name
from muster.digest import Digest
from muster.errors import StoreError
from muster.log import facts

__all__ = ["LEASE_S", "HeldLease", "Lease", "holds", "read_leases"]

logger = logging.getLogger(__name__)

LEASE_S: Final = 300.0
"""How long the lease of a process that cannot be seen holds after a beat, in seconds."""

_SUFFIX = ".json"


class _Text(msgspec.Struct, frozen=True):
    """What a lease's file says."""

    mark: ProcessMark
    blobs: tuple[str, ...]


class HeldLease(msgspec.Struct, frozen=True, kw_only=True):
    """A lease as found on the disk.

    Attributes:
        path: Its file.
        user: Who holds it, as ``<pid>@<host>``; ``?`` if the file cannot be read.
        blobs: What it covers; ``None`` if that cannot be read, and it may be anything.
        is_held: Whether it holds.
    """

    path: Path
    user: str
    blobs: frozenset[Digest] | None
    is_held: bool

    def covers(self, digest: Digest) -> bool:
        """Whether the blob may not be removed because of this lease."""
        return self.is_held and (self.blobs is None or digest in self.blobs)


class Lease:
    """Blobs this process uses; made by ``BlobStore.lease``. Any thread.

    Best effort: where the disk refuses, nothing is raised, and each beat tries again.
    """

    def __init__(self, root: Path, digests: Iterable[Digest]) -> None:
        self._root = root
        self._path = root / "leases" / f"{os.getpid()}.{uuid.uuid4().hex}{_SUFFIX}"
        self._lock = threading.Lock()
        self._blobs = frozenset(digests)
        self._released = False
        self._write()

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    @property
    def blobs(self) -> frozenset[Digest]:
        """What it covers."""
        return self._blobs

    def beat(self) -> None:
        """Say that this process lives, for those that cannot see it; about every 30 s will do."""
        with self._lock:
            if self._released:
                return
            try:
                os.utime(self._path, follow_symlinks=False)
            except OSError:
                self._write()

    def replace(self, digests: Iterable[Digest]) -> None:
        """Cover these blobs and no others, from one moment to the next; after ``release`` nothing."""
        blobs = frozenset(digests)
        with self._lock:
            if self._released or blobs == self._blobs:
                return
            self._blobs = blobs
            self._write()

    def release(self) -> None:
        """Let go of all of them. Idempotent."""
        with self._lock:
            self._released = True
            with contextlib.suppress(OSError):
                self._path.unlink()

    def _write(self) -> None:
        text = _Text(
            mark=ProcessMark.own(), blobs=tuple(sorted(digest.hex for digest in self._blobs))
        )
        aside = self._path.with_name(temporary_name(""))
        LIVE_NAMES.add(aside.name)
        try:
            make_private_directory(self._root, self._path.parent)
            aside.write_bytes(msgspec.json.encode(text))
            aside.replace(self._path)
        except (OSError, StoreError) as error:
            logger.debug("cannot say which blobs are in use", extra=facts(reason=error))
            with contextlib.suppress(OSError):
                aside.unlink()
        finally:
            LIVE_NAMES.discard(aside.name)


def holds(mark: ProcessMark | None, *, age_s: float) -> bool:
    """Whether a lease of that process, beaten ``age_s`` ago, holds; ``None`` is an unknown one."""
    if mark is not None and mark.is_here:
        return not mark.is_dead
    return age_s < LEASE_S


def read_leases(root: Path, *, now: float) -> list[HeldLease]:
    """All leases under ``root``, those that hold and those that do not.

    Args:
        root: The store's root; it need not exist.
        now: The wall clock's time, in seconds since the epoch.

    Raises:
        OSError: The leases cannot be listed, so nobody knows what is in use.
    """
    try:
        paths = sorted(path for path in (root / "leases").iterdir() if path.suffix == _SUFFIX)
    except FileNotFoundError:
        return []
    return [lease for path in paths if (lease := _read(path, now)) is not None]


def _read(path: Path, now: float) -> HeldLease | None:
    try:
        age_s = now - path.lstat().st_mtime
    except FileNotFoundError:
        return None
    try:
        text = msgspec.json.decode(_read_file(path), type=_Text)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError):
        return HeldLease(path=path, user="?", blobs=None, is_held=holds(None, age_s=age_s))
    return HeldLease(
        path=path,
        user=f"{text.mark.pid}@{text.mark.host}",
        blobs=frozenset(map(Digest, text.blobs)),
        is_held=holds(text.mark, age_s=age_s),
    )


def _read_file(path: Path) -> bytes:
    """Its bytes; raises ``OSError`` for what is no file. A pipe in its place must not hang."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return file.read()
