"""Failures on the wire and as exceptions: one table, read both ways.

A failure travels as ``error_type`` (a name, or ``{"Backend": name}``), a ``class``, a ``reason``, a
message, a diagnostic and, if clients may read it, its ``public`` text. The tables below are Dynamo
1.6.1's own, recorded from its wire.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated, Any

import msgspec

from muster import errors

__all__ = ["WireError", "exception_from", "wire_error_from"]


class WireError(msgspec.Struct, frozen=True, kw_only=True):
    """A failure as it travels. Field order is the peer's."""

    error_type: Any = "Unknown"
    class_: str = msgspec.field(default="Internal", name="class")
    reason: str = "backend.unknown"
    message: str = ""
    diagnostic: str = ""
    public: Any = msgspec.UNSET
    """What a Dynamo frontend may tell its client; left out, it says no more than the class. Written
    as ``{"type": "message", "message": text}``, read by nobody here: our frontend has the message.
    """

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
_INVALID = ("InvalidArgument", "InvalidRequest", "request.invalid")
_INTERNAL = ("Unknown", "Internal", "runtime.internal")
_HTTP: dict[int, tuple[str, str, str]] = {
    401: ("Unknown", "Unauthenticated", "request.unauthenticated"),
    403: ("Unknown", "PermissionDenied", "request.permission_denied"),
    404: ("Unknown", "NotFound", "request.not_found"),
    408: ("ResponseTimeout", "DeadlineExceeded", "request.deadline_exceeded"),
    409: ("Unknown", "Conflict", "request.conflict"),
    413: ("InvalidArgument", "PayloadTooLarge", "request.payload_too_large"),
    415: ("InvalidArgument", "UnsupportedMedia", "request.unsupported_media"),
    429: ("ResourceExhausted", "RateLimited", "request.rate_limited"),
    431: ("InvalidArgument", "PayloadTooLarge", "request.payload_too_large"),
    499: ("Cancelled", "Cancelled", "request.cancelled"),
    501: ("Unknown", "NotImplemented", "runtime.not_implemented"),
    502: ("Unknown", "BackendProtocol", "backend.protocol"),
    503: ("Unavailable", "Unavailable", "backend.unavailable"),
    504: ("ResponseTimeout", "DeadlineExceeded", "request.deadline_exceeded"),
    529: ("ResourceExhausted", "CapacityExhausted", "capacity.exhausted"),
}
"""Type, class and reason of statuses; other 4xx are ``_INVALID``, the rest ``_INTERNAL``."""


class _HttpMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the message of an ``HttpError`` holds, as JSON text."""

    message: str
    code: Annotated[int, msgspec.Meta(ge=0, lt=600)]


_http_message = msgspec.json.Decoder(_HttpMessage).decode


def wire_error_from(error: BaseException) -> WireError:
    """The failure that tells the other side about ``error``.

    Our own exceptions travel by their class with their message alone; any other by its nearest
    kind, with its type's name before its text, as the peer's do.
    """
    if isinstance(error, errors.HttpError):
        return _wire_http_error(error)
    name = _NAMES.get(type(error))
    text = str(error)
    if name is None:
        name = next((to for kind, to in _BUILTINS if isinstance(error, kind)), "Unknown")
        if not isinstance(error, errors.MusterError):
            text = f"{type(error).__name__}: {error}"
    _, class_, reason = _TABLE[name]
    is_public = isinstance(error, errors.RequestError)  # written for the client to read
    return WireError(
        error_type=name if name in _BARE else {"Backend": name},
        class_=class_,
        reason=reason,
        message=text,
        diagnostic=text,
        public={"type": "message", "message": text} if is_public else msgspec.UNSET,
    )


def exception_from(error: WireError) -> errors.MusterError:
    """The exception that stands for a failure that arrived."""
    text = error.message or error.diagnostic or error.reason
    if isinstance(error.error_type, str) and text.startswith("{"):
        with contextlib.suppress(msgspec.DecodeError):
            told = _http_message(text)
            return errors.HttpError(told.code, told.message)
    entry = _TABLE.get(error.kind)
    kind = entry[0] if entry else _ALSO.get(error.kind, errors.Unknown)
    return kind(text)


def _wire_http_error(error: errors.HttpError) -> WireError:
    other = _INVALID if 400 <= error.status < 500 else _INTERNAL
    name, class_, reason = _HTTP.get(error.status, other)
    text = msgspec.json.encode(_HttpMessage(error.message, error.status)).decode()
    return WireError(error_type=name, class_=class_, reason=reason, message=text, diagnostic=text)
