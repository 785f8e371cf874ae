"""How much is asked and how quickly it is answered, second by second: read off the metrics' counts.

Nothing is added to a request. Once a second the counts that ``/metrics`` shows anyway are compared
with those of the second before; a model that nobody has asked costs a few additions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from muster.frontend.model_counts import ModelCounts
from muster.frontend.processes.tallies import SummedCounts

__all__ = ["ModelTraffic", "Second", "Traffic", "quantile"]

_SECONDS = 600
"""How many seconds are kept of all models together."""
_LATENCY_S = 60.0
_RATE_S = 10.0


Counts = ModelCounts | SummedCounts
"""One model's counts: of this process, or of several."""


class Second(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One second of all models together; in JSON an array in this order.

    Rates are per second. Latencies are estimates, ``None`` where nothing was observed.

    Attributes:
        at: When it ended, in seconds since the epoch.
        started: Requests that arrived.
        succeeded: Requests answered.
        failed: Requests that failed, whoever is to blame.
        cancelled: Requests whose client left.
        tokens: Tokens generated.
        active: Requests being answered at its end.
        ttft_p50: Time to the first token in seconds, median.
        ttft_p95: The same, 95th percentile.
        itl_p50: Time between tokens in seconds, median.
        itl_p95: The same, 95th percentile.
    """

    at: float
    started: float = 0.0
    succeeded: float = 0.0
    failed: float = 0.0
    cancelled: float = 0.0
    tokens: float = 0.0
    active: int = 0
    ttft_p50: float | None = None
    ttft_p95: float | None = None
    itl_p50: float | None = None
    itl_p95: float | None = None


class ModelTraffic(msgspec.Struct, frozen=True, kw_only=True):
    """One model: rates of the last 10 s, latencies of the last 60 s.

    Attributes:
        started: Requests a second.
        failed: Failures a second, without clients that left.
        tokens: Tokens a second.
        active: Requests being answered now.
        queued: Those of them without a first token yet.
        ttft_p50: As in ``Second``, like the next three.
        ttft_p95: See there.
        itl_p50: See there.
        itl_p95: See there.
    """

    started: float = 0.0
    failed: float = 0.0
    tokens: float = 0.0
    active: int = 0
    queued: int = 0
    ttft_p50: float | None = None
    ttft_p95: float | None = None
    itl_p50: float | None = None
    itl_p95: float | None = None


class _Reading(NamedTuple):
    """Counts of one model since its beginning, read at ``at`` on the monotonic clock."""

    at: float
    started: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    tokens: int = 0
    ttft: tuple[int, ...] = ()
    itl: tuple[int, ...] = ()

    @property
    def totals(self) -> tuple[int, int, int, int, int]:
        return self.started, self.succeeded, self.failed, self.cancelled, self.tokens


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """The value below which ``share`` of the observations lie, as ``histogram_quantile`` puts it.

    Args:
        bounds: Upper bounds of the buckets, ascending.
        counts: Observations by bucket, not cumulative, with one more for those beyond all bounds.
        share: From 0 to 1.

    Returns:
        Linear within its bucket; the last bound for what lies beyond; ``None`` without observations.
    """
    total = sum(counts)
    if not total:
        return None
    rank, below = share * total, 0
    for index, bound in enumerate(bounds):
        count = counts[index]
        if count and below + count >= rank:
            lower = bounds[index - 1] if index else 0.0
            return float(f"{lower + (bound - lower) * (rank - below) / count:.3g}")
        below += count
    return float(bounds[-1])


def _less(later: Sequence[int], earlier: Sequence[int]) -> tuple[int, ...]:
    if not earlier:
        return tuple(later)
    return tuple(a - b for a, b in zip(later, earlier, strict=True))


def _sum(rows: Iterable[Sequence[int]]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*rows, strict=True)))


class _History:
    """Readings of one model: those of the last minute in which something changed, and one before."""

    __slots__ = ("_readings", "_signature")

    def __init__(self, now: float) -> None:
        self._readings: deque[_Reading] = deque([_Reading(now)])
        self._signature = (0, 0, 0, 0)

    def read(self, counts: Counts, now: float) -> tuple[_Reading, _Reading] | None:
        """Take the present counts; the reading before and this one, if anything has changed."""
        succeeded = failed = cancelled = 0
        for (_, _, status, error_type), count in counts.finished.items():
            if status == "success":
                succeeded += count
            elif error_type == "cancelled":
                cancelled += count
            else:
                failed += count
        started = sum(counts.started.values())
        signature = (started, succeeded, failed + cancelled, counts.output_tokens)
        if signature == self._signature:
            return None
        self._signature = signature
        before = self._readings[-1]
        reading = _Reading(
            now, started, succeeded, failed, cancelled, counts.output_tokens,
            tuple(counts.ttft.counts()), tuple(counts.itl.counts()),
        )  # fmt: skip
        self._readings.append(reading)
        while len(self._readings) > 2 and self._readings[1].at <= now - _LATENCY_S:
            self._readings.popleft()
        return before, reading

    def base(self, moment: float) -> _Reading:
        """The counts at a moment: the last reading until then, or the oldest there is."""
        found = self._readings[0]
        for reading in self._readings:
            if reading.at > moment:
                break
            found = reading
        return found

    @property
    def last(self) -> _Reading:
        return self._readings[-1]


class Traffic:
    """Ten minutes of all models together, and the last minute of each.

    Args:
        counts: Gives the counts of all models.
    """

    def __init__(self, counts: Callable[[], Mapping[str, Counts]]) -> None:
        self._counts = counts
        self._histories: dict[str, _History] = {}
        self._sampled: float | None = None
        self.seconds: deque[Second] = deque(maxlen=_SECONDS)
        self.count = 0

    def sample(self, *, wall: float, monotonic: float) -> None:
        """Compare the counts with the last time; call it about once a second.

        Args:
            wall: Now, in seconds since the epoch.
            monotonic: Now, on the clock by which rates are computed.
        """
        span = monotonic - self._sampled if self._sampled is not None else 0.0
        begun, self._sampled = self._sampled, monotonic
        self.count += 1
        steps = []
        active = 0
        for name, counts in self._counts().items():
            history = self._histories.get(name)
            if history is None:
                at = monotonic if begun is None else begun
                history = self._histories[name] = _History(at)
            active += counts.active
            step = history.read(counts, monotonic)
            if step is not None:
                steps.append((counts, *step))
        at = round(wall, 1)
        if not steps or span <= 0:
            self.seconds.append(Second(at, active=active))
            return
        ttft = _sum([_less(last.ttft, before.ttft) for _, before, last in steps])
        itl = _sum([_less(last.itl, before.itl) for _, before, last in steps])
        gains = _sum([_less(last.totals, before.totals) for _, before, last in steps])
        started, succeeded, failed, cancelled, tokens = [round(gain / span, 2) for gain in gains]
        bounds, gaps = steps[0][0].ttft.bounds, steps[0][0].itl.bounds
        self.seconds.append(
            Second(
                at, started, succeeded, failed, cancelled, tokens, active,
                quantile(bounds, ttft, 0.5), quantile(bounds, ttft, 0.95),
                quantile(gaps, itl, 0.5), quantile(gaps, itl, 0.95),
            )
        )  # fmt: skip

    def after(self, count: int) -> tuple[Second, ...]:
        """The seconds that have come since ``count`` was so much, as far as they are kept."""
        missing = min(self.count - count, len(self.seconds))
        return tuple(self.seconds[index] for index in range(-missing, 0))

    def models(self) -> dict[str, ModelTraffic]:
        """Each model that has been asked anything in the last minute, or is being asked."""
        now = self._sampled
        if now is None:
            return {}
        found = {}
        for name, counts in self._counts().items():
            history = self._histories.get(name)
            if history is not None and (counts.active or history.last.at > now - _LATENCY_S):
                found[name] = _model_traffic(history, counts, now)
        return found


def _model_traffic(history: _History, counts: Counts, now: float) -> ModelTraffic:
    last = history.last
    recent, minute = history.base(now - _RATE_S), history.base(now - _LATENCY_S)
    span = min(_RATE_S, max(now - recent.at, 1.0))
    ttft, itl = _less(last.ttft, minute.ttft), _less(last.itl, minute.itl)
    bounds, gaps = counts.ttft.bounds, counts.itl.bounds
    return ModelTraffic(
        started=round((last.started - recent.started) / span, 2),
        failed=round((last.failed - recent.failed) / span, 2),
        tokens=round((last.tokens - recent.tokens) / span, 2),
        active=counts.active,
        queued=counts.queued,
        ttft_p50=quantile(bounds, ttft, 0.5),
        ttft_p95=quantile(bounds, ttft, 0.95),
        itl_p50=quantile(gaps, itl, 0.5),
        itl_p95=quantile(gaps, itl, 0.95),
    )
