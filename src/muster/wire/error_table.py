"""The facts of failures on the wire, as Dynamo 1.6.1 writes and reads them.

A failure has a *kind*: the name in its ``error_type``, with ``Backend.`` before it if it came as
``{"Backend": name}``, or the name of a class. Every kind belongs to one class, has the reason that
is meant where none is given, and is one exception here. Recorded from a real worker and a real
client; ``tests/interop/test_errors_with_peer.py`` holds them against both.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from muster import errors
from muster.errors.error_class import ErrorClass

__all__ = ["BUILTINS", "INVALID", "KINDS", "REASONS", "WRITTEN_AS", "Kind", "kind_of"]


class Kind(NamedTuple):
    """What a kind of failure stands for."""

    error_class: ErrorClass
    reason: str
    exception: type[errors.MusterError]


KINDS: dict[str, Kind] = {
    # what an engine raised: travels as {"Backend": name}
    "Backend.Unknown": Kind(ErrorClass.INTERNAL, "backend.unknown", errors.Unknown),
    "Backend.InvalidArgument": Kind(
        ErrorClass.INVALID_REQUEST, "backend.invalid_argument", errors.InvalidArgument
    ),
    "Backend.CannotConnect": Kind(
        ErrorClass.UNAVAILABLE, "backend.cannot_connect", errors.CannotConnect
    ),
    "Backend.Disconnected": Kind(
        ErrorClass.UNAVAILABLE, "backend.disconnected", errors.Disconnected
    ),
    "Backend.ConnectionTimeout": Kind(
        ErrorClass.DEADLINE_EXCEEDED, "backend.connection_timeout", errors.ConnectionTimeout
    ),
    "Backend.ResponseTimeout": Kind(
        ErrorClass.DEADLINE_EXCEEDED, "backend.response_timeout", errors.ResponseTimeout
    ),
    "Backend.Cancelled": Kind(ErrorClass.CANCELLED, "backend.cancelled", errors.Cancelled),
    "Backend.EngineShutdown": Kind(
        ErrorClass.UNAVAILABLE, "backend.engine_shutdown", errors.EngineShutdown
    ),
    "Backend.StreamIncomplete": Kind(
        ErrorClass.UNAVAILABLE, "backend.stream_incomplete", errors.StreamIncomplete
    ),
    # what the runtime found: travels as text
    "Unknown": Kind(ErrorClass.INTERNAL, "runtime.unclassified", errors.Unknown),
    "InvalidArgument": Kind(
        ErrorClass.INVALID_REQUEST, "request.invalid_argument", errors.InvalidArgument
    ),
    "CannotConnect": Kind(ErrorClass.UNAVAILABLE, "transport.cannot_connect", errors.CannotConnect),
    "Disconnected": Kind(ErrorClass.UNAVAILABLE, "transport.disconnected", errors.Disconnected),
    "ConnectionTimeout": Kind(
        ErrorClass.DEADLINE_EXCEEDED, "transport.connection_timeout", errors.ConnectionTimeout
    ),
    "ResponseTimeout": Kind(
        ErrorClass.DEADLINE_EXCEEDED, "backend.response_timeout", errors.ResponseTimeout
    ),
    "ResourceExhausted": Kind(
        ErrorClass.CAPACITY_EXHAUSTED, "capacity.pool_exhausted", errors.Overloaded
    ),
    "WorkerOverloaded": Kind(
        ErrorClass.CAPACITY_EXHAUSTED, "capacity.worker_overloaded", errors.Overloaded
    ),
    "WorkerUnavailable": Kind(
        ErrorClass.UNAVAILABLE, "backend.worker_unavailable", errors.WorkerUnavailable
    ),
    # a class, where no narrower kind is named
    "InvalidRequest": Kind(ErrorClass.INVALID_REQUEST, "request.invalid", errors.InvalidArgument),
    "Unauthenticated": Kind(
        ErrorClass.UNAUTHENTICATED, "request.unauthenticated", errors.Unauthenticated
    ),
    "PermissionDenied": Kind(
        ErrorClass.PERMISSION_DENIED, "request.permission_denied", errors.PermissionDenied
    ),
    "NotFound": Kind(ErrorClass.NOT_FOUND, "request.not_found", errors.NotFound),
    "Conflict": Kind(ErrorClass.CONFLICT, "request.conflict", errors.Conflict),
    "PayloadTooLarge": Kind(
        ErrorClass.PAYLOAD_TOO_LARGE, "request.payload_too_large", errors.PayloadTooLarge
    ),
    "UnsupportedMedia": Kind(
        ErrorClass.UNSUPPORTED_MEDIA, "request.unsupported_media", errors.UnsupportedMedia
    ),
    "RateLimited": Kind(ErrorClass.RATE_LIMITED, "request.rate_limited", errors.RateLimited),
    "CapacityExhausted": Kind(
        ErrorClass.CAPACITY_EXHAUSTED, "capacity.exhausted", errors.Overloaded
    ),
    "Cancelled": Kind(ErrorClass.CANCELLED, "request.cancelled", errors.Cancelled),
    "Unavailable": Kind(ErrorClass.UNAVAILABLE, "backend.unavailable", errors.WorkerUnavailable),
    "BackendProtocol": Kind(ErrorClass.BACKEND_PROTOCOL, "backend.protocol", errors.ProtocolError),
    "DeadlineExceeded": Kind(
        ErrorClass.DEADLINE_EXCEEDED, "request.deadline_exceeded", errors.ResponseTimeout
    ),
    "NotImplemented": Kind(
        ErrorClass.NOT_IMPLEMENTED, "runtime.not_implemented", errors.Unimplemented
    ),
    "Internal": Kind(ErrorClass.INTERNAL, "runtime.internal", errors.Unknown),
}

INVALID = Kind(ErrorClass.INTERNAL, "runtime.invalid_error", errors.Unknown)
"""What a failure is taken for whose class or reason nobody knows, or that contradict each other."""

REASONS: dict[str, ErrorClass] = {
    **{kind.reason: kind.error_class for kind in (*KINDS.values(), INVALID)},
    "router.queue_deadline_exceeded": ErrorClass.DEADLINE_EXCEEDED,
}
"""The catalogue of reasons: each belongs to one class."""

WRITTEN_AS: dict[str, str] = {
    "InvalidRequest": "InvalidArgument",
    "PayloadTooLarge": "InvalidArgument",
    "UnsupportedMedia": "InvalidArgument",
    "DeadlineExceeded": "ResponseTimeout",
    "WorkerOverloaded": "ResourceExhausted",
    "CapacityExhausted": "ResourceExhausted",
    "RateLimited": "ResourceExhausted",
    "Unauthenticated": "Unknown",
    "PermissionDenied": "Unknown",
    "NotFound": "Unknown",
    "Conflict": "Unknown",
    "BackendProtocol": "Unknown",
    "NotImplemented": "Unknown",
    "Internal": "Unknown",
}
"""Kinds that travel under the name of another, for readers older than the classes."""

_RAISED: dict[type[BaseException], str] = {
    errors.InvalidArgument: "Backend.InvalidArgument",
    errors.RequestError: "Backend.InvalidArgument",
    errors.CannotConnect: "Backend.CannotConnect",
    errors.Disconnected: "Backend.Disconnected",
    errors.ConnectionTimeout: "Backend.ConnectionTimeout",
    errors.ResponseTimeout: "Backend.ResponseTimeout",
    errors.Cancelled: "Backend.Cancelled",
    errors.EngineShutdown: "Backend.EngineShutdown",
    errors.StreamIncomplete: "Backend.StreamIncomplete",
    errors.WorkerUnavailable: "WorkerUnavailable",
    errors.Overloaded: "WorkerOverloaded",
    **{
        KINDS[name].exception: name
        for name in (
            *("Unauthenticated", "PermissionDenied", "NotFound", "Conflict", "PayloadTooLarge"),
            *("UnsupportedMedia", "RateLimited", "BackendProtocol", "NotImplemented"),
        )
    },
}
BUILTINS: tuple[tuple[type[BaseException], str], ...] = (
    (ValueError, "Backend.InvalidArgument"),
    (TypeError, "Backend.InvalidArgument"),
    (TimeoutError, "Backend.ConnectionTimeout"),
    (ConnectionRefusedError, "Backend.CannotConnect"),
    (ConnectionError, "Backend.Disconnected"),
    (asyncio.CancelledError, "Backend.Cancelled"),
    (GeneratorExit, "Backend.EngineShutdown"),
    (SystemExit, "Backend.EngineShutdown"),
    (KeyboardInterrupt, "Backend.EngineShutdown"),
)
"""Kinds of exceptions that are not ours, the first that fits; any other is ``Backend.Unknown``."""


def kind_of(error: BaseException) -> str:
    """The kind of an exception raised here.

    The nearest of ours in its ancestry decides; of ours without a kind of its own, its
    ``error_class`` does.
    """
    for ancestor in type(error).__mro__:
        if ancestor in _RAISED:
            return _RAISED[ancestor]
    if isinstance(error, errors.MusterError):
        found = error.error_class
        return "Backend.Unknown" if found is ErrorClass.INTERNAL else str(found)
    return next((to for kind, to in BUILTINS if isinstance(error, kind)), "Backend.Unknown")
