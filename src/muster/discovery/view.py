"""What this process knows of one bucket's directory, and the changes that follow from looking.

A view remembers each record's bytes and lease. Looking again (at everything, or at the files the
operating system named) compares, tells the watches what changed, and removes records whose lease
has run out. It reads the disk through ``RecordDirectory`` and decides by ``Liveness``; when to look
is the caller's business.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable

from muster.clock import Clock
from muster.discovery.base import Change, prefix_matches
from muster.discovery.directory import TEMP_PREFIX, RecordDirectory, Stamp
from muster.discovery.feed import Feed
from muster.discovery.lease import Liveness
from muster.errors import DiscoveryError
from muster.log import facts
from muster.names import decode_file_name

__all__ = ["BucketView"]

logger = logging.getLogger(__name__)

_REREAD_S = 60.0
"""How long bytes are believed that only notifications could have said to be others."""


class _Entry:
    """One file: ``visible`` is whether the outside knows it, with this value.

    ``stamp`` is the latest that was seen, ``read`` that of the bytes.
    """

    __slots__ = ("key", "liveness", "read", "stamp", "value", "visible")

    def __init__(self, key: str, stamp: Stamp, value: bytes, liveness: Liveness) -> None:
        self.key = key
        self.stamp = stamp
        self.read = stamp
        self.value = value
        self.liveness = liveness
        self.visible = False


class BucketView:
    """The records of one bucket as last seen. Calls block on the disk; safe from any thread.

    Args:
        directory: The bucket's directory.
        ttl_s: Time to live of a record nobody refreshes.
        clock: The times.
        is_own: Whether the record at a path is ours: ours lives as long as we do, so a viewer that
            wakes before its own lease keeper does not remove it.

    Attributes:
        notified: Whether ``look`` is called for each file that is written or replaced. A file that
            looks as it did but for its time was refreshed then, and is not read for that.
    """

    def __init__(
        self,
        directory: RecordDirectory,
        *,
        ttl_s: float,
        clock: Clock,
        is_own: Callable[[str], bool],
    ) -> None:
        self.directory = directory
        self.notified = False
        self._ttl_s = ttl_s
        self._clock = clock
        self._is_own = is_own
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._feeds: list[Feed] = []
        self._changes: list[Change] = []
        self._complained: set[str] = set()
        self._looked_at = clock.monotonic()
        self._reread_at = self._looked_at + _REREAD_S
        self._next_expiry = math.inf
        self._ended = False

    @property
    def watched(self) -> bool:
        """Whether a watch is open on it."""
        return any(not feed.ended for feed in self._feeds)

    def rescan(self, *, missed: bool = False) -> None:
        """Look at every file; reads those that may have other bytes, if anybody watches.

        Args:
            missed: Notifications may have been dropped.

        Raises:
            DiscoveryError: If the directory exists and cannot be read.
        """
        with self._lock:
            self._rescan(reread=self.watched and (missed or not self.notified))

    def look(self, names: Iterable[str]) -> None:
        """Look at these files; names that are no records are passed over."""
        with self._lock:
            now = self._clock.monotonic()
            for name in names:
                if not name.startswith(TEMP_PREFIX):
                    self._look(name, now)
            self._publish()

    def records(self, prefix: str) -> dict[str, bytes]:
        """Look at every file, then give the live records under ``prefix``.

        Raises:
            DiscoveryError: If the directory exists and cannot be read.
        """
        with self._lock:
            self._rescan(reread=True)
            return {k: v for k, v in self._visible().items() if prefix_matches(prefix, k)}

    def subscribe(self, feed: Feed) -> None:
        """Look at every file, begin ``feed`` with that, and publish to it until it ends.

        Raises:
            DiscoveryError: If the directory exists and cannot be read, or the view has ended.
        """
        with self._lock:
            if self._ended:
                raise DiscoveryError("the registry is closed")
            self._rescan(reread=not self.notified)
            feed.begin(self._visible())
            self._feeds.append(feed)

    def next_expiry(self) -> float | None:
        """Monotonic time at which the next lease runs out if nobody refreshes it.

        It may be too early by what was refreshed since ``rescan``.
        """
        with self._lock:
            return self._next_expiry if self._next_expiry < math.inf else None

    def end(self) -> None:
        """End every watch, and let no more begin."""
        with self._lock:
            self._ended = True
            feeds = self._feeds
        for feed in feeds:
            feed.end()

    def _visible(self) -> dict[str, bytes]:
        return {entry.key: entry.value for entry in self._entries.values() if entry.visible}

    def _rescan(self, *, reread: bool) -> None:
        """Look at every file.

        ``reread``: read each whose time is not that of the bytes. Others are read if they are new,
        of another length or replaced by another file.
        """
        now = self._clock.monotonic()
        if reread or (self.watched and now >= self._reread_at):
            # The net under notifications that a file system does not give.
            reread, self._reread_at = True, now + _REREAD_S
        present = self.directory.scan(self._clock.wall())
        self._complained &= present.keys()
        for name in [name for name in self._entries if name not in present]:
            self._forget(name)
        for name, stamp in present.items():
            entry = self._entries.get(name)
            if entry is not None and (
                entry.read == stamp or (not reread and entry.read.like(stamp))
            ):
                if entry.stamp != stamp:
                    self._meet_again(entry, stamp, now)
                if entry.visible and not entry.liveness.expired(now):
                    continue
            self._look(name, now)
        self._looked_at = now
        self._next_expiry = min(map(self._expiry, self._entries.values()), default=math.inf)
        self._publish()

    def _expiry(self, entry: _Entry) -> float:
        """When the entry's lease runs out; never, if another look cannot make a difference.

        Those overdue at the last look and still shown are our own.
        """
        at = entry.liveness.expires_at
        return at if entry.visible and at >= self._looked_at else math.inf

    def _look(self, name: str, now: float) -> None:
        """Bring one entry up to date with its file."""
        entry = self._entries.get(name)
        key = entry.key if entry else decode_file_name(name)
        if key is None:
            self._complain(name, "the file's name is not a key")
            return
        try:
            found = self.directory.read(name)
        except DiscoveryError as error:
            self._complain(name, str(error))
            found = None
        if found is None:
            self._forget(name)
            return
        stamp, value = found
        if entry is not None:
            self._meet_again(entry, stamp, now)
            entry.read = stamp
        elif value:
            entry = self._meet(name, key, found, now)
        else:
            # Someone is writing it in place and has not got far; another look will follow.
            return
        self._settle(name, entry, value, now)
        self._next_expiry = min(self._next_expiry, self._expiry(entry))

    def _meet(self, name: str, key: str, found: tuple[Stamp, bytes], now: float) -> _Entry:
        stamp, value = found
        liveness = Liveness.first_sight(
            stamp.mtime_ns, ttl_s=self._ttl_s, monotonic=now, wall=self._clock.wall()
        )
        entry = self._entries[name] = _Entry(key, stamp, value, liveness)
        return entry

    def _meet_again(self, entry: _Entry, stamp: Stamp, now: float) -> None:
        entry.stamp = stamp
        entry.liveness = entry.liveness.seen_again(
            stamp.mtime_ns,
            ttl_s=self._ttl_s,
            monotonic=now,
            wall=self._clock.wall(),
            since=self._looked_at,
        )

    def _settle(self, name: str, entry: _Entry, value: bytes, now: float) -> None:
        """Show or hide an entry after a look, and note the change."""
        path = self.directory.path_of(name)
        if entry.liveness.expired(now) and not self._is_own(path):
            self._expire(name, entry)
            return
        # An empty file is one being written in place: what was known stays.
        changed = bool(value) and value != entry.value
        if changed:
            entry.value = value
        if changed or not entry.visible:
            entry.visible = True
            self._changes.append(Change(entry.key, entry.value))

    def _expire(self, name: str, entry: _Entry) -> None:
        if entry.visible:
            logger.info("a record's lease ran out", extra=facts(path=self.directory.path_of(name)))
        self._hide(entry)
        try:
            if self.directory.remove_stale(name, entry.stamp):
                del self._entries[name]
        except DiscoveryError as error:
            # The entry stays, hidden, so that its age is not forgotten.
            self._complain(name, str(error))

    def _forget(self, name: str) -> None:
        entry = self._entries.pop(name, None)
        if entry is not None:
            self._hide(entry)

    def _hide(self, entry: _Entry) -> None:
        if entry.visible:
            entry.visible = False
            self._changes.append(Change(entry.key, None))

    def _complain(self, name: str, reason: str) -> None:
        """Log once per file what is wrong with it."""
        if name not in self._complained:
            self._complained.add(name)
            logger.warning(
                "ignoring a file in the registry",
                extra=facts(path=self.directory.path_of(name), reason=reason),
            )

    def _publish(self) -> None:
        changes, self._changes = self._changes, []
        self._feeds = [feed for feed in self._feeds if not feed.ended]
        if changes:
            for feed in self._feeds:
                feed.publish(changes)
