"""What a request is to everybody who hears of it: its ids, its place in a trace, its span."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from muster.errors import MusterError
from muster.frontend.api_error import ApiError
from muster.frontend.http.exchange import Exchange
from muster.frontend.request_id import engine_id
from muster.log import set_request
from muster.runtime import Context
from muster.trace import TraceContext

__all__ = ["RequestScope", "fail_span"]

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
        context: The request as its worker gets it.
    """

    __slots__ = ("_exchange", "_span", "context")

    def __init__(self, exchange: Exchange, *, begin_trace: bool) -> None:
        sender = _sender(exchange)
        given = exchange.header(b"x-request-id")
        self._exchange = exchange
        self.context = Context(
            engine_id(exchange),
            trace=None if sender is None else sender.child(),
            x_request_id=given if given and given == exchange.request_id else None,
        )
        attributes = {"http.request.method": exchange.method, "url.path": exchange.path}
        self._span = self.context.begin_span(SPAN, kind="server", attributes=attributes)
        if begin_trace and self.context.trace is None:
            self.context.trace = TraceContext.start()

    def __enter__(self) -> Self:
        set_request(self.context.id(), self.context.trace)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the span with the outcome."""
        span = self._span
        if span is None:
            return
        status = 200
        if isinstance(error, MusterError):
            status = ApiError.from_error(error).status
        elif error is not None:
            status = 500
        if isinstance(error, asyncio.CancelledError):
            span.set_attribute(OUTCOME, "cancelled")
        else:
            span.attributes.setdefault(OUTCOME, "success" if error is None else "error")
            span.set_attribute("http.response.status_code", status)
            if error is not None and status >= 500:
                span.set_status("error", getattr(error, "code", type(error).__name__))
        span.end()


def fail_span(context: Context, code: str) -> None:
    """The answer ends with an error after its status has been sent."""
    span = context.current_span()
    span.set_attribute(OUTCOME, "error")
    span.set_status("error", code)


def _sender(exchange: Exchange) -> TraceContext | None:
    parent = exchange.header(b"traceparent")
    return TraceContext.parse(parent, exchange.header(b"tracestate")) if parent else None
