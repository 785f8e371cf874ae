"""Bounds on what a client may send and how long it may take."""

from __future__ import annotations

import dataclasses

__all__ = ["HttpLimits"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Bounds of one service.

    Attributes:
        head_bytes: Largest request line and headers together.
        body_bytes: Largest body.
        request_s: Limit on a request's head, and longest silence within its body.
        idle_s: How long an idle connection is kept; longer than the usual proxy's own limit.
        body_bytes_per_s: A body must come this fast on average, ``request_s`` aside: a byte now and
            then, never silent for long, does not keep a connection. With infinity it has
            ``request_s`` in all.
        write_s: How long a client may leave its response unread once its buffer is full, or once
            the connection is to close.
        linger_s: How long the rest of a refused request is read, so that the refusal arrives.
    """

    head_bytes: int = 64 << 10
    body_bytes: int = 45 << 20
    request_s: float = 30.0
    idle_s: float = 620.0
    body_bytes_per_s: float = 8192
    write_s: float = 60.0
    linger_s: float = 5.0
