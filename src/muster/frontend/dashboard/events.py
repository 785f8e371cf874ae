"""What has happened lately, in a list of bounded length: for people who come and look."""

from __future__ import annotations

from collections import deque

import msgspec

from muster.clock import Clock

__all__ = ["Event", "RecentEvents"]

_MOST = 200
_LONGEST = 500


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened.

    Attributes:
        number: Ascending from 1 in one process.
        at: When, in seconds since the epoch.
        level: ``info``, ``warning`` or ``error``.
        what: In a few words.
        model: The model it is about; empty if about none.
        code: Reason code, if there is one.
        detail: More for people; long ones are cut.
        mdcsum: The card it is about, if about one.
    """

    number: int
    at: float
    level: str
    what: str
    model: str = ""
    code: str = ""
    detail: str = ""
    mdcsum: str = ""


class RecentEvents:
    """The last 200 events, oldest first. The event loop's thread only.

    Args:
        clock: Where the time comes from.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._events: deque[Event] = deque(maxlen=_MOST)
        self.count = 0

    def add(
        self,
        level: str,
        what: str,
        *,
        model: str = "",
        code: str = "",
        detail: str = "",
        mdcsum: str = "",
        at: float | None = None,
    ) -> None:
        """Note one, which happened now unless ``at`` says when."""
        self.count += 1
        self._events.append(
            Event(
                number=self.count,
                at=round(self._clock.wall() if at is None else at, 3),
                level=level,
                what=what,
                model=model,
                code=code,
                detail=detail if len(detail) <= _LONGEST else f"{detail[: _LONGEST - 1]}…",
                mdcsum=mdcsum,
            )
        )

    def after(self, number: int) -> tuple[Event, ...]:
        """Those with a higher number that are still known, oldest first."""
        if number >= self.count:
            return ()
        return tuple(event for event in self._events if event.number > number)
