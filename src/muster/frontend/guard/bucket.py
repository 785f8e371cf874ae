"""A token bucket: so much at once, and so much a second. Pure; the time is passed in."""

from __future__ import annotations

__all__ = ["TokenBucket"]


class TokenBucket:
    """Holds up to ``capacity`` units and gains ``per_second`` of them; begins full.

    It may be in debt: what is known only afterwards (the tokens of an answer) is charged then.
    A clock that goes back changes nothing.

    Args:
        capacity: Most units it holds; positive.
        per_second: Units gained a second; positive.
        now: The time, in seconds, of any clock that the later calls use, too.
    """

    __slots__ = ("_level", "_since", "capacity", "per_second")

    def __init__(self, capacity: float, per_second: float, now: float) -> None:
        self.capacity = capacity
        self.per_second = per_second
        self._level = capacity
        self._since = now

    @property
    def state(self) -> tuple[float, float]:
        """What ``restore`` takes: the level, and when it was that."""
        return self._level, self._since

    def restore(self, level: float, since: float) -> None:
        """Be as another bucket of this capacity was."""
        self._level, self._since = level, since

    def level(self, now: float) -> float:
        """Units in it; negative in debt."""
        if now > self._since:
            gained = (now - self._since) * self.per_second
            self._level = min(self.capacity, self._level + gained)
            self._since = now
        return self._level

    def charge(self, units: float, now: float) -> None:
        """Take ``units``, whether they are there or not."""
        self._level = self.level(now) - units

    def wait_s(self, units: float, now: float) -> float:
        """Seconds until ``units`` (at most ``capacity``) are there; 0 if they are."""
        missing = units - self.level(now)
        return missing / self.per_second if missing > 0 else 0.0

    def full_in_s(self, now: float) -> float:
        """Seconds until it is full if nothing more is taken."""
        return (self.capacity - self.level(now)) / self.per_second
