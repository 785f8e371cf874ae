"""A process's side of its link to the supervisor, and through it to the other processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import msgspec
from prometheus_client import CollectorRegistry

from muster.clock import SYSTEM_CLOCK, Clock
from muster.frontend.api_error import ApiError
from muster.frontend.dashboard.events import RecentEvents
from muster.frontend.guard.admission import Admission
from muster.frontend.guard.busy import Thresholds
from muster.frontend.guard.limiter import Limiter
from muster.frontend.health import Verdict
from muster.frontend.metrics import FrontendMetrics
from muster.frontend.model_counts import ModelCounts
from muster.frontend.processes.messages import (
    AskPage,
    Changed,
    Channel,
    Done,
    Drain,
    Gone,
    Merged,
    Note,
    Page,
    Ready,
    Scrape,
    Seen,
    Tally,
    Tick,
)
from muster.frontend.processes.pages import page_of
from muster.frontend.processes.tallies import SummedCounts, summed, tally_of
from muster.frontend.processes.usage_table import UsageTable
from muster.frontend.report import ProcessReport

__all__ = ["Siblings"]

_PERIOD_S = 1.0
_SHARE = 50
"""Unasked pages may take one part in so many of the time."""
_ANSWER_S = 5.0
_MOST_BACKLOG = 1 << 20
"""Unread bytes beyond which the supervisor is told nothing more than answers."""


class Siblings:
    """The other processes of this frontend, as far as this one knows them. One loop's thread only.

    Args:
        channel: To the supervisor.
        process: This process's number, from 0.
        count: How many processes there are to be.
        expected: Names the others serve; this process listens when it serves them, too.
        restarts: How often it was started again.
        started: When the frontend started, in seconds since the epoch.
        usages: What holders of API keys use in all processes, where there are keys.
        clock: Where the time comes from.

    Attributes:
        count: How many processes there are to be.
        all_drain: Whether the supervisor has said that all processes are to end; one that ends
            alone leaves new connections to the others.
        limiter: Keeps the limits of API keys for all processes together.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        process: int,
        count: int = 1,
        expected: Collection[str] = (),
        restarts: int = 0,
        started: float = 0.0,
        usages: UsageTable | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._channel = channel
        self._clock = clock
        self._restarts = restarts
        self._metrics: FrontendMetrics | None = None
        self._registry = CollectorRegistry()
        self._admission: Admission | None = None
        self._verdict: Callable[[], Verdict] = lambda: Verdict("unavailable", "it starts")
        self._served: Callable[[], Iterable[str]] = tuple
        self._events: RecentEvents | None = None
        self._shut_down: Callable[[], None] = _nothing
        self._others: dict[int, Seen] = {}
        self._tallies: dict[int, dict[str, Tally]] = {}
        self._past: dict[str, Tally] = {}
        self._told: dict[str, Tally] = {}
        self._told_served: list[str] | None = None
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Merged | Done]] = {}
        self._page_at = 0.0
        self._pending: dict[str, Changed] = {}
        self.all_drain = False
        self.process = process
        self.count = count
        self.expected = frozenset(expected)
        self.started = started
        self.limiter = Limiter(usages.usage if usages is not None else None)

    @property
    def is_first(self) -> bool:
        """Whether no process had this number before."""
        return self._restarts == 0

    def attach(
        self,
        *,
        metrics: FrontendMetrics,
        registry: CollectorRegistry,
        admission: Admission,
        verdict: Callable[[], Verdict],
        served: Callable[[], Iterable[str]],
        events: RecentEvents,
    ) -> None:
        """Say where this process's own state is.

        Args:
            metrics: Its counts.
            registry: All its metrics.
            admission: Its busy thresholds.
            verdict: Gives what it alone says of its health.
            served: Gives the names it serves.
            events: Where what happens to other processes is noted.
        """
        self._metrics = metrics
        self._registry = registry
        self._admission = admission
        self._verdict = verdict
        self._served = served
        self._events = events

    async def run(self, *, shut_down: Callable[[], None], orphaned: Callable[[], None]) -> None:
        """Listen to the supervisor and tell it how this process does, until cancelled.

        Args:
            shut_down: Begins an orderly end, if none has begun; called when all are to end. It is
                no signal: whoever sends one to every process at once, as systemd does, would see
                it counted as the second, which cuts off what is in flight.
            orphaned: Called once, when the supervisor is gone; nothing is done after that.
        """
        self._shut_down = shut_down
        async with asyncio.TaskGroup() as group:
            ticking = group.create_task(self._tick_on())
            while (message := await self._channel.from_supervisor()) is not None:
                self._heard(message)
            ticking.cancel()
        orphaned()

    def settle(self) -> None:
        """Use what the others use, as far as that is known; before this process listens."""
        self._use_thresholds()

    def ready(self, port: int, admin_port: int) -> None:
        """Say that this process listens."""
        self._channel.send(Ready(port, admin_port))

    # -- one view ----------------------------------------------------------------------------

    async def page(self) -> bytes:
        """The metrics of all processes, in the text format.

        Raises:
            ApiError: 503 if the supervisor does not answer; this process's own counts alone would
                look as if counters went down.
        """
        reply = await self._ask(lambda number: Scrape(number, page_of(self._registry)))
        if not isinstance(reply, Merged):
            raise ApiError(
                503, "The metrics of all processes cannot be put together", slug="no_supervisor"
            )
        return reply.text

    async def tell_thresholds(self, model: str, thresholds: Thresholds) -> None:
        """Have all processes use these, as this one does; waits until they do, or a few seconds.

        A process that is late, or does not know the model yet, uses them as soon as it can.
        """
        values = msgspec.structs.asdict(thresholds)
        await self._ask(lambda number: Changed(number, model, values))

    def counts(self) -> Mapping[str, ModelCounts | SummedCounts]:
        """The counts of all processes, by model; the others' are up to a second old."""
        assert self._metrics is not None  # noqa: S101 - attached before anybody asks
        metrics = self._metrics
        return summed(metrics.by_model, [*self._tallies.values(), self._past], metrics.bounds)

    def verdicts(self) -> Sequence[tuple[int, Verdict]]:
        """What the other processes say of their health, by number; up to a second old."""
        return [
            (number, Verdict(seen.tick.status, seen.tick.message))
            for number, seen in sorted(self._others.items())
        ]

    def reports(self) -> tuple[ProcessReport, ...]:
        """How all processes do; one that is being started again is not among them."""
        own = self._verdict()
        found = [
            ProcessReport(
                process=self.process,
                pid=os.getpid(),
                status=own.status,
                message=own.message,
                restarts=self._restarts,
                active=_active(self._present().values()),
            )
        ]
        found += [
            ProcessReport(
                process=number,
                pid=seen.pid,
                status=seen.tick.status,
                message=seen.tick.message,
                restarts=seen.restarts,
                active=_active(self._tallies.get(number, {}).values()),
            )
            for number, seen in self._others.items()
        ]
        return tuple(sorted(found, key=lambda report: report.process))

    def _present(self) -> dict[str, Tally]:
        by_model = self._metrics.by_model if self._metrics is not None else {}
        return {name: tally_of(counts) for name, counts in by_model.items()}

    # -- messages ----------------------------------------------------------------------------

    def _heard(
        self, message: AskPage | Merged | Seen | Gone | Note | Changed | Done | Drain
    ) -> None:
        match message:
            case AskPage():
                self._channel.send(Page(message.number, page_of(self._registry)))
            case Merged() | Done():
                future = self._waiting.get(message.number)
                if future is not None and not future.done():
                    future.set_result(message)
            case Seen():
                self._others[message.process] = message
                self._tallies.setdefault(message.process, {}).update(message.tick.tallies)
            case Gone():
                self._others.pop(message.process, None)
                self._tallies.pop(message.process, None)
                self._past |= message.past
            case Drain():
                self.all_drain = True
                self._shut_down()
            case Note():
                if self._events is not None:
                    self._events.add(
                        message.level, message.what, detail=message.detail, at=message.at
                    )
            case Changed():
                self._pending[message.model] = message
                self._use_thresholds()
                self._channel.send(Done(message.number))

    def _use_thresholds(self) -> None:
        """Set those whose model is known; the others wait for it."""
        if self._admission is None:
            return
        for model, change in [*self._pending.items()]:
            if self._admission.set(model, change.thresholds) is not None:
                del self._pending[model]

    async def _ask(self, question: Callable[[int], Scrape | Changed]) -> Merged | Done | None:
        self._number += 1
        number = self._number
        future: asyncio.Future[Merged | Done] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._channel.send(question(number))
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ANSWER_S):
                    return await future
            return None
        finally:
            del self._waiting[number]

    # -- once a second -----------------------------------------------------------------------

    async def _tick_on(self) -> None:
        while True:
            if self._channel.backlog < _MOST_BACKLOG:
                self._tick()
            await asyncio.sleep(_PERIOD_S)

    def _tick(self) -> None:
        if self._pending:
            self._use_thresholds()
        present = self._present()
        changed = {name: tally for name, tally in present.items() if self._told.get(name) != tally}
        served = sorted(self._served())
        verdict = self._verdict()
        is_same = served == self._told_served
        self._channel.send(
            Tick(changed, verdict.status, verdict.message, None if is_same else served)
        )
        self._told, self._told_served = present, served
        begun = self._clock.monotonic()
        if changed and begun >= self._page_at:
            self._channel.send(Page(0, page_of(self._registry)))
            took = self._clock.monotonic() - begun
            self._page_at = begun + took * _SHARE


def _nothing() -> None:
    """Before ``run``, nobody hears the supervisor."""


def _active(tallies: Iterable[Tally]) -> int:
    return sum(tally.active for tally in tallies)
