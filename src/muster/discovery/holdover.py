"""Which removals to believe after the registry was out of reach; no I/O, time is passed in.

A registry that comes back forgets at first: leases ran out while nobody could refresh them, or its
data is gone, and every live process needs a moment to register again. So a removal that is seen
while the registry is out of reach, or within a grace period after that, counts only when the period
is over and nobody has written the record again. The last known fleet goes on serving meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

__all__ = ["Holdover"]


class Holdover:
    """Removals that are not believed yet.

    Args:
        grace_s: How long after the registry is back a removal may be a slip.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._until = -math.inf
        self._held: set[str] = set()

    def lost(self) -> None:
        """The registry is out of reach."""
        self._until = math.inf

    def recovered(self, now: float) -> None:
        """The registry is back."""
        self._until = now + self._grace_s

    def removed(self, keys: Iterable[str], now: float) -> list[str]:
        """Records were removed; returns those of which that is to be believed at once."""
        if now >= self._until:
            return [*keys]
        self._held.update(keys)
        return []

    def written(self, keys: Iterable[str]) -> None:
        """Records are there, so they are held no more."""
        self._held.difference_update(keys)

    def due_at(self) -> float | None:
        """When held removals are to be believed; ``None`` while there are none, or no end to see."""
        return self._until if self._held and self._until < math.inf else None

    def release(self, now: float) -> list[str]:
        """The held removals that are believed now; the others stay."""
        if now < self._until:
            return []
        released, self._held = sorted(self._held), set()
        return released
