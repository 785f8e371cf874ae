"""The operating system's word on which files of some directories changed.

On Linux that is ``InotifyNotifier``, elsewhere ``WatchfilesNotifier``. ``None`` from ``wait`` and
``intact`` are how the caller learns that it has to look, and read, for itself.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Protocol

from muster.discovery.directory import RecordDirectory
from muster.discovery.inotify import InotifyNotifier
from muster.discovery.wake import Wake

__all__ = ["Notifier", "open_notifier"]

_HAS_INOTIFY = sys.platform.startswith("linux")


class Notifier(Protocol):
    """Watches some directories, not those in them. For one thread.

    Attributes:
        paths: The directories.
    """

    paths: frozenset[str]

    def wait(self, timeout_s: float, wake: Wake) -> set[str] | None:
        """Wait for changes: paths of files, or of a directory, that may have changed.

        None of them: the time is over or ``wake`` is set. ``None``: changes may have been dropped.

        Raises:
            DiscoveryError: If the watcher is broken; make a new one.
        """
        ...

    def intact(self) -> bool:
        """Whether the directories watched are still those at their paths."""
        ...

    def close(self) -> None:
        """Stop watching."""
        ...


def open_notifier(directories: Sequence[RecordDirectory]) -> Notifier:
    """Watch these directories by the best means this system has; they are made if missing.

    Raises:
        DiscoveryError: If one cannot be made or watched (the system limits the number of watchers).
    """
    if _HAS_INOTIFY:
        return InotifyNotifier(directories)
    from muster.discovery.watchfiles_notifier import WatchfilesNotifier

    return WatchfilesNotifier(directories)
