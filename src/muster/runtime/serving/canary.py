"""Probes of idle endpoints: does the engine still answer?

After a while without an item streamed, a small request is run through the handler in this process.
An engine that is stuck turns its endpoint not ready, with the reason; probing goes on, so it turns
ready by itself. Any item of a real request proves as much as a probe does.

Dynamo 1.6.1 does the same at the same intervals, but says nothing of why, waits a whole interval
before its first probe, and lets probes of a stuck handler pile up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from muster.config.settings import HealthSettings
from muster.errors import EngineError
from muster.log import facts
from muster.names import EndpointId
from muster.runtime.serving.health import HealthBoard
from muster.tasks import TaskOwner

__all__ = ["Canary", "CanarySchedule", "first_item"]

logger = logging.getLogger(__name__)

_CLOSE_S = 2.0


class CanarySchedule:
    """When to probe, and what a probe that failed means. Times are seconds of one clock.

    The first probe is due at once, so that a process is ready as soon as its engine is.

    Args:
        wait_s: How long to be idle before a probe, and the pause after one.
        now: The time now.
    """

    __slots__ = ("_due", "_last_item", "_wait_s")

    def __init__(self, wait_s: float, *, now: float) -> None:
        self._wait_s = wait_s
        self._due = now
        self._last_item = float("-inf")

    def item(self, now: float) -> None:
        """An item of a real request was streamed."""
        self._last_item = now

    def probed(self, now: float) -> None:
        """A probe has ended, or could not begin."""
        self._due = now + self._wait_s

    def due_in(self, now: float) -> float:
        """Seconds until the next probe; 0 if it is due."""
        return max(0.0, self._due - now, self._last_item + self._wait_s - now)

    def counts(self, began: float) -> bool:
        """Whether the failure of a probe begun then says something.

        It does not if an item was streamed meanwhile: the engine is busy, not stuck.
        """
        return self._last_item < began


async def first_item(stream: AsyncIterator[Any]) -> Any:
    """The first item of a handler's answer; the rest is not asked for and the stream is closed.

    Raises:
        EngineError: It ended without one, or its first item is an error event.
    """
    try:
        async for item in stream:
            if isinstance(item, Mapping) and item.get("event") == "error":
                raise EngineError(f"the first item is an error: {item.get('comment')}")
            return item
        raise EngineError("the handler ended without an item")
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()


class Canary:
    """Probes one endpoint until it is closed.

    At most one probe is in flight. One that does not stop when it is told to is kept and no other
    is begun until it ends; closing cancels it.

    Args:
        endpoint: Whose state on the board is set.
        payload: What the probe asks.
        probe: Runs the payload and returns the first item (see ``first_item``); raises if there is
            none or it is an error.
        board: Told of every change; the endpoint has to be on it, not proven.
        settings: Interval and limit.
        now: Seconds of a monotonic clock; by default the running event loop's.
    """

    def __init__(
        self,
        endpoint: EndpointId,
        payload: Any,
        probe: Callable[[Any], Awaitable[Any]],
        board: HealthBoard,
        settings: HealthSettings,
        *,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._payload = payload
        self._probe = probe
        self._board = board
        self._timeout_s = settings.canary_timeout_s
        self._now = now or asyncio.get_running_loop().time
        self._schedule = CanarySchedule(settings.canary_wait_s, now=self._now())
        self._tasks = TaskOwner(f"canary of {endpoint}")
        self._in_flight: asyncio.Task[Any] | None = None
        self._healthy = False

    def start(self) -> None:
        """Begin probing, on the running event loop.

        Raises:
            RuntimeError: It was closed.
        """
        self._tasks.start(self._run(), name="schedule")

    async def close(self) -> None:
        """Stop probing. Idempotent.

        Waits at most two seconds for a probe that does not stop when it is told to, then lets go of
        it with a warning.
        """
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._tasks.close()
        except TimeoutError:
            logger.warning(
                "a canary request does not stop", extra=facts(endpoint=str(self._endpoint))
            )

    def item(self) -> None:
        """An item of a real request that is not an error was streamed. Costs next to nothing."""
        self._schedule.item(self._now())
        if not self._healthy:
            self._set(None)

    async def _run(self) -> None:
        while True:
            pause = self._schedule.due_in(self._now())
            if pause:
                await asyncio.sleep(pause)
                continue
            began = self._now()
            fault = await self._ask()
            if fault is None or self._schedule.counts(began):
                self._set(fault)
            self._schedule.probed(self._now())

    async def _ask(self) -> str | None:
        """Probe once: what is wrong, or ``None``."""
        if self._in_flight is not None and not self._in_flight.done():
            return "canary failed: an earlier request neither ends nor stops"
        task = self._tasks.launch(self._call(), name="request")
        task.add_done_callback(_retrieve)
        self._in_flight = task
        await asyncio.wait({task}, timeout=self._timeout_s)
        if not task.done():
            task.cancel()
            return f"canary failed: no item within {self._timeout_s:g} s"
        return _fault(task)

    async def _call(self) -> Any:
        return await self._probe(self._payload)

    def _set(self, fault: str | None) -> None:
        """Tell the board; a change is logged once, not at every probe."""
        before = self._board.get(self._endpoint)
        self._healthy = fault is None
        self._board.probed(self._endpoint, fault)
        if before is None or before.fault == fault:
            return
        if fault is None:
            logger.info("the engine answers", extra=facts(endpoint=str(self._endpoint)))
        else:
            logger.warning(
                "the engine does not answer",
                extra=facts(endpoint=str(self._endpoint), reason=fault),
            )


def _fault(task: asyncio.Task[Any]) -> str | None:
    if task.cancelled():
        return "canary failed: the handler cancelled the request"
    error = task.exception()
    if error is None:
        return None
    return f"canary failed: {type(error).__qualname__}: {error}"


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Whatever an abandoned request ends with has been reported already."""
    if not task.cancelled():
        task.exception()
