"""Who downloads a blob: a marker file that keeps the processes of a host from doing it twice.

Created with ``O_EXCL``, which every file system we know keeps its word about, unlike ``flock`` on
network file systems. It holds its process's mark and is touched while bytes arrive. A claim is
stale, and is taken over, once its process is gone or nothing has touched it for five seconds.

Only double work is at stake: two processes that both believe they hold a claim store the same bytes.
So whatever the file system refuses counts as granted.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Final

import msgspec

from muster.content.liveness import ProcessMark

__all__ = ["CLAIM_STALE_S", "Claim", "take_claim"]

CLAIM_STALE_S: Final = 5.0
"""Silence after which a claim counts as given up, in seconds."""

_BEAT_S = 1.0
_OWN: Final[set[Path]] = set()
_OWN_LOCK = threading.Lock()


class Claim:
    """The right to download one blob. ``release`` it in the end, or use it as a context manager."""

    def __init__(self, path: Path, inode: int | None) -> None:
        self._path = path
        self._inode = inode
        self._beaten = time.monotonic()
        self._released = False

    def __enter__(self) -> Claim:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def beat(self) -> None:
        """Say that the download gets on. Cheap: it touches the disk once a second at most."""
        now = time.monotonic()
        if self._inode is None or now - self._beaten < _BEAT_S:
            return
        self._beaten = now
        with contextlib.suppress(OSError):
            os.utime(self._path, follow_symlinks=False)

    def release(self) -> None:
        """Give the claim up. Idempotent; a claim taken over by somebody else stays theirs."""
        if self._released:
            return
        self._released = True
        with contextlib.suppress(OSError):
            if self._inode is not None and self._path.lstat().st_ino == self._inode:
                self._path.unlink()
        with _OWN_LOCK:
            _OWN.discard(self._path)


def take_claim(path: Path, *, now: float) -> Claim | None:
    """Claim what ``path`` stands for, or ``None`` if a live process, this one too, has it.

    Args:
        path: The marker file; its directory must exist.
        now: The wall clock's time, in seconds since the epoch.
    """
    with _OWN_LOCK:
        if path in _OWN:
            return None
        _OWN.add(path)
    claim = _take(path, now)
    if claim is None:
        with _OWN_LOCK:
            _OWN.discard(path)
    return claim


def _take(path: Path, now: float) -> Claim | None:
    for _ in range(3):  # somebody else may take over the same stale claim just before us
        try:
            return Claim(path, _create(path))
        except FileExistsError:
            if not _is_stale(path, now):
                return None
            _remove_stale(path)
        except OSError:
            return Claim(path, None)
    return None


def _create(path: Path) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, msgspec.json.encode(ProcessMark.own()))
        return os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


def _is_stale(path: Path, now: float) -> bool:
    try:
        age_s = now - path.lstat().st_mtime
        if age_s >= CLAIM_STALE_S:
            return True
        mark = msgspec.json.decode(path.read_bytes(), type=ProcessMark)
    except FileNotFoundError:
        return True
    except (OSError, msgspec.DecodeError):
        return False  # being written just now, or not ours to read: its age decides
    # Not in _OWN, so a claim with our own number is an earlier process's of that number.
    own = ProcessMark.own()
    return mark.is_dead or mark == own


def _remove_stale(path: Path) -> None:
    """Move it away before it is removed: of several that do so, one gets each file."""
    aside = path.with_name(f"{path.name}.tmp.{os.getpid()}.{uuid.uuid4().hex}")
    with contextlib.suppress(OSError):
        path.rename(aside)
        aside.unlink()
