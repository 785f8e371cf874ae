"""Spans: named stretches of a request's time, with attributes and events.

A span holds what is set on it whether or not anything is exported. When it ends it is logged (at
``DEBUG`` of ``muster.span``) and, if its trace is sampled, handed to the process's sink. The methods
of ``SpanProxy`` are those of Dynamo 1.6.1's class of that name.
"""

from __future__ import annotations

import contextlib
import logging
import time
from types import TracebackType
from typing import Any, Literal, NamedTuple, Protocol

from muster.log import SPAN_TARGET, bind
from muster.trace import TraceContext

__all__ = ["SpanEvent", "SpanKind", "SpanProxy", "SpanSink", "set_sink", "sink"]

logger = logging.getLogger(SPAN_TARGET)

SpanKind = Literal["internal", "server", "client"]


class SpanSink(Protocol):
    """Takes ended spans of sampled traces, on whichever thread ended them."""

    def samples(self, trace_id: str) -> bool:
        """Whether a trace that begins here is sampled."""
        ...

    def export(self, span: SpanProxy) -> None:
        """Take a span that has ended; must not block or raise."""
        ...


_sink: SpanSink | None = None


def set_sink(new: SpanSink | None) -> None:
    """Hand the process's spans to ``new`` from now on; ``None`` exports nothing."""
    global _sink
    _sink = new


def sink() -> SpanSink | None:
    """Where spans go; ``None`` while nothing is exported."""
    return _sink


class SpanEvent(NamedTuple):
    """Something that happened at one moment of a span, in nanoseconds since the Unix epoch."""

    name: str
    at_ns: int
    attributes: dict[str, Any]


class SpanProxy:
    """A span; as a context manager it ends with its block.

    Inside the block log lines carry its ids and name. An exception that leaves the block sets the
    status ``error`` and becomes an event. A span that is never closed is never exported. After its
    end nothing on it changes.

    Args:
        name: What it is called.
        trace: Its place; ``None`` if the request has none, and then it is never exported.
        kind: ``server`` for a request served, ``client`` for one sent.
        attributes: The first of its attributes.
        request_id: The request's id.
        framework: Whether ``close`` and leaving a ``with`` block leave it open, because who began
            it calls ``end``.
    """

    __slots__ = (
        "_began",
        "_exit",
        "_framework",
        "attributes",
        "description",
        "end_ns",
        "events",
        "kind",
        "name",
        "request_id",
        "start_ns",
        "status",
        "trace",
    )

    def __init__(
        self,
        name: str,
        *,
        trace: TraceContext | None,
        kind: SpanKind = "internal",
        attributes: dict[str, Any] | None = None,
        request_id: str | None = None,
        framework: bool = False,
    ) -> None:
        self.name = name
        self.trace = trace
        self.kind: SpanKind = kind
        self.attributes: dict[str, Any] = dict(attributes) if attributes else {}
        self.events: list[SpanEvent] = []
        self.status: str | None = None
        self.description: str | None = None
        self.request_id = request_id
        self.start_ns = time.time_ns()
        self.end_ns: int | None = None
        self._began = time.monotonic_ns()
        self._framework = framework
        self._exit: contextlib.ExitStack | None = None

    def set_attribute(self, key: str, value: Any) -> None:
        """Set an attribute.

        Text, numbers, booleans and lists of one of these are exported as they are, ``None`` not at
        all, and anything else as its text.
        """
        if self.end_ns is None:
            self.attributes[key] = value

    def add_event(self, name: str, attrs: dict[str, Any] | None = None) -> None:
        """Note that something happens now."""
        if self.end_ns is None:
            self.events.append(SpanEvent(name, self._now(), dict(attrs) if attrs else {}))

    def set_status(self, status: str, description: str | None = None) -> None:
        """Say how it went.

        Args:
            status: ``ok`` or ``error``.
            description: More about an error, e.g. its name.

        Raises:
            ValueError: For another status.
        """
        if status not in ("ok", "error"):
            raise ValueError(f'the status of a span is "ok" or "error", not {status!r}')
        if self.end_ns is None:
            self.status, self.description = status, description

    def close(self) -> None:
        """End it, unless it is the framework's own; later calls do nothing."""
        if not self._framework:
            self.end()

    def end(self) -> None:
        """End it, log it and export it; later calls do nothing. For who began it."""
        if self.end_ns is not None:
            return
        self.end_ns = self._now()
        if logger.isEnabledFor(logging.DEBUG):
            self._log()
        if _sink is not None and self.trace is not None and self.trace.sampled:
            _sink.export(self)

    def _now(self) -> int:
        """The time by the wall clock at its start and the monotonic one since."""
        return self.start_ns + time.monotonic_ns() - self._began

    def _log(self) -> None:
        own: dict[str, Any] = {"time.duration_us": (time.monotonic_ns() - self._began) // 1000}
        if self.status is not None:
            own["status"] = self.status
        if self.description is not None:
            own["description"] = self.description
        with bind(request_id=self.request_id, trace=self.trace, span_name=self.name):
            logger.debug("span closed", extra={"facts": self.attributes | own})

    def __enter__(self) -> SpanProxy:
        if self._exit is None:
            self._exit = contextlib.ExitStack()
            self._exit.enter_context(
                bind(request_id=self.request_id, trace=self.trace, span_name=self.name)
            )
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]:
        if self._exit is not None:
            self._exit.close()
            self._exit = None
        if isinstance(exc_value, Exception):
            name = type(exc_value).__name__
            self.add_event(
                "exception", {"exception.type": name, "exception.message": str(exc_value)}
            )
            self.set_status("error", name)
        self.close()
        return False
