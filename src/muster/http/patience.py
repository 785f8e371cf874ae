"""How long a client may be silent: one timer a connection, looked at now and then."""

from __future__ import annotations

import asyncio
from typing import Protocol

from muster.http.limits import HttpLimits
from muster.http.request_reader import RequestReader

__all__ = ["Patience", "Watched"]


class Watched(Protocol):
    """The connection whose client is waited for."""

    @property
    def busy(self) -> bool:
        """Whether a request is being answered, or waits to be: then nobody waits for the client."""
        ...

    def give_up(self, limit_s: float | None) -> None:
        """The client took too long: ``limit_s`` for a request, or, if ``None``, to send one."""
        ...


class Patience:
    """Waits for one client.

    Args:
        limits: How long.
        reader: Whether something arrives, and how far it has come.
        watched: The connection.
    """

    __slots__ = ("_body_since", "_limits", "_loop", "_reader", "_since", "_timer", "_watched")

    def __init__(self, limits: HttpLimits, reader: RequestReader, watched: Watched) -> None:
        self._limits = limits
        self._reader = reader
        self._watched = watched
        self._loop = asyncio.get_running_loop()
        self._since = self._body_since = self._loop.time()
        self._timer = self._loop.call_later(self._period_s, self._look)

    def heard(self) -> None:
        """Something came."""
        if self._reader.head_done or not self._reader.arriving:
            # A head's silence counts from its first byte: one byte now and then does not help.
            self._since = self._loop.time()

    def body_begins(self) -> None:
        """The head is whole."""
        self._body_since = self._since

    def begin_anew(self) -> None:
        """A response has been sent; the next request is waited for."""
        self._since = self._body_since = self._loop.time()

    def end(self) -> None:
        """Wait no more; idempotent."""
        self._timer.cancel()

    @property
    def _period_s(self) -> float:
        return min(self._limits.request_s, self._limits.idle_s)

    def _look(self) -> None:
        reader, limits, now = self._reader, self._limits, self._loop.time()
        limit_s = limits.request_s if reader.arriving else limits.idle_s
        left_s = self._since + limit_s - now
        if reader.arriving and reader.head_done:
            limit_s += reader.body_bytes / limits.body_bytes_per_s
            left_s = min(left_s, self._body_since + limit_s - now)
        if self._watched.busy or left_s > 0:
            delay_s = min(left_s, self._period_s) if left_s > 0 else self._period_s
            self._timer = self._loop.call_later(delay_s, self._look)
        else:
            self._watched.give_up(limit_s if reader.arriving else None)
