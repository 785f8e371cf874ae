"""One port's door: what a request passes on its way to its handler."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from muster.frontend.api_error import ApiError
from muster.frontend.guard.access import Rules, identify
from muster.frontend.guard.cors import Cors
from muster.frontend.guard.keys import Holder, KeyRing
from muster.frontend.guard.limiter import Limiter, Usage
from muster.frontend.guard.metrics import GuardMetrics
from muster.http.exchange import Exchange
from muster.http.handler import Handler

__all__ = ["Door", "Keeper"]

Find = Callable[[str, str], Handler]
"""Gives the handler of a method and path, or raises ``ApiError``: ``RouteTable.find``."""


class Keeper:
    """What the doors of all ports share: the keys, and what their holders have used.

    Attributes:
        ring: The keys; ``None`` where nobody needs one.
        limiter: What was used.
        metrics: What was let in.
    """

    def __init__(self, metrics: GuardMetrics, limiter: Limiter | None = None) -> None:
        self.ring: KeyRing | None = None
        self.limiter = limiter if limiter is not None else Limiter()
        self.metrics = metrics

    def use(self, ring: KeyRing) -> None:
        """From now on, these are the keys."""
        self.ring = ring
        self.limiter.keep(ring.names)
        self.metrics.keep(ring.names)
        self.metrics.keys = len(ring)


class Door:
    """Lets requests through: to routes of its port, with a key where one is asked for, within limits.

    Args:
        keeper: The keys.
        rules: Which key which route asks for.
        shows: Whether this port answers a path at all; every path if left out.
        cors: Which other origins' pages may ask.
        clock: Seconds of a clock that does not go back.
    """

    def __init__(
        self,
        keeper: Keeper,
        rules: Rules,
        *,
        shows: Callable[[str], bool] | None = None,
        cors: Cors | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keeper = keeper
        self._rules = rules
        self._shows = shows
        self._cors = cors
        self._clock = clock

    async def handle(self, exchange: Exchange, find: Find) -> None:
        """Answer a request, by its handler or at the door.

        Raises:
            ApiError: 401, 403 or 429 at the door, 404 for a path this port does not have, and
                whatever ``find`` and the handler raise.
        """
        if self._cors is not None and b"origin" in exchange.headers:
            if Cors.is_preflight(exchange.method, exchange.headers):
                exchange.respond(200, b"", headers=self._cors.preflight(exchange.headers))
                return
            exchange.fields += _lines(self._cors.headers(exchange.header(b"origin")))
        holder = self._holder(exchange)
        if not self.shows(exchange.path):
            raise ApiError(
                404,
                f"Route not found: {exchange.method} {exchange.path}",
                slug="route_not_found",
            )
        handler = find(exchange.method, exchange.path)
        if holder is None:
            await handler(exchange)
        else:
            await self._handle_of(holder, exchange, handler)

    def shows(self, path: str) -> bool:
        """Whether this port answers a path at all, if there is a route for it."""
        return self._shows is None or self._shows(path)

    def knows(self, target: bytes, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a request with this head would be let in; asked before a large body is read."""
        if self._keeper.ring is None:
            return True
        path = target.partition(b"?")[0].decode("latin-1")
        try:
            identify(self._keeper.ring, self._rules.of(path), headers)
        except ApiError as error:
            self._keeper.metrics.unauthenticated[error.slug or ""] += 1
            return False
        return True

    def _holder(self, exchange: Exchange) -> Holder | None:
        ring, metrics = self._keeper.ring, self._keeper.metrics
        if ring is None:
            return None
        try:
            holder = identify(ring, self._rules.of(exchange.path), exchange.headers)
        except ApiError as error:
            metrics.unauthenticated[error.slug or ""] += 1
            raise
        if holder is not None:
            exchange.caller = holder.name
        return holder

    async def _handle_of(self, holder: Holder, exchange: Exchange, handler: Handler) -> None:
        keeper = self._keeper
        usage: Usage | None = None
        if exchange.method == "POST":
            usage = keeper.limiter.usage(holder, self._clock())
        if usage is not None:
            try:
                usage.begin(self._clock())
            except ApiError:
                keeper.metrics.requests[holder.name, "limited"] += 1
                raise
            exchange.fields += _lines(usage.headers(self._clock()))
        keeper.metrics.requests[holder.name, "admitted"] += 1
        try:
            await handler(exchange)
        finally:
            if exchange.tokens:
                keeper.metrics.tokens[holder.name] += exchange.tokens
            if usage is not None:
                usage.end(exchange.tokens, self._clock())


def _lines(headers: Mapping[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())
