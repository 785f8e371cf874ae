"""What is wrong with a request."""

from __future__ import annotations

from muster.errors.base import MusterError
from muster.errors.error_class import ErrorClass

__all__ = [
    "Conflict",
    "InvalidArgument",
    "NotFound",
    "PayloadTooLarge",
    "PermissionDenied",
    "RateLimited",
    "RequestError",
    "Unauthenticated",
    "UnsupportedMedia",
]


class RequestError(MusterError):
    """The caller's request is at fault."""

    code = "request"
    error_class = ErrorClass.INVALID_REQUEST


class InvalidArgument(RequestError):
    """A value in the request is not acceptable."""

    code = "invalid_argument"


class Unauthenticated(RequestError):
    """The request does not say who sends it, or that is not believed."""

    code = "unauthenticated"
    error_class = ErrorClass.UNAUTHENTICATED


class PermissionDenied(RequestError):
    """Who sends the request may not do that."""

    code = "permission_denied"
    error_class = ErrorClass.PERMISSION_DENIED


class NotFound(RequestError):
    """What the request asks for does not exist."""

    code = "not_found"
    error_class = ErrorClass.NOT_FOUND


class Conflict(RequestError):
    """The request contradicts the present state of what it is about."""

    code = "request_conflict"
    error_class = ErrorClass.CONFLICT


class PayloadTooLarge(RequestError):
    """The request is larger than is allowed."""

    code = "payload_too_large"
    error_class = ErrorClass.PAYLOAD_TOO_LARGE


class UnsupportedMedia(RequestError):
    """The request holds a kind of content that nobody here reads."""

    code = "unsupported_media"
    error_class = ErrorClass.UNSUPPORTED_MEDIA


class RateLimited(RequestError):
    """The request's sender asks more often than it may."""

    code = "rate_limited"
    error_class = ErrorClass.RATE_LIMITED
