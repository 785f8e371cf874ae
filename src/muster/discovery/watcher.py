"""The thread that keeps views of directories up to date.

It looks when the operating system says that files changed (only while someone watches), at the
moment the next lease may run out, and at an interval in any case: that is the net under lost
notifications, and what makes every live process remove the records of dead ones.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable

from muster.clock import Clock
from muster.discovery.base import Staleness
from muster.discovery.notifier import Notifier, open_notifier
from muster.discovery.view import BucketView
from muster.discovery.wake import Wake
from muster.errors import DiscoveryError
from muster.log import facts

__all__ = ["ViewWatcher"]

logger = logging.getLogger(__name__)

_SLACK_S = 0.02
"""Added to a lease's end, so that it has run out when we look."""
_ERROR_PAUSE_S = 1.0
_FIRST_PAUSE_S = 0.1


class ViewWatcher:
    """One daemon thread for all views of a process.

    Args:
        poll_interval_s: Seconds between looks at everything.
        clock: The times.
    """

    def __init__(self, *, poll_interval_s: float, clock: Clock) -> None:
        self._poll_interval_s = poll_interval_s
        self._clock = clock
        self._views: tuple[BucketView, ...] = ()
        self._notifier: Notifier | None = None
        self._retry_at = 0.0
        self._next_poll = clock.monotonic() + poll_interval_s
        self.staleness: Staleness | None = None
        self._misses = 0
        self._wake = Wake()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="muster-discovery", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def add(self, view: BucketView) -> None:
        """Look after ``view`` too. Not to be called by two threads at once."""
        self._views += (view,)
        self._wake.set()

    def wake(self) -> None:
        """A watch was opened: see to it that the operating system tells of changes."""
        self._wake.set()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Stop and wait for the thread; idempotent, from any thread."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._turn()
            except Exception:
                # The thread must outlive any error: without it no change would be seen any more.
                logger.exception("watching the registry failed; going on")
                self._drop_notifier(_ERROR_PAUSE_S)
                self._wake.wait(_ERROR_PAUSE_S)
        self._drop_notifier(0.0)
        self._wake.close()

    def _turn(self) -> None:
        """Wait for one reason to look, and look."""
        self._wake.open()
        self._wake.clear()
        self._cover()
        due = self._due()
        paths = self._wait(max(0.0, due - self._clock.monotonic()))
        if self._stopping:
            return
        now = self._clock.monotonic()
        if now >= self._next_poll:
            self._next_poll = now + self._poll_interval_s
            self._check_notifier()
        if paths is not None:
            self._look(paths)
        if paths is None or now >= due:
            self._rescan(self._views, missed=paths is None)

    def _cover(self) -> None:
        """Make the notifier watch what the open watches need, and nothing else."""
        watched = [view for view in self._views if view.watched]
        wanted = {view.directory.path for view in watched}
        if self._notifier and self._notifier.paths != wanted:
            self._drop_notifier(0.0)
        if not wanted or self._notifier or self._clock.monotonic() < self._retry_at:
            return
        try:
            self._notifier = open_notifier([view.directory for view in watched])
        except DiscoveryError as error:
            self._misses += 1
            if self._misses == 1:  # a directory may go in the moment it is to be watched
                self._drop_notifier(min(_FIRST_PAUSE_S, self._poll_interval_s))
                return
            self._drop_notifier(self._poll_interval_s)
            if self._misses == 2:
                logger.warning("no notifications; looking regularly", extra=facts(reason=error))
            return
        self._misses = 0
        # What changed before the notifier was up has to be looked for.
        self._rescan(watched)
        for view in watched:
            view.notified = True

    def _drop_notifier(self, pause_s: float) -> None:
        self._retry_at = self._clock.monotonic() + pause_s
        for view in self._views:
            view.notified = False
        if self._notifier:
            self._notifier.close()
            self._notifier = None

    def _check_notifier(self) -> None:
        if self._notifier and not self._notifier.intact():
            self._drop_notifier(0.0)

    def _wait(self, timeout_s: float) -> set[str] | None:
        """Paths that may have changed; ``None`` means look at everything."""
        if self._notifier is None:
            self._wake.wait(timeout_s)
            return None
        try:
            return self._notifier.wait(timeout_s, self._wake)
        except DiscoveryError as error:
            logger.warning("no notifications for a moment", extra=facts(reason=error))
            self._drop_notifier(_ERROR_PAUSE_S)
            return None

    def _due(self) -> float:
        """When everything has to be looked at, whatever notifications say."""
        due = self._next_poll
        if self._retry_at > self._clock.monotonic():
            due = min(due, self._retry_at)
        for view in self._views:
            expiry = view.next_expiry()
            if expiry is not None:
                due = min(due, expiry + _SLACK_S)
        return due

    def _look(self, paths: set[str]) -> None:
        names: dict[str, list[str]] = {}
        for path in paths:
            directory, name = os.path.split(path)
            names.setdefault(directory, []).append(name)
        for view in self._views:
            if view.directory.path in paths:
                # The directory itself: it was removed or renamed, if not just touched.
                self._rescan([view])
                self._check_notifier()
            view.look(names.get(view.directory.path, ()))

    def _rescan(self, views: Iterable[BucketView], *, missed: bool = False) -> None:
        failure: DiscoveryError | None = None
        for view in views:
            try:
                view.rescan(missed=missed)
            except DiscoveryError as error:
                failure = error
        if failure is None:
            self.staleness = None
        elif self.staleness is None:
            logger.warning("cannot read the registry", extra=facts(reason=failure))
            self.staleness = Staleness(since=self._clock.wall(), reason=failure.message)
