"""Leases of the file backend: when a record counts as dead, and the thread that keeps ours alive.

``Liveness`` decides, from values: no clock is read and no file touched. ``LeaseKeeper`` is a thread
of its own, so an event loop that is blocked for any time loses nothing (code that holds the
interpreter's lock for longer than the time to live does lose the record, until the thread runs
again and writes it anew).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import msgspec

__all__ = ["DYNAMO_TTL_S", "LeaseKeeper", "Liveness", "refresh_interval"]

logger = logging.getLogger(__name__)

DYNAMO_TTL_S = 10.0
"""Age at which a Dynamo 1.6.1 process deletes a record; it has no setting for it."""


def refresh_interval(ttl_s: float) -> float:
    """Seconds between refreshes: a third of the time to live, and never slower than Dynamo needs."""
    return min(ttl_s, DYNAMO_TTL_S) / 3


class Liveness(msgspec.Struct, frozen=True, gc=False):
    """What is known of one record's lease; times are those of the viewer's monotonic clock.

    At first sight there is only the file's time to go by, so the wall clock counts: the age is
    ``wall - mtime``, and a time in the future counts as now. From then on a lease lives as long as
    its file's time changes at least once per time to live, whatever the wall clock does meanwhile.
    """

    mtime_ns: int
    expires_at: float

    @classmethod
    def first_sight(cls, mtime_ns: int, *, ttl_s: float, monotonic: float, wall: float) -> Liveness:
        """The record was not known before."""
        age = max(0.0, wall - mtime_ns / 1e9)
        return cls(mtime_ns, monotonic + ttl_s - age)

    def seen_again(
        self, mtime_ns: int, *, ttl_s: float, monotonic: float, wall: float, since: float
    ) -> Liveness:
        """The record was looked at again.

        A changed time was set at some moment after ``since``, when it was not yet there: that
        bounds its age, so a wall clock that jumps cannot age a record we look at often enough; and
        the wall clock bounds it for a viewer that has not looked for long.

        Args:
            mtime_ns: The file's time now.
            ttl_s: The time to live.
            monotonic: Now.
            wall: Now, by the wall clock.
            since: Monotonic time of an earlier look at this record.
        """
        if mtime_ns == self.mtime_ns:
            return self
        age = min(max(0.0, wall - mtime_ns / 1e9), max(0.0, monotonic - since))
        return Liveness(mtime_ns, monotonic + ttl_s - age)

    def expired(self, monotonic: float) -> bool:
        """Whether the lease has run out, as far as is known."""
        return monotonic > self.expires_at


class LeaseKeeper:
    """A daemon thread that calls ``refresh`` at an interval until it is stopped.

    Args:
        refresh: Refreshes every lease. What it raises is logged, and it is called again.
        interval_s: Seconds from one call to the next; a slow call shortens the pause after it.
    """

    def __init__(self, refresh: Callable[[], None], *, interval_s: float) -> None:
        self._refresh = refresh
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="muster-lease-keeper", daemon=True)

    def start(self) -> None:
        """Start the thread; the first refresh comes after one interval."""
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Make no further call and wait for one that runs; idempotent, from any thread."""
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        due = time.monotonic() + self._interval_s
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due = time.monotonic() + self._interval_s
            try:
                self._refresh()
            except Exception:
                # The thread must outlive any error: without it every record would be lost.
                logger.exception(
                    "refreshing leases failed; trying again in %.1f s", self._interval_s
                )
