"""What a request is to everybody who hears of it: its ids, its place in a trace, its span."""

from __future__ import annotations

import asyncio
import logging
import time
from types import TracebackType
from typing import Self

from muster.errors import MusterError
from muster.frontend.api_error import ApiError
from muster.frontend.request_id import engine_id
from muster.http.exchange import Exchange
from muster.log import facts, set_request
from muster.runtime import Context
from muster.trace import TraceContext

__all__ = ["RequestScope"]

logger = logging.getLogger(__name__)

SPAN = "http-request"
"""Name of the span of a request as a whole; Dynamo's."""
OUTCOME = "request.outcome"
"""Attribute: ``success``, ``error`` or ``cancelled``."""


class RequestScope:
    """One request from its arrival to its end; a context manager around the answering of it.

    From entering it on, log lines of this task carry the request's id and trace. The trace is the
    client's, if its ``traceparent`` is valid. Otherwise one begins here if spans are exported or
    ``begin_trace`` says so.

    Args:
        exchange: The request.
        begin_trace: Begin a trace even if nothing is exported, for log lines to be found by.

    Attributes:
        arrived: When it came, in seconds of the monotonic clock.
        exchange: The request.
        context: The request as its worker gets it.
    """

    __slots__ = ("_failure", "_span", "arrived", "context", "exchange")

    def __init__(self, exchange: Exchange, *, begin_trace: bool) -> None:
        sender = _sender(exchange)
        given = exchange.header(b"x-request-id")
        self.exchange = exchange
        self._failure = ""
        self.arrived = time.monotonic()
        self.context = Context(
            engine_id(exchange),
            trace=None if sender is None else sender.child(),
            x_request_id=given if given and given == exchange.request_id else None,
        )
        attributes = {"http.request.method": exchange.method, "url.path": exchange.path}
        self._span = self.context.begin_span(SPAN, kind="server", attributes=attributes)
        if begin_trace and self.context.trace is None:
            self.context.trace = TraceContext.start()

    def fail(self, code: str) -> None:
        """The answer ends with an error after its status has been sent."""
        self._failure = self.exchange.error = code

    def __enter__(self) -> Self:
        set_request(self.context.id(), self.context.trace)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Log the outcome, and end the span with it."""
        span, told = self._span, logger.isEnabledFor(logging.DEBUG)
        if span is None and not told:
            return
        if self.exchange.finished:
            error = None  # a client that leaves with its whole answer has cancelled nothing
        outcome, status = _outcome(error)
        if self._failure:
            outcome = "error"
        if told:
            own = facts(path=self.exchange.path, outcome=outcome, status=status)
            logger.debug("request ended", extra=own)
        if span is not None:
            span.set_attribute(OUTCOME, outcome)
            span.set_attribute("http.response.status_code", status)
            if self._failure or (status is not None and status >= 500):
                code = self._failure or getattr(error, "code", type(error).__name__)
                span.set_status("error", code)
            span.end()


def _outcome(error: BaseException | None) -> tuple[str, int | None]:
    """The word for it, and the status that was answered, if any was."""
    if error is None:
        return "success", 200
    if isinstance(error, asyncio.CancelledError):
        return "cancelled", None
    return "error", ApiError.from_error(error).status if isinstance(error, MusterError) else 500


def _sender(exchange: Exchange) -> TraceContext | None:
    parent = exchange.header(b"traceparent")
    return TraceContext.parse(parent, exchange.header(b"tracestate")) if parent else None
