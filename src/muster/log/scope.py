"""Whose request is being worked on: what log lines carry without being told.

The scope is a context variable, so a task has that of the code that started it, and a change in
one task is not seen in another. Setting it costs well under a microsecond; its fields are looked at
only when a line is written.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import msgspec

from muster.trace import TraceContext

__all__ = ["Scope", "bind", "current", "reset", "set_request"]


class Scope(msgspec.Struct, frozen=True):
    """What lines carry: the request's id, its place in a trace, the span's name, and more."""

    request_id: str | None = None
    trace: TraceContext | None = None
    span_name: str | None = None
    more: dict[str, Any] | None = None

    def fields(self) -> dict[str, Any]:
        """The fields under their names in a log line, those there are."""
        values: dict[str, Any] = {}
        if self.trace is not None:
            values["trace_id"] = self.trace.trace_id
            values["span_id"] = self.trace.span_id
            if self.trace.parent_id is not None:
                values["parent_id"] = self.trace.parent_id
        if self.span_name is not None:
            values["span_name"] = self.span_name
        if self.request_id is not None:
            values["request_id"] = self.request_id
        if self.more:
            values = self.more | values
        return values


_NONE = Scope()
_scope: contextvars.ContextVar[Scope] = contextvars.ContextVar("muster_log_scope", default=_NONE)


def current() -> Scope:
    """The scope in force; an empty one outside of any."""
    return _scope.get()


def set_request(request_id: str, trace: TraceContext | None = None) -> contextvars.Token[Scope]:
    """Let the lines of this task, and of tasks it starts, carry a request's id and trace.

    The cheap way for code with a task per request, which need not undo it.

    Returns:
        What ``reset`` takes, in the same task.
    """
    return _scope.set(Scope(request_id, trace))


def reset(token: contextvars.Token[Scope]) -> None:
    """Undo ``set_request``.

    Raises:
        ValueError: If the token is from another task.
    """
    _scope.reset(token)


@contextlib.contextmanager
def bind(
    *,
    request_id: str | None = None,
    trace: TraceContext | None = None,
    span_name: str | None = None,
    **more: Any,
) -> Iterator[None]:
    """Let lines written inside carry these fields, and those of the scope around it.

    Don't hold it over a ``yield`` of an asynchronous generator: its steps may run in several tasks.

    Args:
        request_id: The request's id; ``None`` keeps that of the scope around.
        trace: The span at work; likewise.
        span_name: Its name; likewise.
        more: Further fields, e.g. ``worker_id``.
    """
    outer = _scope.get()
    token = _scope.set(
        Scope(
            outer.request_id if request_id is None else request_id,
            outer.trace if trace is None else trace,
            outer.span_name if span_name is None else span_name,
            (outer.more or {}) | more if more else outer.more,
        )
    )
    try:
        yield
    finally:
        _scope.reset(token)
