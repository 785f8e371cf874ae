"""Failures on the wire and as exceptions: one table, read both ways.

A failure travels as ``error_type`` (a name, or ``{"Backend": name}``), a ``class``, a ``reason``, a
message and a diagnostic. The table below is Dynamo 1.6.1's own, recorded from its wire.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from muster import errors

__all__ = ["WireError", "exception_from", "wire_error_from"]


class WireError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A failure as it travels. Field order is the peer's."""

    error_type: Any = "Unknown"
    class_: str = msgspec.field(default="Internal", name="class")
    reason: str = "backend.unknown"
    message: str = ""
    diagnostic: str = ""

    @property
    def kind(self) -> str:
        """The name in ``error_type``, whether wrapped as a backend's or not."""
        if isinstance(self.error_type, dict):
            return str(next(iter(self.error_type.values()), "Unknown"))
        return str(self.error_type)


_TABLE: dict[str, tuple[type[errors.MusterError], str, str]] = {
    # name on the wire: exception, class, reason
    "InvalidArgument": (errors.InvalidArgument, "InvalidRequest", "backend.invalid_argument"),
    "CannotConnect": (errors.CannotConnect, "Unavailable", "backend.cannot_connect"),
    "Disconnected": (errors.Disconnected, "Unavailable", "backend.disconnected"),
    "ConnectionTimeout": (
        errors.ConnectionTimeout,
        "DeadlineExceeded",
        "backend.connection_timeout",
    ),
    "ResponseTimeout": (errors.ResponseTimeout, "DeadlineExceeded", "backend.response_timeout"),
    "Cancelled": (errors.Cancelled, "Cancelled", "backend.cancelled"),
    "EngineShutdown": (errors.EngineShutdown, "Unavailable", "backend.engine_shutdown"),
    "StreamIncomplete": (errors.StreamIncomplete, "Unavailable", "backend.stream_incomplete"),
    "WorkerUnavailable": (
        errors.WorkerUnavailable,
        "Unavailable",
        "backend.worker_unavailable",
    ),
    "Unknown": (errors.Unknown, "Internal", "backend.unknown"),
}
_BARE = frozenset({"WorkerUnavailable"})
"""Names that travel as text rather than as ``{"Backend": name}``."""
_NAMES: dict[type[BaseException], str] = {kind: name for name, (kind, _, _) in _TABLE.items()}
_ALSO: dict[str, type[errors.MusterError]] = {
    "Unavailable": errors.WorkerUnavailable,
    "ResourceExhausted": errors.Overloaded,
}
_BUILTINS: tuple[tuple[type[BaseException], str], ...] = (
    (ValueError, "InvalidArgument"),
    (TypeError, "InvalidArgument"),
    (errors.RequestError, "InvalidArgument"),
    (TimeoutError, "ConnectionTimeout"),
    (ConnectionError, "Disconnected"),
    (asyncio.CancelledError, "Cancelled"),
)


def wire_error_from(error: BaseException) -> WireError:
    """The failure that tells the other side about ``error``.

    Our own exceptions travel by their class with their message alone; any other by its nearest
    kind, with its type's name before its text, as the peer's do.
    """
    name = _NAMES.get(type(error))
    text = str(error)
    if name is None:
        name = next((to for kind, to in _BUILTINS if isinstance(error, kind)), "Unknown")
        if not isinstance(error, errors.MusterError):
            text = f"{type(error).__name__}: {error}"
    _, class_, reason = _TABLE[name]
    return WireError(
        error_type=name if name in _BARE else {"Backend": name},
        class_=class_,
        reason=reason,
        message=text,
        diagnostic=text,
    )


def exception_from(error: WireError) -> errors.MusterError:
    """The exception that stands for a failure that arrived."""
    entry = _TABLE.get(error.kind)
    kind = entry[0] if entry else _ALSO.get(error.kind, errors.Unknown)
    return kind(error.message or error.diagnostic or error.reason)
