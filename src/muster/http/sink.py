"""Where an exchange's bytes go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["ResponseSink"]


class ResponseSink(Protocol):
    """The way to one client."""

    @property
    def congested(self) -> bool:
        """Whether the client has so much unread that no more should be buffered."""
        ...

    def send(self, data: bytes) -> None:
        """Hand bytes to the network; a no-op once the client has gone."""
        ...

    async def drained(self) -> None:
        """Wait until the client has read enough for more bytes to be worth buffering."""
        ...

    async def send_file(
        self, descriptor: int, start: int, stop: int, on_sent: Callable[[int], None]
    ) -> None:
        """Send bytes ``start`` to ``stop`` (exclusive) of a file, behind what was sent before.

        See ``SizedBody.send_file``.
        """
        ...
