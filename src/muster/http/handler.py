"""What a service gives the server: who answers, who refuses, whose large bodies are read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from muster.http.exchange import Exchange

__all__ = ["Handler", "Knows", "Refuse"]

Handler = Callable[[Exchange], Awaitable[None]]
"""Answers one exchange. What it raises is logged and answered with status 500."""

Refuse = Callable[[Exchange, int, str], None]
"""Answers an exchange that never reaches a handler: status and text."""

Knows = Callable[[bytes, Mapping[bytes, bytes]], bool]
"""Whether the sender of a head (target, headers) may send more than a small body."""
