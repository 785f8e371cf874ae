"""Ids of requests: the client's own where it gives one, else a random UUID."""

from __future__ import annotations

import os
import uuid

from muster.http.exchange import Exchange

__all__ = ["engine_id", "new_id", "response_id"]

_MAX_LENGTH = 256


def new_id() -> str:
    """A random UUID (version 4) as text; a third of the cost of ``str(uuid.uuid4())``."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def response_id(exchange: Exchange) -> str:
    """What is answered as ``x-request-id``: what the client sent, if it is printable and short."""
    given = exchange.header(b"x-request-id")
    return given if given and len(given) <= _MAX_LENGTH and given.isprintable() else new_id()


def engine_id(exchange: Exchange) -> str:
    """The id engines and replies carry, always a UUID.

    ``x-dynamo-request-id`` or ``x-request-id`` if it is one, else the id the exchange was given, if
    that is our own, else a new one.
    """
    given = exchange.header(b"x-dynamo-request-id") or exchange.header(b"x-request-id")
    if not given:
        return exchange.request_id
    try:
        return str(uuid.UUID(given))
    except ValueError:
        return new_id()
