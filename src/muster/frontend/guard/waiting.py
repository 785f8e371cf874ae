"""Requests that wait for a place when every instance of their model is full."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from muster.errors import Overloaded
from muster.frontend.api_error import ApiError
from muster.frontend.engine_stream import ResponseStream
from muster.frontend.guard.line import Line
from muster.frontend.served_model import Generate
from muster.llm.protocol import EngineOutput, EngineRequest
from muster.metrics import Histogram, HistogramChild
from muster.runtime import Context

__all__ = ["WaitingRooms"]

_LOOK_S = 0.01
"""How often the first in line looks for a place. An instance's place is known to be free as soon as
a request through this process ends, or some time after it was refused; looking costs microseconds."""
_BUCKETS = (0.01, 0.022, 0.047, 0.1, 0.22, 0.47, 1, 2.2, 4.7, 10, 22, 48, 100)

T = TypeVar("T")


class _Room:
    """One model's line."""

    def __init__(self, model: str, limit: int, timeout_s: float, waited: HistogramChild) -> None:
        self._model = model
        self._timeout_s = timeout_s
        self._waited = waited
        self._turns: dict[int, asyncio.Future[None]] = {}
        self.line = Line(limit)
        self.left: Counter[str] = Counter()

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """The result of ``attempt``, which is made again while it raises ``Overloaded``."""
        if not self.line:  # who comes later must not overtake
            try:
                return await attempt()
            except Overloaded:
                pass
        ticket = self.line.join()
        if ticket is None:
            self.left["full"] += 1
            raise self._refused(f"{self.line.limit} requests wait for a place already")
        start = time.monotonic()
        outcome = "cancelled"
        try:
            async with asyncio.timeout(self._timeout_s):
                result = await self._stand(ticket, attempt)
            outcome = "served"
        except TimeoutError:
            outcome = "timeout"
            raise self._refused(f"no place became free within {self._timeout_s:g} s") from None
        except Exception:
            outcome = "failed"
            raise
        else:
            return result
        finally:
            self.left[outcome] += 1
            self._waited.observe(time.monotonic() - start)
            self._leave(ticket)

    async def _stand(self, ticket: int, attempt: Callable[[], Awaitable[T]]) -> T:
        if self.line.first != ticket:
            turn = self._turns[ticket] = asyncio.get_running_loop().create_future()
            await turn
        while True:
            try:
                return await attempt()
            except Overloaded:
                await asyncio.sleep(_LOOK_S)

    def _leave(self, ticket: int) -> None:
        self._turns.pop(ticket, None)
        self.line.leave(ticket)
        first = self.line.first
        turn = None if first is None else self._turns.get(first)
        if turn is not None and not turn.done():
            turn.set_result(None)

    def _refused(self, why: str) -> ApiError:
        return ApiError(
            503, f"All workers of `{self._model}` are busy, and {why}", slug="queue_exhausted"
        )


class WaitingRooms(Collector):
    """The lines of all models, and their metrics.

    While a line is empty a request that finds a place costs one call more. The first in line looks
    for a place; those behind it wait for their turn.

    Args:
        limit: How many may wait for each model; 0 for no lines at all.
        timeout_s: How long one may wait.
    """

    def __init__(self, limit: int, timeout_s: float) -> None:
        self._limit = limit
        self._timeout_s = timeout_s
        self._rooms: dict[str, _Room] = {}
        self._waited = Histogram(
            "muster_queue_wait_seconds",
            "How long requests waited for a place, whatever came of it.",
            ["model"],
            buckets=_BUCKETS,
            registry=None,
        )

    def around(self, model: str, generate: Generate) -> Generate:
        """``generate``, with a line before it; itself if there are no lines.

        What it returns raises ``ApiError`` (503, with Retry-After) when the line is full, or the time
        is up, and no ``Overloaded``. All of one model's share a line.
        """
        if not self._limit:
            return generate
        room = self._rooms.get(model)
        if room is None:
            room = self._rooms[model] = _Room(
                model, self._limit, self._timeout_s, self._waited.labels(model)
            )

        async def waiting(
            request: EngineRequest, *, context: Context
        ) -> ResponseStream[EngineOutput]:
            return await room.run(lambda: generate(request, context=context))

        return waiting

    def waiting(self, model: str) -> int:
        """How many wait for a place at ``model``."""
        room = self._rooms.get(model)
        return 0 if room is None else len(room.line)

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering does not collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """How many wait, and what became of those who did."""
        waiting = GaugeMetricFamily(
            "muster_queue_waiting", "Requests that wait for a place.", labels=["model"]
        )
        left = CounterMetricFamily(
            "muster_queue_left",
            "Requests that found every place taken, by what became of them: served, timeout, full "
            "(not let in), failed, cancelled.",
            labels=["model", "outcome"],
        )
        for model, room in self._rooms.items():
            waiting.add_metric([model], len(room.line))
            for outcome, count in room.left.items():
                left.add_metric([model, outcome], count)
        yield waiting
        yield left
        yield from self._waited.collect()
