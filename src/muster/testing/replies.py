"""What a reply to a chat is worth: an answer in full, a clear error, or neither. Pure."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["Ending", "Verdict", "read_reply", "read_stream"]


class Ending(enum.StrEnum):
    """How a request ended."""

    ANSWER = "answer"
    ERROR = "error"
    """A clear one: a status or an event of its own, with a message."""
    BROKEN = "broken"
    """Anything else a reply can be: cut off, incomplete, or an error without a message."""
    LATE = "late"
    """No end within the deadline."""


class Verdict(NamedTuple):
    """What a reply is worth, and for an error its code and message."""

    ending: Ending
    code: str = ""
    message: str = ""


def read_reply(status: int, body: bytes, tokens: int) -> Verdict:
    """What a reply to a chat that was to have ``tokens`` tokens is worth."""
    try:
        reply = json.loads(body)
    except ValueError:
        return Verdict(Ending.BROKEN, message=f"no JSON: {body[:200]!r}")
    if status != 200:
        return _error(reply)
    return _complete(reply, tokens)


def read_stream(events: Sequence[bytes], tokens: int) -> Verdict:
    """What a streamed reply with status 200 is worth: the texts after ``data: ``, in order.

    An answer names a reason for its end and has all its tokens; an error is an event of its own.
    Both end with ``[DONE]``.
    """
    if not events or events[-1] != b"[DONE]":
        return Verdict(Ending.BROKEN, message=f"ends with {events[-1:]!r} and no [DONE]")
    try:
        chunks = [json.loads(event) for event in events[:-1]]
    except ValueError:
        return Verdict(Ending.BROKEN, message="an event is no JSON")
    for chunk in chunks:
        if "error" in chunk:
            return _error(chunk)
    finished = any(
        choice.get("finish_reason") for chunk in chunks for choice in chunk.get("choices", ())
    )
    if not finished:
        return Verdict(Ending.BROKEN, message="no finish_reason")
    return _complete(chunks[-1], tokens)


def _error(reply: Any) -> Verdict:
    error = _part(reply, "error")
    message = _part(error, "message")
    if not isinstance(message, str) or not message:
        return Verdict(Ending.BROKEN, message=f"an error without a message: {str(reply)[:200]}")
    return Verdict(Ending.ERROR, code=str(_part(error, "code") or ""), message=message)


def _complete(reply: Any, tokens: int) -> Verdict:
    had = _part(_part(reply, "usage"), "completion_tokens")
    if had != tokens:
        return Verdict(Ending.BROKEN, message=f"{had} of {tokens} tokens")
    return Verdict(Ending.ANSWER)


def _part(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
