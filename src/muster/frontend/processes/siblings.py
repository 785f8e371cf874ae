"""A process's side of its link to the supervisor, and through it to the other processes."""

from __future__ import annotations

import asyncio
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
)
from muster.frontend.processes.others import Others
from muster.frontend.processes.own_state import OwnState
from muster.frontend.processes.questions import Questions
from muster.frontend.processes.tallies import SummedCounts, active_of
from muster.frontend.processes.usage_table import UsageTable
from muster.frontend.report import ProcessReport

__all__ = ["Siblings"]

_PERIOD_S = 1.0
_SHARE = 50
"""Unasked pages may take one part in so many of the time."""
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
        self._own = OwnState()
        self._others = Others()
        self._questions = Questions(channel)
        self._admission: Admission | None = None
        self._events: RecentEvents | None = None
        self._shut_down: Callable[[], None] = _nothing
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
        self._own.attach(metrics=metrics, registry=registry, verdict=verdict, served=served)
        self._admission = admission
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
        reply = await self._questions.ask(lambda number: Scrape(number, self._own.page()))
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
        await self._questions.ask(lambda number: Changed(number, model, values))

    def counts(self) -> Mapping[str, ModelCounts | SummedCounts]:
        """The counts of all processes, by model; the others' are up to a second old."""
        return self._own.counts_with(self._others.tallies())

    def verdicts(self) -> Sequence[tuple[int, Verdict]]:
        """What the other processes say of their health, by number; up to a second old."""
        return self._others.verdicts()

    def reports(self) -> tuple[ProcessReport, ...]:
        """How all processes do; one that is being started again is not among them."""
        verdict = self._own.verdict()
        own = ProcessReport(
            process=self.process,
            pid=os.getpid(),
            status=verdict.status,
            message=verdict.message,
            restarts=self._restarts,
            active=active_of(self._own.tallies().values()),
        )
        found = [own, *self._others.reports()]
        return tuple(sorted(found, key=lambda report: report.process))

    # -- messages ----------------------------------------------------------------------------

    def _heard(
        self, message: AskPage | Merged | Seen | Gone | Note | Changed | Done | Drain
    ) -> None:
        match message:
            case AskPage():
                self._channel.send(Page(message.number, self._own.page()))
            case Merged() | Done():
                self._questions.answered(message)
            case Seen():
                self._others.seen(message)
            case Gone():
                self._others.gone(message)
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

    # -- once a second -----------------------------------------------------------------------

    async def _tick_on(self) -> None:
        while True:
            if self._channel.backlog < _MOST_BACKLOG:
                self._tick()
            await asyncio.sleep(_PERIOD_S)

    def _tick(self) -> None:
        if self._pending:
            self._use_thresholds()
        tick = self._own.next_tick()
        self._channel.send(tick)
        begun = self._clock.monotonic()
        if tick.tallies and begun >= self._page_at:
            self._channel.send(Page(0, self._own.page()))
            took = self._clock.monotonic() - begun
            self._page_at = begun + took * _SHARE


def _nothing() -> None:
    """Before ``run``, nobody hears the supervisor."""
