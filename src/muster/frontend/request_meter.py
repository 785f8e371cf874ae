"""Measures one request, and adds it to its model's counts: a batch of tokens is one call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

from muster.errors import MusterError
from muster.frontend.api_error import ApiError
from muster.frontend.model_counts import ModelCounts

__all__ = ["RequestMeter"]


class RequestMeter:
    """Measures one request, from its arrival to its outcome: ``finish`` or ``fail``, once.

    As a context manager it takes an exception that leaves its block for the outcome.

    Attributes:
        ttft: Seconds until the first tokens; ``None`` before.
    """

    __slots__ = (
        "_clock",
        "_closed",
        "_counts",
        "_endpoint",
        "_inflight",
        "_kind",
        "_last",
        "_output",
        "_queued",
        "_start",
        "ttft",
    )

    def __init__(
        self, counts: ModelCounts, endpoint: str, *, stream: bool, clock: Callable[[], float]
    ) -> None:
        self._counts = counts
        self._endpoint = endpoint
        self._kind = "stream" if stream else "unary"
        self._clock = clock
        self._start = clock()
        self._last = 0.0
        self._output = 0
        self._closed = False
        self._queued = True
        self._inflight = False
        self.ttft: float | None = None
        key = (endpoint, self._kind)
        counts.started[key] = counts.started.get(key, 0) + 1
        counts.active += 1
        counts.queued += 1

    def sent(self, input_tokens: int | None) -> None:
        """The request goes to its engine; ``None`` leaves its tokens out of the histogram."""
        if input_tokens is not None:
            self._counts.input.observe(input_tokens)
        self._counts.inflight += 1
        self._inflight = True

    def tokens(self, count: int) -> None:
        """``count`` tokens have come together; the gap before them is shared out among them."""
        if not count:
            return
        now = self._clock()
        counts = self._counts
        if self._queued:
            self._queued = False
            counts.queued -= 1
            self.ttft = now - self._start
            counts.ttft.observe(self.ttft)
        else:
            counts.itl.observe((now - self._last) / count, count)
        self._last = now
        self._output += count
        counts.output_tokens += count

    def finish(self, cached_tokens: int | None = None, *, generated: bool = True) -> None:
        """The request has been answered.

        Args:
            cached_tokens: So many tokens of its prompt were cached, if known.
            generated: Whether the answer has tokens to be counted; embeddings have none.
        """
        if generated:
            self._counts.output.observe(self._output)
        if cached_tokens is not None:
            self._counts.cached.observe(cached_tokens)
        self._close("success", "")

    def fail(self, error_type: str) -> None:
        """The request has failed; ``error_type`` is one of Dynamo's words for why."""
        counts = self._counts
        if error_type == "cancelled":
            counts.cancelled += 1
        elif error_type in ("overload", "unavailable"):
            counts.rejected[self._endpoint] = counts.rejected.get(self._endpoint, 0) + 1
        self._close("error", error_type)

    def __enter__(self) -> RequestMeter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Count the failure that leaves the block, unless the outcome is known already."""
        if error is not None and not self._closed:
            self.fail(_error_type(error))

    def _close(self, status: str, error_type: str) -> None:
        self._closed = True
        counts = self._counts
        counts.duration.observe(self._clock() - self._start)
        counts.active -= 1
        counts.queued -= self._queued
        counts.inflight -= self._inflight
        key = (self._endpoint, self._kind, status, error_type)
        counts.finished[key] = counts.finished.get(key, 0) + 1


def _error_type(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    return ApiError.from_error(error).error_type if isinstance(error, MusterError) else "internal"
