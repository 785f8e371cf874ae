"""What a request's headers say of its trace: written by the caller, read by the worker.

Names are lower-case. Trace ids travel whether or not anybody exports them; where there are none, or
only garbage, none are invented.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from muster.trace import TraceContext
from muster.wire.context import Context
from muster.wire.span import SpanProxy

__all__ = ["context_from_headers", "headers_of"]

_MAX_ID_LENGTH = 256
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def headers_of(context: Context, span: SpanProxy | None = None) -> dict[str, str]:
    """The headers by which ``context`` is carried on: those it has something for.

    ``request-id`` always; ``traceparent``, ``tracestate`` and ``x-request-id`` if known.

    Args:
        context: The request.
        span: The span that sends it; by default the one at work on it here.
    """
    headers = {"request-id": context.id()}
    trace = context.trace if span is None else span.trace
    if trace is not None:
        headers["traceparent"] = trace.traceparent
        if trace.tracestate:
            headers["tracestate"] = trace.tracestate
    if context.x_request_id is not None:
        headers["x-request-id"] = context.x_request_id
    return headers


def context_from_headers(
    headers: Mapping[str, str] | bytes,
    id: str | None = None,  # noqa: A002 - as the context's
    metadata: dict[str, Any] | None = None,
) -> Context:
    """The context of a request that arrived: a new span under the sender's, if it named one.

    Args:
        headers: By lower-case name, or the JSON text of that; what is malformed counts as absent.
        id: The request's id; by default the ``request-id`` of the headers, else a new one.
        metadata: As for ``Context``.
    """
    if isinstance(headers, bytes):
        if id is not None and b"traceparent" not in headers and b"x-request-id" not in headers:
            return Context(id, metadata)  # the usual case; nothing to decode
        headers = _read(headers)
    if id is None:
        id = _short_text(headers.get("request-id"))  # noqa: A001 - as above
    sender = TraceContext.from_headers(headers)
    return Context(
        id,
        metadata,
        trace=None if sender is None else sender.child(),
        x_request_id=_short_text(headers.get("x-request-id")),
    )


def _read(text: bytes) -> Mapping[str, str]:
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _short_text(value: object) -> str | None:
    """A printable text of usable length, or ``None``."""
    if isinstance(value, str) and 0 < len(value) <= _MAX_ID_LENGTH and value.isprintable():
        return value
    return None
