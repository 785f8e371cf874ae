"""What the supervisor knows of its processes, and passes on between them.

The metrics of all are put together here. What a process counted stays counted when it has ended:
its last page is kept, counters and histograms of it, so that no counter ever goes down. A page is
kept from every scrape before anybody is shown it, and from time to time unasked, so a process that
is killed takes along what it counted in the last seconds at most.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections import deque
from collections.abc import Callable, Iterator

from muster.clock import SYSTEM_CLOCK
from muster.frontend.processes.messages import (
    AskPage,
    Changed,
    Channel,
    Done,
    Drain,
    Family,
    Gone,
    Merged,
    Note,
    Page,
    Scrape,
    Seen,
    Tally,
    Tick,
)
from muster.frontend.processes.pages import lasting, merge, render
from muster.frontend.processes.tallies import add, without_present
from muster.log import facts
from muster.tasks import TaskOwner

__all__ = ["Hub"]

logger = logging.getLogger(__name__)

_PAGE_S = 1.0
"""How long a scrape waits for a process; after that, what it said last is shown."""
_CHANGE_S = 2.0
_MOST_NOTES = 50


@dataclasses.dataclass(slots=True)
class _Seat:
    """One of the processes, whichever has this number at present."""

    channel: Channel | None = None
    pid: int = 0
    restarts: int = 0
    is_late: bool = False
    page: list[Family] = dataclasses.field(default_factory=list)
    tallies: dict[str, Tally] = dataclasses.field(default_factory=dict)
    tick: Tick | None = None
    served: list[str] = dataclasses.field(default_factory=list)


class Hub:
    """Keeps what each process says, and answers what one asks about all. The loop's thread only.

    Args:
        count: How many processes there are; their numbers begin at 0.
    """

    def __init__(self, count: int) -> None:
        self._seats = [_Seat() for _ in range(count)]
        self._past_page: list[Family] = []
        self._past: dict[str, Tally] = {}
        self._thresholds: dict[str, Changed] = {}
        self._waiting: dict[int, tuple[int, asyncio.Future[None]]] = {}
        self._notes: deque[Note] = deque(maxlen=_MOST_NOTES)
        self._number = 0
        self._tasks = TaskOwner("hub")

    # -- processes come and go ---------------------------------------------------------------

    def joined(self, process: int, channel: Channel, *, pid: int, restarts: int) -> None:
        """A process has been started; it is told all that the others know."""
        seat = self._seats[process]
        seat.channel, seat.pid, seat.restarts, seat.is_late = channel, pid, restarts, False
        for number, other in enumerate(self._seats):
            if number != process and other.tick is not None:
                tick = Tick(other.tallies, other.tick.status, other.tick.message, other.served)
                channel.send(Seen(number, other.pid, other.restarts, tick))
        if self._past:
            channel.send(Gone(process, self._past))
        for change in self._thresholds.values():
            channel.send(change)
        for note in self._notes:
            channel.send(note)

    def left(self, process: int) -> None:
        """A process has ended. What it counted stays."""
        seat = self._seats[process]
        changed = {}
        for name, tally in seat.tallies.items():
            known = [self._past[name]] if name in self._past else []
            self._past[name] = changed[name] = add([*known, without_present(tally)])
        self._past_page = merge([self._past_page, lasting(seat.page)])
        seat.channel, seat.tick = None, None
        seat.page, seat.tallies, seat.served = [], {}, []
        for number, (asked, future) in self._waiting.items():
            if asked == process and not future.done():
                logger.debug("a process left unanswered", extra=facts(number=number))
                future.set_result(None)
        self._tell(Gone(process, changed), besides=process)

    def note(self, level: str, what: str, detail: str) -> None:
        """Have something in the list of events of all processes, also those started later."""
        note = Note(SYSTEM_CLOCK.wall(), level, what, detail)
        self._notes.append(note)
        self._tell(note, besides=-1)

    def drain(self, process: int) -> None:
        """Tell a process that all are to end."""
        channel = self._seats[process].channel
        if channel is not None:
            channel.send(Drain())

    def served(self) -> list[str]:
        """Names that every process that has said so serves; for one that joins them."""
        lists = [set(seat.served) for seat in self._seats if seat.tick is not None]
        return sorted(set.intersection(*lists)) if lists else []

    async def close(self) -> None:
        """Answer nothing more. Idempotent."""
        await self._tasks.close()

    # -- what they say -----------------------------------------------------------------------

    def heard(self, process: int, message: Tick | Page | Scrape | Changed | Done) -> None:
        """A message from a process that has joined."""
        seat = self._seats[process]
        match message:
            case Tick():
                seat.tick = message
                seat.tallies |= message.tallies
                if message.served is not None:
                    seat.served = message.served
                self._tell(Seen(process, seat.pid, seat.restarts, message), besides=process)
            case Page():
                seat.page = message.families
                self._answered(message.number)
            case Scrape():
                seat.page = message.families
                self._tasks.start(self._scrape(process, message.number), name="scrape")
            case Changed():
                self._thresholds[message.model] = message
                self._tasks.start(self._change(process, message), name="thresholds")
            case Done():
                self._answered(message.number)

    def _answered(self, number: int) -> None:
        _, future = self._waiting.get(number, (0, None))
        if future is not None and not future.done():
            future.set_result(None)

    async def _scrape(self, process: int, number: int) -> None:
        missing = await self._ask(process, AskPage, _PAGE_S)
        for other, seat in enumerate(self._seats):
            is_late = other in missing
            if is_late and not seat.is_late:
                logger.warning(
                    "a process does not say its metrics; its last ones are shown",
                    extra=facts(late=other, pid=seat.pid),
                )
            seat.is_late = is_late
        pages = [self._past_page, *(seat.page for seat in self._seats), [*self._own_families()]]
        channel = self._seats[process].channel
        if channel is not None:
            channel.send(Merged(number, render(merge(pages))))

    async def _change(self, process: int, change: Changed) -> None:
        def to_send(number: int) -> Changed:
            return Changed(number, change.model, change.thresholds)

        missing = await self._ask(process, to_send, _CHANGE_S)
        if missing:
            logger.warning("thresholds have not reached all processes", extra=facts(late=missing))
        channel = self._seats[process].channel
        if channel is not None:
            channel.send(Done(change.number, tuple(missing)))

    async def _ask(
        self, asker: int, question: Callable[[int], AskPage | Changed], timeout_s: float
    ) -> list[int]:
        """Ask all others; the numbers of those that did not answer in time."""
        futures: dict[int, asyncio.Future[None]] = {}
        numbers = []
        for other, seat in enumerate(self._seats):
            if other == asker or seat.channel is None:
                continue
            self._number += 1
            numbers.append(self._number)
            futures[other] = asyncio.get_running_loop().create_future()
            self._waiting[self._number] = (other, futures[other])
            seat.channel.send(question(self._number))
        try:
            if futures:
                await asyncio.wait(futures.values(), timeout=timeout_s)
        finally:
            for number in numbers:
                del self._waiting[number]
        return [other for other, future in futures.items() if not future.done()]

    def _own_families(self) -> Iterator[Family]:
        up, restarts = [], []
        for number, seat in enumerate(self._seats):
            labels = {"process": str(number)}
            is_up = seat.channel is not None and not seat.is_late
            up.append(("muster_process_up", labels, float(is_up)))
            restarts.append(("muster_process_restarts_total", labels, float(seat.restarts)))
        text = "Whether a process runs and said its metrics; 0 where its last ones are shown."
        yield Family("muster_process_up", text, "gauge", up)
        text = "How often a process was started again."
        yield Family("muster_process_restarts", text, "counter", restarts)

    def _tell(self, message: Seen | Gone | Note, *, besides: int) -> None:
        for number, seat in enumerate(self._seats):
            if number != besides and seat.channel is not None:
                seat.channel.send(message)
