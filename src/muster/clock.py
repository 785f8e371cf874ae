"""Time as a parameter, so that decisions that depend on it can be tested without waiting.

Two readings, never mixed: ``monotonic`` for durations and deadlines (a changed wall clock moves
nothing), ``wall`` for what other machines and people read.
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["SYSTEM_CLOCK", "Clock", "SystemClock"]


class Clock(Protocol):
    """Source of the two times."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...

    def wall(self) -> float:
        """Seconds since the Unix epoch; may jump."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def monotonic(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()


SYSTEM_CLOCK: Clock = SystemClock()
