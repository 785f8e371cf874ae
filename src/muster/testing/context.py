"""A request's context that stops by itself, for testing what an engine does then."""

from __future__ import annotations

from muster.wire.context import Context

__all__ = ["ManualContext"]


class ManualContext(Context):
    """A context that is stopped when it has been asked often enough.

    ``stop_generating`` and ``kill`` work as ever.

    Args:
        stop_after: Stop at this look at ``is_stopped`` (1 is the first); ``None`` for never.

    Attributes:
        looks: How often ``is_stopped`` was called.
    """

    __slots__ = ("_stop_after", "looks")

    def __init__(self, *, stop_after: int | None = None) -> None:
        super().__init__("manual")
        self._stop_after = stop_after
        self.looks = 0

    def is_stopped(self) -> bool:
        """Whether the request should end early; counts the look."""
        self.looks += 1
        if self.looks == self._stop_after:
            self.stop_generating()
        return super().is_stopped()
