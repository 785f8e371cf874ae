"""The signs of life of a stream: its headers in time, and comments while it is silent."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from muster.frontend.openai.stream_rules import StreamRules
from muster.http.exchange import Exchange

__all__ = ["KEEP_ALIVE", "Pulse"]

KEEP_ALIVE = b":\n\n"
"""A comment, which readers of events skip."""


class Pulse:
    """Sends a stream's events, its headers before them, and comments when nothing else is sent.

    One timer a stream, set again only when it fires: events cost a look at the clock. Comments are
    left out while the client does not read. A context manager around the sending, which begins with
    ``start`` or the first events; the stream's end is not its business.

    Args:
        exchange: The client's.
        rules: After what time each is sent.
    """

    __slots__ = ("_exchange", "_loop", "_rules", "_sent", "_timer")

    def __init__(self, exchange: Exchange, rules: StreamRules) -> None:
        self._exchange = exchange
        self._rules = rules
        self._loop = asyncio.get_running_loop()
        self._sent = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        if self._timer is not None:
            self._timer.cancel()

    def start(self) -> None:
        """The request is at its engines: from now on the headers do not wait for long."""
        if self._timer is not None:
            return
        if self._rules.peek_s > 0:
            self._timer = self._loop.call_later(self._rules.peek_s, self._beat)
        else:
            self._beat()

    def send(self, events: bytes) -> None:
        """Send events."""
        exchange = self._exchange
        if exchange.started:
            exchange.write(events)
        else:
            exchange.start_stream(events)
            self.start()
        self._sent = self._loop.time()

    def _beat(self) -> None:
        exchange, now = self._exchange, self._loop.time()
        period = self._rules.keep_alive_s
        if not exchange.started:
            exchange.start_stream()
            self._sent = now
        elif period and now >= self._sent + period:
            if not exchange.congested:
                exchange.write(KEEP_ALIVE)
            self._sent = now
        if period:
            self._timer = self._loop.call_at(self._sent + period, self._beat)
