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

from muster.content.disk import put_back, remove_entry, write_all
from muster.content.liveness import ProcessMark
from muster.content.staging import temporary_name

__all__ = ["CLAIM_STALE_S", "Claim", "stale_claim", "take_claim"]

CLAIM_STALE_S: Final = 5.0
"""Silence after which a claim counts as given up, in seconds."""

_BEAT_S = 1.0
_MAX_BYTES = 4096
_OWN: Final[set[Path]] = set()
_OWN_LOCK = threading.Lock()


class _Text(msgspec.Struct, frozen=True):
    """What a claim's file says. The token tells claims of one process apart."""

    mark: ProcessMark
    token: str


class Claim:
    """The right to download one blob. ``release`` it in the end, or use it as a context manager."""

    def __init__(self, path: Path, text: bytes | None) -> None:
        self._path = path
        self._text = text
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

    @property
    def is_released(self) -> bool:
        """Whether it was given up."""
        return self._released

    def beat(self) -> None:
        """Say that the download gets on. Cheap: it touches the disk once a second at most."""
        now = time.monotonic()
        if self._text is None or now - self._beaten < _BEAT_S:
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
            if self._text is not None and _read(self._path) == self._text:
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


def stale_claim(path: Path, *, now: float) -> bool:
    """Whether nobody works under the claim at ``path`` any more; a claim of this process is live."""
    return path not in _OWN and _stale_text(path, now) is not None


def _take(path: Path, now: float) -> Claim | None:
    for _ in range(3):  # somebody else may take over the same stale claim just before us
        try:
            return Claim(path, _create(path))
        except FileExistsError:
            stale = _stale_text(path, now)
            if stale is None:
                return None
            _remove_stale(path, stale)
        except OSError:
            return Claim(path, None)
    return None


def _create(path: Path) -> bytes:
    text = msgspec.json.encode(_Text(mark=ProcessMark.own(), token=uuid.uuid4().hex))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, memoryview(text))
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(descriptor)
    return text


def _stale_text(path: Path, now: float) -> bytes | None:
    """What is in a claim that is stale; ``None`` for a live one."""
    try:
        age_s = now - path.lstat().st_mtime
    except FileNotFoundError:
        return b""  # released just now
    except OSError:
        return None
    text = _read(path) or b""
    # abs: a file server's clock, or ours, may be off; at worst a file is fetched twice
    if abs(age_s) >= CLAIM_STALE_S:
        return text
    try:
        mark = msgspec.json.decode(text, type=_Text).mark
    except msgspec.DecodeError:
        return None  # being written just now, or not ours to read: its age decides
    # Not in _OWN, so one with our own mark was left by an earlier process of our number.
    return text if mark.is_dead or mark == ProcessMark.own() else None


def _read(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(descriptor, _MAX_BYTES)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _remove_stale(path: Path, text: bytes) -> None:
    """Move it away before it is removed: of several that do so, one gets each file."""
    aside = path.with_name(temporary_name(path.name))
    with contextlib.suppress(OSError):
        path.rename(aside)
        if text and _read(aside) != text:  # somebody was faster, and this is their own claim
            put_back(aside, path)
        else:
            remove_entry(aside)
