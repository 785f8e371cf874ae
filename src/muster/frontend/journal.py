"""What has become of each card since when: logs each change once, and counts for ``/metrics``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from muster.clock import Clock
from muster.frontend.dashboard.events import RecentEvents
from muster.log import facts
from muster.metrics import Histogram
from muster.model.catalog.group import GroupKey
from muster.model.catalog.status import ModelState, ModelStatus
from muster.model.fetch.resolved import FetchProgress, FetchState

__all__ = ["FleetJournal"]

logger = logging.getLogger(__name__)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

_EVENTS = {
    ModelState.FETCHING: ("info", "fetching"),
    ModelState.SERVING: ("info", "serving"),
    ModelState.RETRYING: ("warning", "cannot be served, tries again"),
    ModelState.REFUSED: ("error", "refused"),
}
"""Level and words of the states that are kept as events."""

_Place = tuple[str, str]
"""A model and where it is: its group's worker set, or the key of a record that cannot be read."""


class _Standing(NamedTuple):
    """What a card has come to, since when, when it was first seen, and how many have it."""

    state: ModelState
    code: str
    since: float
    seen: float
    replicas: int


def _is_on_its_way(known: _Standing | None) -> bool:
    return known is not None and known.state in (ModelState.FETCHING, ModelState.VERIFYING)


def _place(status: ModelStatus) -> _Place:
    if status.group is not None:
        return status.model, status.group.worker_set
    return status.model, status.keys[0] if status.keys else ""


class FleetJournal(Collector):
    """States by card, with their beginnings, and counts of files. The event loop's thread only.

    Args:
        clock: Where the time comes from.
        statuses: Gives all states at present, for ``/metrics``.
    """

    def __init__(self, clock: Clock, statuses: Callable[[], Sequence[ModelStatus]]) -> None:
        self._clock = clock
        self._statuses = statuses
        self._standings: dict[_Place, dict[str, _Standing]] = {}
        self._files: dict[str, int] = {}
        self._bytes = 0
        self.events = RecentEvents(clock)
        self._fetch_seconds = Histogram(
            "muster_fetch_seconds",
            "How long a file took to come here.",
            [],
            buckets=_SECONDS,
            registry=None,
        )
        self._routable_seconds = Histogram(
            "muster_routable_seconds",
            "From a card's first sight to its model being served.",
            [],
            buckets=_SECONDS,
            registry=None,
        )

    def observe(self) -> None:
        """Compare all states with the last time; log and time what has changed."""
        places: dict[_Place, list[ModelStatus]] = {place: [] for place in self._standings}
        for status in self._statuses():
            places.setdefault(_place(status), []).append(status)
        for place, statuses in places.items():
            self._compare(place, statuses)

    def observe_group(self, group: GroupKey, statuses: Sequence[ModelStatus]) -> None:
        """The same for one group, whose states these are; there may be thousands of others."""
        self._compare((group.model, group.worker_set), statuses)

    def since(self, status: ModelStatus) -> float:
        """When a card's present state began, in seconds since the epoch."""
        known = self._standings.get(_place(status), {}).get(status.mdcsum or "")
        return known.since if known is not None else self._clock.wall()

    def _compare(self, place: _Place, statuses: Sequence[ModelStatus]) -> None:
        now = self._clock.wall()
        before = self._standings.get(place, {})
        current: dict[str, _Standing] = {}
        for status in statuses:
            card = status.mdcsum or ""
            known = before.get(card)
            if known is not None and (known.state, known.code) == (status.state, status.code):
                current[card] = self._count_replicas(known, status)
                continue
            seen = known.seen if known is not None else now
            replicas = len(status.keys)
            current[card] = _Standing(status.state, status.code, now, seen, replicas)
            if (
                status.state is not ModelState.RETRYING
                or known is None
                or known.code != status.code
            ):
                self._note(status, known)
            if status.state is ModelState.SERVING:
                self._routable_seconds.labels().observe(now - seen)
            if known is not None or status.state is not ModelState.SEEN:
                self._log(status)
        for card in before.keys() - current.keys():
            self.events.add("info", "gone", model=place[0], mdcsum=card)
        if current:
            self._standings[place] = current
        else:
            self._standings.pop(place, None)

    def _count_replicas(self, known: _Standing, status: ModelStatus) -> _Standing:
        count = len(status.keys)
        if count == known.replicas:
            return known
        what = "a replica came" if count > known.replicas else "a replica left"
        detail = f"{count} of this card, before {known.replicas}"
        self.events.add("info", what, model=status.model, detail=detail, mdcsum=status.mdcsum or "")
        return known._replace(replicas=count)

    def _note(self, status: ModelStatus, known: _Standing | None) -> None:
        """Keep what people want to know for those who look later."""
        level, what = _EVENTS.get(status.state, ("", ""))
        if not what or (
            status.state is ModelState.FETCHING and (status.code or _is_on_its_way(known))
        ):
            return  # a step on the way, or one more attempt
        self.events.add(
            level,
            what,
            model=status.model,
            code=status.code,
            detail=status.message,
            mdcsum=status.mdcsum or "",
        )

    def note_file(self, progress: FetchProgress) -> None:
        """Count one step of one file."""
        if progress.state in (FetchState.FETCHING, FetchState.VERIFYING):
            return
        self._files[progress.state] = self._files.get(progress.state, 0) + 1
        if progress.state is FetchState.VERIFIED:
            self._bytes += progress.done_bytes
            self._fetch_seconds.labels().observe(progress.seconds)

    def note_left_out(self, count: int) -> None:
        """Count extra files that a model is served without."""
        if count:
            self._files["left_out"] = self._files.get("left_out", 0) + count

    def note_shortcoming(self, model: str, mdcsum: str, note: str) -> None:
        """Something that a model is served without, for the list of events."""
        self.events.add("warning", "note", model=model, detail=note, mdcsum=mdcsum)

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering does not collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The present values."""
        states = GaugeMetricFamily(
            "muster_model_state",
            "1 for each card's present state.",
            labels=["model", "endpoint", "mdcsum", "state"],
        )
        replicas: dict[tuple[str, str], int] = {}
        for status in self._statuses():
            endpoint = str(status.group.endpoint_id) if status.group is not None else ""
            states.add_metric([status.model, endpoint, status.mdcsum or "", status.state], 1)
            key = (status.model, status.state)
            replicas[key] = replicas.get(key, 0) + max(len(status.keys), 1)
        yield states
        family = GaugeMetricFamily(
            "muster_replicas",
            "Records of a model by what has become of them.",
            labels=["model", "state"],
        )
        for labels, count in replicas.items():
            family.add_metric(labels, count)
        yield family
        files = CounterMetricFamily(
            "muster_files",
            "Files of models by outcome: verified are those fetched here, cached those that others of "
            "this host have fetched, before or just now.",
            labels=["outcome"],
        )
        for outcome, count in self._files.items():
            files.add_metric([outcome], count)
        yield files
        yield CounterMetricFamily("muster_fetched_bytes", "Bytes of files fetched.", self._bytes)
        yield from self._fetch_seconds.collect()
        yield from self._routable_seconds.collect()

    def _log(self, status: ModelStatus) -> None:
        level = {
            ModelState.REFUSED: logging.ERROR,
            ModelState.RETRYING: logging.WARNING,
            ModelState.SERVING: logging.INFO,
        }.get(status.state, logging.DEBUG)
        what = {
            ModelState.REFUSED: "model refused",
            ModelState.RETRYING: "model cannot be served; will try again",
        }.get(status.state, f"model {status.state}")
        values: dict[str, object] = {"model": status.model}
        if status.mdcsum:
            values["mdcsum"] = status.mdcsum
        if status.keys:
            values["key"] = " ".join(status.keys)
        if status.code:
            values |= {"code": status.code, "reason": status.message}
        if status.state is ModelState.RETRYING:
            values["attempt"] = status.attempt
        logger.log(level, what, extra=facts(**values))
