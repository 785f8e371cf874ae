"""Errors in Anthropic's shape, on Anthropic's routes. Pure."""

from __future__ import annotations

import msgspec

from muster.frontend.api_error import ApiError

__all__ = ["answers_in_this_shape", "error_body", "error_type"]

_PREFIX = "/v1/messages"
"""Paths of this API are this one and those below it."""

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class _Detail(msgspec.Struct, frozen=True):
    type: str
    message: str


class _Body(msgspec.Struct, frozen=True, omit_defaults=True):
    error: _Detail
    request_id: str | None = None


_encode = msgspec.json.Encoder().encode


def error_type(status: int) -> str:
    """Anthropic's word for a status."""
    return _TYPES.get(status) or ("invalid_request_error" if status < 500 else "api_error")


def error_body(error: ApiError, request_id: str = "") -> bytes:
    """The JSON object."""
    detail = _Detail(error_type(error.status), error.message)
    body = _encode(_Body(detail, request_id or None))
    return b'{"type":"error",' + body[1:]


def answers_in_this_shape(path: str) -> bool:
    """Whether errors on ``path`` are this API's."""
    return path.startswith(_PREFIX) and path[len(_PREFIX) : len(_PREFIX) + 1] in ("", "/")
