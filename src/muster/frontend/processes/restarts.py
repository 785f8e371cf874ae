"""How long a process that has ended waits until it is started again: pure."""

from __future__ import annotations

__all__ = ["RestartPause"]

_FIRST_S = 0.1
_LONGEST_S = 30.0
_SETTLED_S = 60.0


class RestartPause:
    """Pauses that double, from 0.1 s to 30 s, and begin anew after a minute of life."""

    __slots__ = ("_next_s",)

    def __init__(self) -> None:
        self._next_s = _FIRST_S

    def after(self, lived_s: float) -> float:
        """Seconds to wait now that the process has ended after ``lived_s``."""
        if lived_s >= _SETTLED_S:
            self._next_s = _FIRST_S
        pause, self._next_s = self._next_s, min(self._next_s * 2, _LONGEST_S)
        return pause
