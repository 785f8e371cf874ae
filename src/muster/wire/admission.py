"""How many requests a process handles at a time, and how many more may wait for a place."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from typing import Protocol

__all__ = ["Admission", "WorkCounts"]


class WorkCounts(Protocol):
    """Is told of requests that wait, run and are refused; see ``WorkHandlerMetrics``."""

    queue_capacity: int
    pool_capacity: int

    def queued(self) -> None:
        """A request waits for a place."""
        ...

    def unqueued(self) -> None:
        """It does not wait any more."""
        ...

    def waited(self, seconds: float) -> None:
        """A request got its place after this long."""
        ...

    def running(self) -> None:
        """A request has a place."""
        ...

    def finished(self) -> None:
        """A request gave its place back."""
        ...

    def rejected(self) -> None:
        """A request was refused."""
        ...


class Admission:
    """Places, and a queue for them: first come, first served.

    ``admit`` decides when a request arrives, so that a refusal is its acknowledgement; the place is
    taken when the request is about to be handled.

    Args:
        places: Requests handled at a time.
        queue: Requests that may wait.
        counts: Told of what happens.
        most: Requests that may be there at a time, whatever places and queue say.
    """

    def __init__(
        self, places: int, queue: int, counts: WorkCounts, *, most: float = math.inf
    ) -> None:
        self._places = places
        self._limit = min(places + queue, most)
        self._counts = counts
        self._running = 0
        self._admitted = 0
        self._waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        counts.pool_capacity = places
        counts.queue_capacity = queue

    def admit(self) -> bool:
        """Whether one more request may come; if so it must ``leave`` at its end."""
        if self._admitted >= self._limit:
            self._counts.rejected()
            return False
        self._admitted += 1
        return True

    def leave(self) -> None:
        """An admitted request has ended."""
        self._admitted -= 1

    async def take_place(self) -> None:
        """Wait for a place; whoever has one must ``give_place_back``."""
        if self._running < self._places:
            self._counts.waited(0.0)
        else:
            await self._wait()
        self._running += 1
        self._counts.running()

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting[turn] = None
        self._counts.queued()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._running -= 1  # it was our turn: the next one's now
                self._next()
            else:
                self._waiting.pop(turn, None)
            raise
        finally:
            self._counts.unqueued()
        self._running -= 1  # kept for us since our turn came
        self._counts.waited(loop.time() - began)

    def give_place_back(self) -> None:
        """A request has been handled: whose turn it is goes on."""
        self._running -= 1
        self._counts.finished()
        self._next()

    def _next(self) -> None:
        while self._waiting and self._running < self._places:
            turn, _ = self._waiting.popitem(last=False)
            if not turn.done():
                self._running += 1  # kept until it runs, so that nobody slips in
                turn.set_result(None)
