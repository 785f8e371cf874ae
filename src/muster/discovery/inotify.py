"""Linux's word on which files of some directories changed: inotify, through the C library.

The thread sleeps in the kernel until there is something to say, so waiting costs nothing, and a
change is known at once. A file's time being set is no news, so a fleet that refreshes its leases
wakes nobody: that is why this is not left to ``watchfiles``, which polls, and reports it as a
write. Formats are those of inotify(7).
"""

from __future__ import annotations

import ctypes
import functools
import os
import select
import struct
from collections.abc import Iterator, Sequence

from muster.discovery.directory import TEMP_PREFIX, RecordDirectory
from muster.discovery.wake import Wake
from muster.errors import DiscoveryError

__all__ = ["InotifyNotifier"]

_MODIFY, _MOVED_FROM, _MOVED_TO = 0x2, 0x40, 0x80
_CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x100, 0x200, 0x400, 0x800
_OVERFLOW, _IGNORED, _ONLY_DIRECTORY = 0x4000, 0x8000, 0x0100_0000
_MASK = (
    _MODIFY | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF
    | _ONLY_DIRECTORY
)  # fmt: skip
_EVENT = struct.Struct("iIII")
_BUFFER_BYTES = 1 << 16
_TEMP_PREFIX = TEMP_PREFIX.encode()


class InotifyNotifier:
    """Watches some directories, not those in them; see ``Notifier``.

    Args:
        directories: What to watch; made if missing.

    Raises:
        DiscoveryError: If one cannot be made or watched (the system limits the number of watchers).
    """

    def __init__(self, directories: Sequence[RecordDirectory]) -> None:
        for directory in directories:
            directory.ensure()
        self.paths = frozenset(directory.path for directory in directories)
        self._identities = [(directory, directory.identity()) for directory in directories]
        self._watched: dict[int, str] = {}
        self._lost = False
        self._descriptor = _checked(_libc().inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify")
        try:
            for path in self.paths:
                number = _libc().inotify_add_watch(self._descriptor, os.fsencode(path), _MASK)
                self._watched[_checked(number, path)] = path
        except DiscoveryError:
            self.close()
            raise

    def wait(self, timeout_s: float, wake: Wake) -> set[str] | None:
        """Wait for changes: paths of files, or of a directory, that may have changed.

        None of them: the time is over or ``wake`` is set. ``None``: there was more than the kernel
        could note.

        Raises:
            DiscoveryError: If the watcher is broken; make a new one.
        """
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        poll.register(wake.fileno(), select.POLLIN)
        ready = poll.poll(max(1, int(timeout_s * 1000)))
        if [descriptor for descriptor, _ in ready] != [self._descriptor]:
            return set()
        try:
            data = os.read(self._descriptor, _BUFFER_BYTES)
        except BlockingIOError:
            return set()
        except OSError as error:
            raise DiscoveryError(f"watching the registry failed: {error}") from error
        changed: set[str] = set()
        for watch, mask, name in _events(data):
            if mask & _OVERFLOW:
                return None
            # The directory is gone. One made in its place may have its inode.
            self._lost = self._lost or bool(mask & _IGNORED)
            directory = self._watched.get(watch)
            if directory is not None and not name.startswith(_TEMP_PREFIX):
                changed.add(f"{directory}/{os.fsdecode(name)}" if name else directory)
        return changed

    def intact(self) -> bool:
        """Whether the directories watched are still those at their paths."""
        return not self._lost and all(
            directory.identity() == known for directory, known in self._identities
        )

    def close(self) -> None:
        """Stop watching."""
        os.close(self._descriptor)


def _events(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Watch, mask and name of each event; the name is empty if it is the directory itself."""
    offset = 0
    while offset < len(data):
        watch, mask, _cookie, length = _EVENT.unpack_from(data, offset)
        offset += _EVENT.size
        yield watch, mask, data[offset : offset + length].rstrip(b"\0")
        offset += length


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        raise DiscoveryError(
            f"cannot watch {what}: {os.strerror(ctypes.get_errno())}",
            hint="the kernel's limits fs.inotify.max_user_instances and max_user_watches "
            "may be too low",
        )
    return result
