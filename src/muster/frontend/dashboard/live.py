"""``GET /v1/muster/live``: what the dashboard and ``muster top`` show, as server-sent events.

One task looks for all who watch, once a second. While nobody does, it only reads the metrics'
counts, so that whoever comes later sees the last ten minutes.
"""

from __future__ import annotations

import asyncio
import logging
import secrets

import msgspec

from muster.clock import SYSTEM_CLOCK, Clock
from muster.errors import StoreError, TransportError
from muster.frontend.api_error import ApiError
from muster.frontend.dashboard.cache_summary import summarise_cache
from muster.frontend.dashboard.exclusion_notes import ExclusionNotes
from muster.frontend.dashboard.feed import Feed
from muster.frontend.dashboard.sources import LiveSources
from muster.frontend.dashboard.state import LiveState
from muster.frontend.dashboard.traffic import Traffic
from muster.frontend.dashboard.view import CacheView
from muster.frontend.health import HealthState
from muster.frontend.metrics import FrontendMetrics
from muster.frontend.model_table import ModelTable
from muster.frontend.processes.siblings import Siblings
from muster.http.exchange import Exchange
from muster.log import facts
from muster.tasks import TaskOwner

__all__ = ["Live"]

logger = logging.getLogger(__name__)

_PERIOD_S = 1.0
_SHARE = 20
"""Looking may take one part in so many of the time: a large fleet is looked at less often..."""
_LONGEST_PERIOD_S = 5.0
"""... but as often as this: an event in this time is what tells watchers that the stream lives."""
_LINGER_S = 15.0
"""How long it goes on for a watcher that lost its connection and comes back."""
_CACHE_PERIOD_S = 10.0
_MOST_WATCHERS = 100

_encode = msgspec.json.Encoder().encode


class Live:
    """The stream of what changes, and the task behind it.

    Args:
        table: The models.
        metrics: The counts.
        health: Whether the frontend drains.
        required: Models without which ``/health`` is 503.
        sources: Everything else there is to show.
        siblings: The other processes of this frontend, whose requests are shown as well.
        clock: Where the time comes from.
    """

    def __init__(
        self,
        table: ModelTable,
        metrics: FrontendMetrics,
        health: HealthState,
        *,
        required: tuple[str, ...] = (),
        sources: LiveSources | None = None,
        siblings: Siblings | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._table = table
        self._sources = sources if sources is not None else LiveSources()
        self._clock = clock
        self._traffic = Traffic((lambda: metrics.by_model) if siblings is None else siblings.counts)
        self._state = LiveState(
            table,
            health,
            required=required,
            traffic=self._traffic,
            sources=self._sources,
            started=clock.wall() if siblings is None else siblings.started,
            others=None if siblings is None else siblings.verdicts,
            process_count=1 if siblings is None else siblings.count,
        )
        self._is_first = siblings is None or siblings.is_first
        self._tasks = TaskOwner("dashboard")
        self._feed: Feed | None = None
        self._watchers = 0
        self._left_at = 0.0
        self._look_at = 0.0
        self._cache: CacheView | None = None
        self._scan_at = 0.0
        self._is_scanning = False
        self._was_stale = False
        self._exclusions = ExclusionNotes()
        self._ended = False

    @property
    def watchers(self) -> int:
        """How many watch."""
        return self._watchers

    def start(self) -> None:
        """Begin to count."""
        if self._is_first:  # of one started again, the supervisor tells all
            self._sources.events.add("info", "frontend started")
        self._count()
        self._tasks.start(self._run(), name="look")

    def end(self) -> None:
        """Tell watchers that the frontend drains, and let them go. Idempotent."""
        if not self._ended and self._feed is not None:
            self._look(self._feed)
            self._feed.close()
        self._ended = True

    async def close(self) -> None:
        """Stop. Idempotent."""
        self.end()
        await self._tasks.close()

    async def handle(self, exchange: Exchange) -> None:
        """Stream a snapshot and then changes, until the client leaves or the frontend drains.

        With ``last-event-id`` a watcher goes on where it was, if that is not long ago. One that reads
        too slowly misses what came in between and gets another snapshot.

        Raises:
            ApiError: 503 if there are too many watchers, or the frontend drains.
        """
        if exchange.method == "HEAD":
            exchange.respond(200, b"", content_type="text/event-stream")
            return
        if self._ended:
            raise ApiError(503, "The service is shutting down", slug="draining")
        if self._watchers >= _MOST_WATCHERS:
            raise ApiError(503, f"{_MOST_WATCHERS} clients watch already", slug="too_many_watchers")
        self._watchers += 1
        try:
            await self._watch(exchange, self._feed or self._begin())
        except TransportError as error:
            logger.info("dropped a watcher", extra=facts(reason=error.message))
        finally:
            self._watchers -= 1
            self._left_at = self._clock.monotonic()

    async def _watch(self, exchange: Exchange, feed: Feed) -> None:
        position = feed.position_of(exchange.header(b"last-event-id"))
        exchange.start_stream(b"retry: 2000\n\n")
        while True:
            data = feed.after(position)
            position = feed.position
            exchange.write(data)
            await exchange.drained()
            if not await feed.moved(position):
                break
        exchange.end()

    # -- the one task ------------------------------------------------------------------------

    async def _run(self) -> None:
        due = self._clock.monotonic()
        while True:
            due = max(due + _PERIOD_S, self._clock.monotonic())
            await asyncio.sleep(due - self._clock.monotonic())
            self._count()
            self._note_registry()
            self._note_exclusions()
            if self._feed is not None and not self._ended:
                self._serve(self._feed)

    def _count(self) -> None:
        self._traffic.sample(wall=self._clock.wall(), monotonic=self._clock.monotonic())

    def _note_registry(self) -> None:
        stale = self._table.registry.report()
        if (stale is not None) is not self._was_stale:
            self._was_stale = stale is not None
            if stale is not None:
                self._sources.events.add("warning", "registry out of reach", detail=stale.reason)
            else:
                self._sources.events.add("info", "registry read again")

    def _note_exclusions(self) -> None:
        for note in self._exclusions.look(self._sources.standing()):
            level = "warning" if note.reason else "info"
            what = (
                "an instance gets no requests" if note.reason else "an instance gets requests again"
            )
            instance = f"{note.instance_id:x}"
            detail = f"{instance}: {note.reason}" if note.reason else instance
            self._sources.events.add(level, what, model=note.model, detail=detail)

    def _serve(self, feed: Feed) -> None:
        now = self._clock.monotonic()
        if not self._watchers and now - self._left_at > _LINGER_S:
            self._feed = None
            return
        if now >= self._look_at:
            try:
                self._look(feed)
            except Exception:
                # A mistake of ours in what is shown must not stop the counting.
                logger.exception("the dashboard could not look at the fleet")
                self._look_at = now + _LONGEST_PERIOD_S

    def _begin(self) -> Feed:
        """Look once, and from now on every second."""
        feed = self._feed = Feed(secrets.token_hex(4), self._state.snapshot)
        self._scan_at = 0.0
        self._look(feed)
        return feed

    def _look(self, feed: Feed) -> None:
        begun = self._clock.monotonic()
        if self._sources.store is not None and not self._is_scanning and begun >= self._scan_at:
            self._is_scanning = True
            self._scan_at = begun + _CACHE_PERIOD_S
            self._tasks.start(self._scan(), name="scan the cache")
        feed.publish(_encode(self._state.refresh(self._clock.wall(), self._cache)))
        took = self._clock.monotonic() - begun
        self._look_at = begun + min(took * _SHARE, _LONGEST_PERIOD_S) - _PERIOD_S / 2

    async def _scan(self) -> None:
        store = self._sources.store
        assert store is not None  # noqa: S101 - the caller has looked
        try:
            inventory = await asyncio.to_thread(store.scan)
            self._cache = summarise_cache(inventory, self._sources.max_bytes)
        except (StoreError, OSError) as error:
            self._cache = CacheView(path=str(store.root), error=str(error))
        finally:
            self._is_scanning = False
