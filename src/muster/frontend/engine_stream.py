"""What the frontend asks of a response stream, whatever carries it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from muster.frontend.journey import Journey

__all__ = ["ResponseStream"]

T_co = TypeVar("T_co", covariant=True)


class ResponseStream(Protocol[T_co]):
    """One response of an engine: items in order, then a clean end or an error."""

    @property
    def journey(self) -> Journey:
        """The instances it came from."""
        ...

    async def batch(self) -> Sequence[T_co]:
        """Wait for an item and return all that have arrived, in order; empty at the clean end.

        Raises:
            MusterError: What ended the stream, after the items before it; again at every call.
        """
        ...

    async def read(self, take: Callable[[Sequence[T_co]], bool]) -> bool:
        """Hand over what arrives, as ``batch`` would return it, until ``take`` has had enough.

        Args:
            take: Gets the items; says whether it wants more. It must neither wait nor raise, and may
                be called in another context than the caller's.

        Returns:
            ``True`` if ``take`` has had enough: reading may go on later. ``False`` at the clean end.

        Raises:
            MusterError: As ``batch``.
        """
        ...

    def kill(self) -> None:
        """Drop the response and tell the worker; nothing happens once the stream has ended.

        A ``batch`` that waits then returns empty, a ``read`` ends.
        """
        ...
