"""Where the dashboard's data comes from, besides the model table and the metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from muster.clock import SYSTEM_CLOCK
from muster.content.store import BlobStore
from muster.frontend.dashboard.events import RecentEvents
from muster.frontend.dashboard.exclusion_notes import Standing
from muster.model.catalog.status import ModelStatus

__all__ = ["LiveSources"]


def _no_cards() -> Sequence[ModelStatus]:
    return ()


def _no_models() -> Standing:
    return {}


def _no_events() -> RecentEvents:
    return RecentEvents(SYSTEM_CLOCK)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LiveSources:
    """What a frontend may have to show; a frontend over a bare table has none of it.

    Attributes:
        cards: Gives what has become of each card; for what differs between them.
        events: What has happened lately.
        store: The cache of files, if there is one.
        max_bytes: The cache's budget.
        standing: Gives why instances get no requests.
    """

    cards: Callable[[], Sequence[ModelStatus]] = _no_cards
    events: RecentEvents = dataclasses.field(default_factory=_no_events)
    store: BlobStore | None = None
    max_bytes: int | None = None
    standing: Callable[[], Standing] = _no_models
