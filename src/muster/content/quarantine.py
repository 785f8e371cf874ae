"""Blobs that went bad: kept apart for a look, never removed in silence, and not kept for ever.

::

    <root>/quarantine/<64 hex>.<milliseconds since the epoch>
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from muster.content.directory import make_private_directory
from muster.content.disk import Fingerprint, put_back, remove_entry, store_errors
from muster.log import facts

__all__ = ["Quarantined", "list_quarantine", "set_aside", "superfluous"]

logger = logging.getLogger(__name__)

KEPT_S: Final = 86400.0
KEPT_ENTRIES: Final = 16
KEPT_BYTES: Final = 256 << 20

_NAME = re.compile(r"([0-9a-f]{64})\.([0-9]{1,15})")


class Quarantined(msgspec.Struct, frozen=True):
    """A bad blob that is kept."""

    path: Path
    size_bytes: int
    since_s: float


def set_aside(root: Path, path: Path, seen: Fingerprint, problem: str, *, now: float) -> bool:
    """Move a bad file from a blob's name into quarantine.

    Args:
        root: The store's root.
        path: The blob.
        seen: What was found bad; anything else under the name is left alone, or put back.
        problem: What is wrong with it, for the log.
        now: The wall clock's time, in seconds since the epoch.

    Returns:
        Whether it was moved; if not, something else has its name now, or nothing.

    Raises:
        StoreError: It cannot be moved.
    """
    directory = root / "quarantine"
    make_private_directory(root, directory)
    moment = int(now * 1000)
    while os.path.lexists(kept := directory / f"{path.name}.{moment}"):
        moment += 1
    with store_errors(f"cannot move the bad blob {path} out of the way"):
        try:
            if Fingerprint.of(path.lstat()) != seen:
                return False
            path.rename(kept)
            moved = Fingerprint.of(kept.lstat())
        except FileNotFoundError:
            return False  # another process was faster
        if moved != seen and moved.is_file:
            put_back(kept, path)
            return False
    logger.warning(
        "cached blob failed verification; it will be fetched again",
        extra=facts(blob=path, problem=problem, kept=kept),
    )
    for entry in superfluous(list_quarantine(root), now=now):
        with contextlib.suppress(OSError):
            remove_entry(entry.path)
    return True


def list_quarantine(root: Path) -> list[Quarantined]:
    """What is in quarantine, the newest first; nothing if it cannot be read."""
    found = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(root / "quarantine"):
            match = _NAME.fullmatch(entry.name)
            if match is not None:
                size_bytes = entry.stat(follow_symlinks=False).st_size
                found.append(Quarantined(Path(entry.path), size_bytes, int(match[2]) / 1000))
    return sorted(found, key=lambda each: each.since_s, reverse=True)


def superfluous(entries: Iterable[Quarantined], *, now: float) -> list[Quarantined]:
    """Which of ``entries``, the newest first, are too old, too many or too much."""
    gone = []
    size_bytes = 0
    for count, entry in enumerate(entries, start=1):
        size_bytes += entry.size_bytes
        if now - entry.since_s >= KEPT_S or count > KEPT_ENTRIES or size_bytes > KEPT_BYTES:
            gone.append(entry)
    return gone
