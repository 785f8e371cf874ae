"""When a busy server wants to be asked again: the ``Retry-After`` header, RFC 9110, 10.2.3."""

from __future__ import annotations

import datetime
import email.utils

__all__ = ["retry_after_s"]

_DEFAULT_S = 1.0
_MOST_S = 300.0


def retry_after_s(header: str | None, *, now: float) -> float:
    """Seconds to wait, from 0 to 300; 1 if the header is missing or makes no sense.

    Args:
        header: Seconds, or an HTTP date.
        now: The wall clock's time, in seconds since the epoch.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:10]), _MOST_S)
    try:
        at = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return _DEFAULT_S
    if at.tzinfo is None:
        at = at.replace(tzinfo=datetime.UTC)
    return min(max(at.timestamp() - now, 0.0), _MOST_S)
