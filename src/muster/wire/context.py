"""One request's identity, its place in a trace and its stop button, the same object on both ends."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from muster.trace import TraceContext
from muster.wire.span import SpanKind, SpanProxy, sink

__all__ = ["Context"]

ENGINE_SPAN = "engine.generate"
"""Name of the span a request has when nobody began one for it; the peer's."""


class Context:
    """Travels with a request.

    On the caller's side, stopping it tells the worker; on the worker's side it shows what the
    caller wants. ``stop_generating`` asks for an early but orderly end, ``kill`` drops the request.
    Both are idempotent, and a kill implies a stop.

    Args:
        id: The request's id; a new UUID if left out.
        metadata: JSON values that travel with the request.
        trace: The span that works on the request here; see ``trace``.
        x_request_id: The client's own id of the request, if it sent one.
    """

    __slots__ = (
        "_first_token",
        "_first_token_listeners",
        "_id",
        "_killed",
        "_listeners",
        "_metadata",
        "_span",
        "_stopped",
        "trace",
        "x_request_id",
    )

    def __init__(
        self,
        id: str | None = None,  # noqa: A002 - the peer's name
        metadata: dict[str, Any] | None = None,
        *,
        trace: TraceContext | None = None,
        x_request_id: str | None = None,
    ) -> None:
        self._id = id if id is not None else str(uuid.uuid4())
        self._metadata = metadata if metadata is not None else {}
        self._stopped = False
        self._killed = False
        self._listeners: list[Callable[[], None]] = []
        self._first_token = False
        self._first_token_listeners: list[Callable[[], None]] | None = None
        self._span: SpanProxy | None = None
        self.trace = trace
        """Its place in a trace, whether or not anything is exported; ``None`` if it has none. It
        is carried to whoever the request is sent to, who works under ``trace.child()``."""
        self.x_request_id = x_request_id
        """The client's own id of the request, carried along; ``None`` if it sent none."""

    def id(self) -> str:
        """The request's id."""
        return self._id

    @property
    def metadata(self) -> dict[str, Any]:
        """The request's metadata; a live mapping."""
        return self._metadata

    @metadata.setter
    def metadata(self, metadata: Mapping[str, Any]) -> None:
        self._metadata = dict(metadata)

    def detached(self, id: str) -> Context:  # noqa: A002 - the peer's name
        """A context for work that outlives this request, or has an end of its own.

        It has the trace and a copy of the metadata as they are now. Neither stops the other.
        """
        return Context(
            id, copy.deepcopy(self._metadata), trace=self.trace, x_request_id=self.x_request_id
        )

    # -- the stop button ---------------------------------------------------------------------

    def is_stopped(self) -> bool:
        """Whether the request should end early."""
        return self._stopped

    def is_killed(self) -> bool:
        """Whether nobody waits for the request any more."""
        return self._killed

    def stop_generating(self) -> None:
        """Ask for an early, orderly end."""
        if not self._stopped:
            self._stopped = True
            self._notify()

    def kill(self) -> None:
        """Drop the request."""
        if not self._killed:
            self._stopped = self._killed = True
            self._notify()

    async def async_killed_or_stopped(self) -> bool:
        """Wait until the request is stopped or killed; returns ``True``."""
        if self._stopped:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        self.listen(wake)
        try:
            await future
        finally:
            self.forget(wake)
        return True

    def listen(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever the request is stopped or killed; at once if it is already."""
        self._listeners.append(callback)
        if self._stopped:
            callback()

    def forget(self, callback: Callable[[], None]) -> None:
        """Undo ``listen``; a no-op if it is not listening."""
        with contextlib.suppress(ValueError):
            self._listeners.remove(callback)

    def _notify(self) -> None:
        for callback in tuple(self._listeners):
            callback()

    # -- the first token ---------------------------------------------------------------------

    def notify_first_token(self) -> None:
        """Say that the engine has its first token; only the first call counts.

        Engines need not: the first item they yield says it too.
        """
        if self._first_token:
            return
        self._first_token = True
        callbacks, self._first_token_listeners = self._first_token_listeners, None
        for callback in callbacks or ():
            callback()

    def on_first_token(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once, when there is a first token; at once if there is one already."""
        if self._first_token:
            callback()
        elif self._first_token_listeners is None:
            self._first_token_listeners = [callback]
        else:
            self._first_token_listeners.append(callback)

    # -- the trace ---------------------------------------------------------------------------

    @property
    def trace_id(self) -> str | None:
        """The trace's id, 32 hexadecimal digits; ``None`` if the request has no trace."""
        return None if self.trace is None else self.trace.trace_id

    @property
    def span_id(self) -> str | None:
        """The id of the span at work here, 16 hexadecimal digits; ``None`` without a trace."""
        return None if self.trace is None else self.trace.span_id

    @property
    def parent_span_id(self) -> str | None:
        """The id of the span that sent the request; ``None`` if it was not sent, or has no trace."""
        return None if self.trace is None else self.trace.parent_id

    def trace_headers(self) -> dict[str, str] | None:
        """Headers for an inference engine behind this one, as its ``trace_headers`` argument.

        Returns:
            ``traceparent`` with this span as the parent, ``request-id``, and ``tracestate`` and
            ``x-request-id`` if the request came with them; ``None`` if it has no trace.
        """
        if self.trace is None:
            return None
        headers = self.trace.headers()
        headers["request-id"] = self._id
        if self.x_request_id is not None:
            headers["x-request-id"] = self.x_request_id
        return headers

    def current_span(self) -> SpanProxy:
        """The span of the request as a whole. Whoever began it ends it: ``close`` does nothing."""
        if self._span is None:
            self._span = SpanProxy(
                ENGINE_SPAN, trace=self.trace, kind="server", request_id=self._id, framework=True
            )
        return self._span

    def start_span(self, name: str, attrs: dict[str, Any] | None = None) -> SpanProxy:
        """Begin a span under that of the request. It ends with ``close`` or its ``with`` block.

        A request without a trace begins one here if spans are exported.
        """
        trace = self._begin_trace()
        return SpanProxy(name, trace=trace and trace.child(), attributes=attrs, request_id=self._id)

    def begin_span(
        self, name: str, *, kind: SpanKind, attributes: dict[str, Any] | None = None
    ) -> SpanProxy | None:
        """Begin the span of serving or sending the request; for the framework, which ends it.

        A ``server`` span is the one whose ids ``trace`` has, and is what ``current_span`` gives. A
        ``client`` span is under it, or is it if the trace begins here; give it to ``headers_of``.

        Returns:
            A span to ``end``, or ``None`` if none would be exported.
        """
        if sink() is None:
            return None
        begins = self.trace is None
        trace = self._begin_trace()
        if trace is None or not trace.sampled:
            return None
        if kind == "client" and not begins:
            trace = trace.child()
        span = SpanProxy(
            name,
            trace=trace,
            kind=kind,
            attributes=attributes,
            request_id=self._id,
            framework=True,
        )
        if kind == "server":
            self._span = span
        return span

    def _begin_trace(self) -> TraceContext | None:
        """The trace; a new one if there is none and spans are exported."""
        exporter = sink()
        if self.trace is None and exporter is not None:
            trace = TraceContext.start()
            self.trace = trace if exporter.samples(trace.trace_id) else trace.unsampled()
        return self.trace
