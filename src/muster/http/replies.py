"""Usual forms of answers: JSON, a sentence, headers alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from muster.http.exchange import Exchange

__all__ = ["refuse_method", "reply_empty", "reply_json", "reply_text"]


def reply_json(exchange: Exchange, status: int, value: Any) -> None:
    """Answer with a value as JSON.

    Raises:
        TypeError: The value is none that JSON can say; nothing has been answered.
        ValueError: Likewise.
    """
    exchange.respond(status, msgspec.json.encode(value))


def reply_text(
    exchange: Exchange, status: int, text: str, headers: Mapping[str, str] | None = None
) -> None:
    """Answer with a sentence."""
    body = text.encode("utf-8", "replace")
    exchange.respond(status, body, content_type="text/plain; charset=utf-8", headers=headers)


def reply_empty(exchange: Exchange, status: int, headers: Mapping[str, str]) -> None:
    """Answer with headers alone."""
    exchange.respond(status, b"", content_type="", headers=headers)


def refuse_method(exchange: Exchange, *, allow: str) -> None:
    """Answer with 405: only the methods in ``allow`` are for this path."""
    reply_empty(exchange, 405, {"allow": allow})
