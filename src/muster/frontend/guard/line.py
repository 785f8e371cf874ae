"""A bounded line in which the first to come is the first to be served. Pure."""

from __future__ import annotations

__all__ = ["Line"]


class Line:
    """Places in order of arrival.

    Args:
        limit: How many may stand in it.
    """

    __slots__ = ("_places", "_tickets", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._places: dict[int, None] = {}
        self._tickets = 0

    def __len__(self) -> int:
        return len(self._places)

    @property
    def first(self) -> int | None:
        """The ticket whose turn it is; ``None`` if nobody waits."""
        return next(iter(self._places), None)

    def join(self) -> int | None:
        """A ticket for the last place; ``None`` if the line is full."""
        if len(self._places) >= self.limit:
            return None
        self._tickets += 1
        self._places[self._tickets] = None
        return self._tickets

    def leave(self, ticket: int) -> None:
        """Give up a place, wherever in the line it is; a no-op if it was given up before."""
        self._places.pop(ticket, None)
