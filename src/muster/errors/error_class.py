"""What kind of failure it is: fifteen classes that both sides of the wire know.

A class says what failed, not what to do about it; that is its reader's to decide. Each belongs to
one HTTP status.
"""

from __future__ import annotations

import enum
from typing import Self

__all__ = ["ErrorClass"]


class ErrorClass(enum.StrEnum):
    """A failure's class, by its name on the wire. The set is closed: Dynamo 1.6.1's."""

    status: int
    """What an HTTP client gets. 499 and 529 are the statuses Dynamo uses for the same events."""

    def __new__(cls, name: str, status: int) -> Self:
        """A class by its name on the wire and its HTTP status."""
        made = str.__new__(cls, name)
        made._value_ = name
        made.status = status
        return made

    INVALID_REQUEST = "InvalidRequest", 400
    UNAUTHENTICATED = "Unauthenticated", 401
    PERMISSION_DENIED = "PermissionDenied", 403
    NOT_FOUND = "NotFound", 404
    CONFLICT = "Conflict", 409
    PAYLOAD_TOO_LARGE = "PayloadTooLarge", 413
    UNSUPPORTED_MEDIA = "UnsupportedMedia", 415
    RATE_LIMITED = "RateLimited", 429
    CANCELLED = "Cancelled", 499
    INTERNAL = "Internal", 500
    NOT_IMPLEMENTED = "NotImplemented", 501
    BACKEND_PROTOCOL = "BackendProtocol", 502
    UNAVAILABLE = "Unavailable", 503
    DEADLINE_EXCEEDED = "DeadlineExceeded", 504
    CAPACITY_EXHAUSTED = "CapacityExhausted", 529

    @classmethod
    def of_status(cls, status: int) -> ErrorClass:
        """The class of an HTTP status; ``INTERNAL`` for those that say nothing of the request."""
        found = _BY_STATUS.get(status)
        if found is not None:
            return found
        return cls.INVALID_REQUEST if 400 <= status < 500 else cls.INTERNAL


_BY_STATUS = {found.status: found for found in ErrorClass} | {
    408: ErrorClass.DEADLINE_EXCEEDED,
    431: ErrorClass.PAYLOAD_TOO_LARGE,
}
