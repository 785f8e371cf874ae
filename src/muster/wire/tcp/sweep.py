"""Deadlines of many waits, kept by one timer.

A timer per wait would cost more than the wait itself at tens of thousands a second; here a wait
only stores a number. Deadlines are kept to within ``interval_s``.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

__all__ = ["Expiring", "Sweep"]


class Expiring(Protocol):
    """Something that waits until ``deadline`` (the loop's time in seconds)."""

    deadline: float

    def expire(self) -> None:
        """The deadline has passed. Called at most once per ``add``; must not raise."""
        ...


class Sweep:
    """Expires what it holds; idle while it holds nothing.

    Args:
        interval_s: How often it looks.
    """

    __slots__ = ("_interval_s", "_timer", "_waits")

    def __init__(self, interval_s: float = 0.25) -> None:
        self._interval_s = interval_s
        self._waits: set[Expiring] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waits)

    def add(self, wait: Expiring) -> None:
        """Watch ``wait``; its deadline may be moved while it is watched."""
        self._waits.add(wait)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._interval_s, self._look, loop)

    def discard(self, wait: Expiring) -> None:
        """Stop watching ``wait``; a no-op if it is not watched."""
        self._waits.discard(wait)

    def close(self) -> None:
        """Forget everything."""
        self._waits.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for wait in [wait for wait in self._waits if wait.deadline <= now]:
            self._waits.discard(wait)
            wait.expire()
        self._timer = loop.call_later(self._interval_s, self._look, loop) if self._waits else None
