"""Which files of some directories changed, by ``watchfiles``: where there is no inotify.

A thin shell around its Rust part. Its properties, measured with 1.3: it sleeps in steps and reports
a burst one step after it began; an ``utime`` is reported like a write; events that arrive while it
returns for another reason are dropped; a file name that is not UTF-8 breaks it for good; a directory
that is removed or renamed is watched no more.
"""

from __future__ import annotations

from collections.abc import Sequence

from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

from muster.discovery.directory import RecordDirectory
from muster.discovery.wake import Wake
from muster.errors import DiscoveryError

__all__ = ["WatchfilesNotifier"]

_STEP_MS = 15
"""One step's sleep: a change is known after one to two of them; each costs some 40 us."""
_DEBOUNCE_MS = 15


class WatchfilesNotifier:
    """Watches some directories by ``watchfiles``; see ``Notifier`` and ``open_notifier``.

    Args:
        directories: What to watch; made if missing.

    Raises:
        DiscoveryError: If one cannot be made or watched.
    """

    def __init__(self, directories: Sequence[RecordDirectory]) -> None:
        for directory in directories:
            directory.ensure()
        self.paths = frozenset(directory.path for directory in directories)
        self._identities = [(directory, directory.identity()) for directory in directories]
        try:
            self._rust = RustNotify(sorted(self.paths), False, False, 0, False, False)
        except (OSError, WatchfilesRustInternalError) as error:
            raise DiscoveryError(
                f"cannot watch {', '.join(sorted(self.paths))}: {error}",
                hint="the kernel's limits fs.inotify.max_user_instances and max_user_watches "
                "may be too low",
            ) from error

    def wait(self, timeout_s: float, wake: Wake) -> set[str] | None:
        """Wait for changes: paths of files that may have changed.

        ``None``: the time is over or ``wake`` is set; changes at that moment may have been dropped.

        Raises:
            DiscoveryError: If the watcher is broken; make a new one.
        """
        timeout_ms = max(1, int(timeout_s * 1000))
        try:
            changes = self._rust.watch(_DEBOUNCE_MS, _STEP_MS, timeout_ms, wake)
        except WatchfilesRustInternalError as error:
            raise DiscoveryError(f"watching the registry failed: {error}") from error
        return None if isinstance(changes, str) else {path for _, path in changes}

    def intact(self) -> bool:
        """Whether the directories watched are still those at their paths."""
        return all(directory.identity() == known for directory, known in self._identities)

    def close(self) -> None:
        """Stop watching."""
        self._rust.close()
