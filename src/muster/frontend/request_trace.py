"""What a client that asks for it is told of its request: where it went, how often, how long.

Asked for with ``x-muster-trace: 1``. A whole answer has it in its own ``x-muster-trace`` header; a
stream, whose header is gone before the last instance is known, in a comment before its end, which
clients of server-sent events skip. Either way it is one JSON object::

    {"queue_ms": 1.2, "engine_ms": 80.4,
     "prompts": [{"instance": "7ab3", "cohort": "39628a…", "attempts": 2, "session": "home",
                  "lost": [{"instance": "51f0", "code": "disconnected", "tokens": 12}]}]}

``queue_ms`` is from the request's arrival until an instance took it (the first prompt's, if there
are several), ``engine_ms`` from then to the end; moves are part of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from muster.frontend.journey import Journey
from muster.http.exchange import Exchange

__all__ = ["TRACE_HEADER", "describe_request", "trace_comment", "wants_trace"]

TRACE_HEADER = "x-muster-trace"
_ASKED = TRACE_HEADER.encode()


def wants_trace(exchange: Exchange) -> bool:
    """Whether the client asks for it."""
    return exchange.headers.get(_ASKED, b"") in (b"1", b"true")


def describe_request(journeys: Sequence[Journey], *, arrived: float, now: float) -> str:
    """The JSON object, ASCII only.

    Args:
        journeys: Of each prompt that has been sent, in order.
        arrived: When the request came, on the clock of the journeys, in seconds.
        now: The same clock now.
    """
    taken = [each.taken_at for each in journeys if each.taken_at is not None]
    first = min(taken, default=now)
    found = {
        "queue_ms": round((first - arrived) * 1e3, 3),
        "engine_ms": round((now - first) * 1e3, 3),
        "prompts": [each.facts() for each in journeys],
    }
    return msgspec.json.encode(found).decode("ascii")


def trace_comment(text: str) -> bytes:
    """The comment of a stream for what ``describe_request`` says."""
    return b": %b %b\n\n" % (_ASKED, text.encode("ascii"))
