"""Removing what killed processes left behind: files and views nobody will ever finish.

Deciding is separate from doing. A temporary entry is abandoned when its process is gone from this
machine and it has not been written for a minute: the minute is for writers we cannot see, in
another container or on another host that shares the directory. After a day it is abandoned whoever
seems to own it, because process numbers are used again. Claims and leases say themselves whose they
are; bad blobs are kept for a while, and no longer.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from muster.content.claim import stale_claim
from muster.content.directory import check_directory
from muster.content.disk import remove_entry
from muster.content.lease import read_leases
from muster.content.liveness import process_lives
from muster.content.quarantine import list_quarantine, superfluous
from muster.content.staging import LIVE_NAMES
from muster.errors import StoreError

__all__ = ["ORPHAN_AGE_S", "STALE_AGE_S", "is_abandoned", "sweep"]

ORPHAN_AGE_S: Final = 60.0
"""Silence after which the file of a process that is gone is removed, in seconds."""
STALE_AGE_S: Final = 86400.0
"""Silence after which a temporary file is removed whoever owns it, in seconds."""

_HEX = re.compile(r"[0-9a-f]{64}")
_TEMPORARY = re.compile(r"\.?(?:[0-9a-f]{64})?\.(?:tmp|bad)\.([0-9]{1,10})\.[0-9a-f]{32}")


def is_abandoned(name: str, *, age_s: float, process_lives: Callable[[int], bool]) -> bool:
    """Whether the entry ``name``, last written ``age_s`` ago, is a leftover.

    Names that are not a temporary entry's are never leftovers, whatever their age.
    """
    match = _TEMPORARY.fullmatch(name)
    if match is None or name in LIVE_NAMES or age_s < ORPHAN_AGE_S:
        return False
    owner = int(match[1])
    # Not in LIVE_NAMES, so a file with our own number is from an earlier process of that number.
    return age_s >= STALE_AGE_S or owner == os.getpid() or not process_lives(owner)


def sweep(root: Path, *, now: float) -> list[Path]:
    """Remove leftovers under ``root``.

    Entries that vanish meanwhile or cannot be removed are passed over: sweeping is housekeeping and
    never a reason not to start. No link is followed.

    Args:
        root: The store's root; it need not exist.
        now: The wall clock's time, in seconds since the epoch.

    Returns:
        What was removed.
    """
    removed: list[Path] = []
    for path in _leftovers(root, now):
        with contextlib.suppress(OSError):
            remove_entry(path)
            removed.append(path)
    return removed


def _leftovers(root: Path, now: float) -> Iterator[Path]:
    for directory in _directories(root):
        for entry in _entries(root, directory):
            with contextlib.suppress(OSError):
                age_s = now - entry.stat(follow_symlinks=False).st_mtime
                if is_abandoned(entry.name, age_s=age_s, process_lives=process_lives):
                    yield Path(entry.path)
    for entry in _entries(root, root / "claims"):
        if _HEX.fullmatch(entry.name) and stale_claim(Path(entry.path), now=now):
            yield Path(entry.path)
    if _entries(root, root / "leases"):
        with contextlib.suppress(OSError):
            yield from (lease.path for lease in read_leases(root, now=now) if not lease.is_held)
    if _entries(root, root / "quarantine"):
        yield from (each.path for each in superfluous(list_quarantine(root), now=now))


def _directories(root: Path) -> Iterator[Path]:
    """Where temporary entries are made; a card with an empty slug has its views one level higher."""
    yield from (root / name for name in ("blobs", "claims", "leases", "by-slug"))
    for slug in _entries(root, root / "by-slug"):
        if slug.is_dir(follow_symlinks=False):
            yield Path(slug.path)
            for view in _entries(root, Path(slug.path)):
                if view.is_dir(follow_symlinks=False):
                    yield Path(view.path)


def _entries(root: Path, directory: Path) -> list[os.DirEntry[str]]:
    """What is in ``directory``; nothing if it cannot be read, or may not be relied on."""
    with contextlib.suppress(OSError, StoreError):
        if check_directory(root, directory):
            with os.scandir(directory) as entries:
                return list(entries)
    return []
