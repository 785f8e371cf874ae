"""What the status server reads of a request beside its path: bodies' limits, names within paths."""

from __future__ import annotations

import math
from urllib.parse import unquote_to_bytes

from muster.config.settings import SystemSettings
from muster.errors import InvalidArgument
from muster.http.limits import HttpLimits

__all__ = ["TOO_LARGE", "body_limits", "decode_name"]

TOO_LARGE = "Failed to buffer the request body: length limit exceeded"
"""Dynamo's answer, with status 413, to a body above the limit."""


def body_limits(settings: SystemSettings) -> HttpLimits:
    """The settings' limits: a body arrives whole within its time, however fast or slow."""
    return HttpLimits(
        body_bytes=settings.body_limit_bytes,
        request_s=settings.body_timeout_s,
        body_bytes_per_s=math.inf,
    )


def decode_name(text: str, *, what: str) -> str:
    """A name at the end of a raw path, its percent escapes decoded once.

    Args:
        text: As sent; bytes outside UTF-8 as surrogate escapes.
        what: What Dynamo calls it in its message.

    Raises:
        InvalidArgument: If it is not UTF-8; the message is Dynamo's.
    """
    try:
        return unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode("utf-8")
    except UnicodeError as error:
        raise InvalidArgument(f"Invalid URL: Invalid UTF-8 in `{what}`") from error
