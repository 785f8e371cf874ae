"""Counts of several processes as if one had counted them: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from muster.frontend.model_counts import ModelCounts
from muster.frontend.processes.messages import Tally

__all__ = ["SummedCounts", "active_of", "add", "summed", "tally_of", "without_present"]


def tally_of(counts: ModelCounts) -> Tally:
    """The present counts of one model."""
    succeeded = failed = cancelled = 0
    for (_, _, status, error_type), count in counts.finished.items():
        if status == "success":
            succeeded += count
        elif error_type == "cancelled":
            cancelled += count
        else:
            failed += count
    return Tally(
        sum(counts.started.values()), succeeded, failed, cancelled, counts.output_tokens,
        counts.active, counts.queued, tuple(counts.ttft.counts()), tuple(counts.itl.counts()),
    )  # fmt: skip


def add(tallies: Iterable[Tally]) -> Tally:
    """The sum; buckets are added one by one."""
    every = [*tallies]
    if len(every) == 1:
        return every[0]
    started, succeeded, failed, cancelled, tokens, active, queued = (
        sum(column) for column in zip(*map(_numbers, every), strict=True)
    )
    ttft, itl = _columns([one.ttft for one in every]), _columns([one.itl for one in every])
    return Tally(started, succeeded, failed, cancelled, tokens, active, queued, ttft, itl)


def active_of(tallies: Iterable[Tally]) -> int:
    """How many requests are being answered."""
    return sum(tally.active for tally in tallies)


def without_present(tally: Tally) -> Tally:
    """What stays of the counts of a process that has ended: nothing is under way there."""
    return msgspec.structs.replace(tally, active=0, queued=0)


def _numbers(tally: Tally) -> tuple[int, ...]:
    return (
        tally.started, tally.succeeded, tally.failed, tally.cancelled, tally.tokens,
        tally.active, tally.queued,
    )  # fmt: skip


def _columns(rows: list[tuple[int, ...]]) -> tuple[int, ...]:
    full = [row for row in rows if row]
    return tuple(sum(column) for column in zip(*full, strict=True))


class _Buckets:
    """What a ``HistogramChild`` shows of itself."""

    __slots__ = ("_counts", "bounds")

    def __init__(self, bounds: Sequence[float], counts: Sequence[int]) -> None:
        self.bounds = bounds
        self._counts = counts

    def counts(self) -> list[int]:
        return [*self._counts]


class SummedCounts:
    """A sum with the attributes of ``ModelCounts`` that the dashboard reads.

    Args:
        tally: The sum.
        ttft: Bounds of the buckets of the time to the first token.
        itl: The same of the time between tokens.
    """

    __slots__ = ("active", "finished", "itl", "output_tokens", "queued", "started", "ttft")

    def __init__(self, tally: Tally, ttft: Sequence[float], itl: Sequence[float]) -> None:
        self.started = {("", ""): tally.started}
        self.finished = {
            ("", "", "success", ""): tally.succeeded,
            ("", "", "error", ""): tally.failed,
            ("", "", "error", "cancelled"): tally.cancelled,
        }
        self.output_tokens = tally.tokens
        self.active = tally.active
        self.queued = tally.queued
        self.ttft = _Buckets(ttft, tally.ttft or (0,) * (len(ttft) + 1))
        self.itl = _Buckets(itl, tally.itl or (0,) * (len(itl) + 1))


def summed(
    own: Mapping[str, ModelCounts],
    others: Iterable[Mapping[str, Tally]],
    bounds: tuple[Sequence[float], Sequence[float]],
) -> dict[str, ModelCounts | SummedCounts]:
    """The counts of each model that any process was asked for.

    Args:
        own: This process's.
        others: Those of the others.
        bounds: Of the buckets of the two latencies.
    """
    found: dict[str, ModelCounts | SummedCounts] = dict(own)
    theirs: dict[str, list[Tally]] = {}
    for each in others:
        for name, tally in each.items():
            theirs.setdefault(name, []).append(tally)
    for name, tallies in theirs.items():
        counts = own.get(name)
        mine = [tally_of(counts)] if counts is not None else []
        found[name] = SummedCounts(add([*mine, *tallies]), *bounds)
    return found
