"""From Anthropic's turns to chat messages. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from muster.frontend.anthropic.requests import InputMessage
from muster.frontend.api_error import ApiError

__all__ = ["to_messages"]

Json = dict[str, Any]

_BILLING = "x-anthropic-billing-header:"
"""Begins a system block that Claude Code sends: different in every request, so no two would share
the beginning of a prompt; meant for nobody here."""


def to_messages(system: str | Sequence[Json] | None, turns: Sequence[InputMessage]) -> list[Json]:
    """The conversation. Results of tools become messages of their own, in their place.

    Raises:
        ApiError: 400; the message says where.
    """
    messages: list[Json] = []
    blocks = [{"type": "text", "text": system}] if isinstance(system, str) else system or ()
    parts = [_text(block, f"system.{n}") for n, block in enumerate(blocks)]
    parts = [part for part in parts if part["text"] and not part["text"].startswith(_BILLING)]
    if parts:
        messages.append({"role": "system", "content": _content(parts)})
    for position, turn in enumerate(turns):
        where = f"messages.{position}"
        if isinstance(turn.content, str):
            _check_role(turn.role, where)
            messages.append({"role": turn.role, "content": turn.content})
        elif turn.role == "assistant":
            messages.append(_assistant(turn.content, where))
        else:
            _check_role(turn.role, where)
            messages += _others(turn.role, turn.content, where)
    return messages


def _check_role(role: str, where: str) -> None:
    if role not in ("user", "assistant", "system"):
        raise _fail(f"{where}.role", f"must be 'user' or 'assistant', got {role!r}")


def _assistant(blocks: Sequence[Json], where: str) -> Json:
    texts: list[Json] = []
    thoughts: list[str] = []
    calls: list[Json] = []
    for number, block in enumerate(blocks):
        place = f"{where}.content.{number}"
        match block.get("type"):
            case "text":
                texts.append(_text(block, place))
            case "thinking":
                thoughts.append(_string(block, "thinking", place))
            case "redacted_thinking":
                pass  # nobody here can read it
            case "tool_use":
                calls.append(_call(block, place))
            case kind:
                raise _unsupported(place, kind)
    message: Json = {"role": "assistant", "content": _content(texts) if texts else None}
    if thoughts:
        message["reasoning_content"] = "\n".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def _call(block: Json, where: str) -> Json:
    arguments = block.get("input", {})
    if not isinstance(arguments, dict):
        raise _fail(f"{where}.input", "must be an object")
    function = {
        "name": _string(block, "name", where),
        "arguments": msgspec.json.encode(arguments).decode(),
    }
    return {"id": _string(block, "id", where), "type": "function", "function": function}


def _others(role: str, blocks: Sequence[Json], where: str) -> list[Json]:
    """The messages of a user's turn: what it says, and results of tools where they stand."""
    messages: list[Json] = []
    parts: list[Json] = []
    for number, block in enumerate(blocks):
        place = f"{where}.content.{number}"
        if block.get("type") == "tool_result":
            if parts:
                messages.append({"role": role, "content": _content(parts)})
                parts = []
            messages.append(_result(block, place))
        else:
            parts.append(_said(block, place))
    if parts or not messages:
        messages.append({"role": role, "content": _content(parts)})
    return messages


def _result(block: Json, where: str) -> Json:
    content = block.get("content") or ""
    if not isinstance(content, str):
        if not isinstance(content, list):
            raise _fail(f"{where}.content", "must be a string or a list of blocks")
        content = _content([_said(part, f"{where}.content.{n}") for n, part in enumerate(content)])
    call_id = _string(block, "tool_use_id", where)
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def _said(block: object, where: str) -> Json:
    """A block of text, or a document that is one."""
    kind = block.get("type") if isinstance(block, dict) else None
    if isinstance(block, dict) and kind == "document":
        source = block.get("source")
        if isinstance(source, dict) and source.get("type") == "text":
            return {"type": "text", "text": _string(source, "data", f"{where}.source")}
    if kind != "text":
        raise _unsupported(where, kind)
    return _text(block, where)


def _text(block: object, where: str) -> Json:
    if not isinstance(block, dict) or block.get("type") != "text":
        raise _unsupported(where, block.get("type") if isinstance(block, dict) else None)
    return {"type": "text", "text": _string(block, "text", where)}


def _content(parts: list[Json]) -> str | list[Json]:
    """One text as it is; several as parts, which templates get joined by newlines."""
    if not parts:
        return ""
    return str(parts[0]["text"]) if len(parts) == 1 else parts


def _string(block: Json, key: str, where: str) -> str:
    value = block.get(key)
    if not isinstance(value, str):
        raise _fail(f"{where}.{key}", "must be a string")
    return value


def _unsupported(where: str, kind: object) -> ApiError:
    return ApiError(
        400,
        f"{where}: blocks of type {kind!r} are not supported here",
        param=where,
        slug="unsupported_value",
    )


def _fail(where: str, message: str) -> ApiError:
    return ApiError(400, f"{where}: {message}", param=where, slug="invalid_value")
