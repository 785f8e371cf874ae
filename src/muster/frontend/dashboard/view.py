"""What the dashboard shows, as the events of ``GET /v1/muster/live`` carry it: pure.

Fields are added, never renamed; readers ignore unknown ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from muster.frontend.dashboard.events import Event
from muster.frontend.dashboard.traffic import ModelTraffic, Second
from muster.frontend.report import (
    ExclusionReport,
    FileReport,
    FleetReport,
    ModelReport,
    ReplicaReport,
)

__all__ = [
    "CacheEntry",
    "CacheView",
    "Change",
    "CohortView",
    "FrontendView",
    "ModelView",
    "PlaceView",
    "Snapshot",
    "model_views",
]

_SETTLED = ("cached", "verified")
_SAME_S = 2.0


class PlaceView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One replica: its instance in hexadecimal, where that is, and how it is reached."""

    instance: str = ""
    address: str = ""
    transport: str = ""
    key: str = ""


class CohortView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Replicas whose cards serve together, or stand aside together.

    Attributes:
        state: A word of ``ModelState``.
        mdcsum: Digest of their card, or of one of them.
        identity: Identity of their files, if the cards say it.
        code: Reason code, if they are not served.
        message: The same for people.
        differs: In what they differ from the cohort that serves; some lines for people.
        replicas: Who they are.
    """

    state: str
    mdcsum: str = ""
    identity: str = ""
    code: str = ""
    message: str = ""
    differs: tuple[str, ...] = ()
    replicas: tuple[PlaceView, ...] = ()


class ModelView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One model at one endpoint, or a record that cannot be read; see ``ModelReport``.

    Attributes:
        model: Its name; empty if nobody knows it.
        state: A word of ``ModelState``.
        code: Reason code.
        message: For people.
        endpoint: Where; empty for a record that cannot be read.
        mdcsum: Digest of the card that serves or is to serve.
        attempt: Failures in a row.
        retry_at: When the next attempt is due, in seconds since the epoch.
        since: When this state began, in seconds since the epoch.
        aliases: Further names.
        lora: The LoRA adapter's name, if it is one.
        file_count: How many files its card has.
        file_done: How many of them are here and right.
        byte_count: Their size, as far as it is known.
        files: Those that are not here and right.
        cohorts: The replicas, those that serve first.
        excluded: Instances that get no requests though the model is served, and why.
    """

    model: str
    state: str
    code: str = ""
    message: str = ""
    endpoint: str = ""
    mdcsum: str = ""
    attempt: int = 0
    retry_at: float | None = None
    since: float = 0.0
    aliases: tuple[str, ...] = ()
    lora: str = ""
    file_count: int = 0
    file_done: int = 0
    byte_count: int = 0
    files: tuple[FileReport, ...] = ()
    cohorts: tuple[CohortView, ...] = ()
    excluded: tuple[ExclusionReport, ...] = ()


class FrontendView(msgspec.Struct, frozen=True, kw_only=True):
    """The frontend itself.

    Attributes:
        version: Muster's.
        started: When it started, in seconds since the epoch.
        status: The word of ``/health``, or ``draining``.
        message: Why it is not ``healthy``.
        policy: How the card that serves is chosen among several.
        stale_since: Since when the registry cannot be read, in seconds since the epoch.
        stale_reason: Why.
        processes: How many of its processes run.
        process_count: How many are to run.
    """

    version: str
    started: float
    status: str
    message: str = ""
    policy: str = ""
    stale_since: float | None = None
    stale_reason: str = ""
    processes: int = 1
    process_count: int = 1


class CacheEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One model's files, or those of none (an empty name).

    Attributes:
        name: ``<slug>/<mdcsum>``.
        files: How many.
        size_bytes: Of all of them; a file of several models counts for each.
        users: Live processes that use any of them, as ``<pid>@<host>``.
        used: When one of them was last used, in seconds since the epoch.
        problem: What is wrong with one of them, if anything is.
    """

    name: str
    files: int
    size_bytes: int
    users: tuple[str, ...] = ()
    used: float = 0.0
    problem: str = ""


class CacheView(msgspec.Struct, frozen=True, kw_only=True):
    """The cache of files.

    Attributes:
        path: Its directory.
        files: How many blobs.
        size_bytes: Of all blobs.
        spare_bytes: What unfinished and bad blobs take besides.
        max_bytes: Its budget; ``None`` for none.
        entries: What is in it, the last used first; at most 100.
        error: Why it could not be looked at; then nothing else is known.
    """

    path: str
    files: int = 0
    size_bytes: int = 0
    spare_bytes: int = 0
    max_bytes: int | None = None
    entries: tuple[CacheEntry, ...] = ()
    error: str = ""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The data of the event ``snapshot``: all there is to see at the moment ``at``.

    ``seconds`` are up to ten minutes, oldest first; ``traffic`` is by model name; ``models`` have
    keys by which changes name them, and that mean nothing else.
    """

    at: float
    frontend: FrontendView
    models: Mapping[str, ModelView]
    traffic: Mapping[str, ModelTraffic]
    seconds: tuple[Second, ...]
    events: tuple[Event, ...]
    cache: CacheView | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The data of the event ``change``: what is different at the moment ``at``.

    A part that is absent is as it was. Of ``models`` those that are named are replaced, and ``null``
    ones are gone; ``traffic`` is replaced; ``seconds`` and ``events`` are added to those before.
    """

    at: float
    frontend: FrontendView | None = None
    models: Mapping[str, ModelView | None] = {}
    traffic: Mapping[str, ModelTraffic] | None = None
    seconds: tuple[Second, ...] = ()
    events: tuple[Event, ...] = ()
    cache: CacheView | None = None


def model_views(
    report: FleetReport,
    differences: Mapping[tuple[str, str], tuple[str, ...]],
    *,
    now: float,
    before: Mapping[str, ModelView],
) -> dict[str, ModelView]:
    """The models of a report, by key.

    Args:
        report: Everything known of every model.
        differences: In what cards differ, by group and mdcsum; see ``Differences.find``.
        now: In seconds since the epoch.
        before: The last views: a moment that has moved by less than 2 s has not moved.
    """
    found = {}
    for each in report.models:
        key = f"{each.model} {each.worker_set}" if each.worker_set else each.replicas[0].key
        known = before.get(key)
        found[key] = _model(key, each, differences, now, known.retry_at if known else None)
    return found


def _model(
    key: str,
    report: ModelReport,
    differences: Mapping[tuple[str, str], tuple[str, ...]],
    now: float,
    known_retry: float | None,
) -> ModelView:
    retry_at = None if report.retry_in_s is None else round(now + report.retry_in_s)
    if retry_at is not None and known_retry is not None and abs(retry_at - known_retry) < _SAME_S:
        retry_at = round(known_retry)
    return ModelView(
        model=report.model,
        state=report.state,
        code=report.code,
        message=report.message,
        endpoint=report.endpoint,
        mdcsum=report.mdcsum,
        attempt=report.attempt,
        retry_at=retry_at,
        since=round(report.since, 3),
        aliases=report.aliases,
        lora=report.lora,
        file_count=len(report.files),
        file_done=sum(file.state in _SETTLED for file in report.files),
        byte_count=sum(file.size_bytes or 0 for file in report.files),
        files=tuple(file for file in report.files if file.state not in _SETTLED),
        cohorts=_cohorts(key, report.replicas, differences),
        excluded=report.excluded,
    )


def _cohorts(
    group: str,
    replicas: Iterable[ReplicaReport],
    differences: Mapping[tuple[str, str], tuple[str, ...]],
) -> tuple[CohortView, ...]:
    cohorts: dict[tuple[str, ...], list[ReplicaReport]] = {}
    for each in replicas:
        key = (each.identity or each.mdcsum, each.state, each.code, each.message)
        cohorts.setdefault(key, []).append(each)
    ordered = sorted(cohorts.values(), key=lambda members: members[0].state != "serving")
    return tuple(
        CohortView(
            state=members[0].state,
            mdcsum=members[0].mdcsum,
            identity=members[0].identity,
            code=members[0].code,
            message=members[0].message,
            differs=differences.get((group, members[0].mdcsum), ()),
            replicas=tuple(
                PlaceView(
                    instance=each.instance,
                    address=each.address,
                    transport=each.transport,
                    key="" if each.instance else each.key,
                )
                for each in members
            ),
        )
        for members in ordered
    )
