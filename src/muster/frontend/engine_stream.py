"""What the frontend asks of a response stream, whatever carries it."""

from __future__ import annotations

from collections.abc import Sequence
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

    def kill(self) -> None:
        """Drop the response and tell the worker; nothing happens once the stream has ended.

        A ``batch`` that waits then returns empty.
        """
        ...
