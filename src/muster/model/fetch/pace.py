"""Whether bytes come fast enough: arithmetic over times and counts that are passed in."""

from __future__ import annotations

__all__ = ["Pace"]

_WINDOW_S = 10.0


class Pace:
    """Watches one transfer.

    Args:
        now: When it began, in seconds on the caller's clock.
        min_rate: Bytes per second below which it is given up; 0 for never.
    """

    __slots__ = ("_began", "_bytes", "_min_rate", "_moved", "_window", "_window_bytes")

    def __init__(self, now: float, *, min_rate: int) -> None:
        self._began = self._moved = self._window = now
        self._min_rate = min_rate
        self._bytes = 0
        self._window_bytes = 0

    def note(self, count: int, now: float) -> None:
        """``count`` bytes came."""
        self._moved = now
        self._bytes += count
        self._window_bytes += count

    def is_too_slow(self, now: float) -> bool:
        """Whether the last ten seconds brought less than the least rate; judged once every ten."""
        elapsed_s = now - self._window
        if not self._min_rate or elapsed_s < _WINDOW_S:
            return False
        slow = self._window_bytes < self._min_rate * elapsed_s
        self._window, self._window_bytes = now, 0
        return slow

    def is_lagging(self, now: float, *, patience_s: float, missing_bytes: int | None) -> bool:
        """Whether it is worth asking somebody else beside it.

        Args:
            now: The time.
            patience_s: How long it may be silent; ten times that may be left at its present rate.
            missing_bytes: How much is still to come, if that is known.
        """
        if now - self._moved >= patience_s:
            return True
        elapsed_s = now - self._began
        if elapsed_s < patience_s or not missing_bytes:
            return False
        return missing_bytes / (self._bytes / elapsed_s) > 10 * patience_s if self._bytes else True
