"""From a response's input items to chat messages. Pure.

The items of a turn of the assistant (reasoning, text, calls) become one message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from muster.frontend.api_error import ApiError

__all__ = ["to_messages"]

Message = dict[str, Any]

_ROLES = ("assistant", "developer", "system", "user")
_TEXTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")


def to_messages(items: str | Sequence[dict[str, Any]], instructions: str | None) -> list[Message]:
    """The conversation.

    Args:
        items: A text of the user's, or items.
        instructions: Become a system message before the others.

    Raises:
        ApiError: 400; ``param`` is the item's place.
    """
    messages: list[Message] = []
    if instructions:
        messages.append({"role": "system", "content": instructions})
    if not items:
        raise ApiError(400, "`input` is missing or empty", param="input", slug="invalid_value")
    if isinstance(items, str):
        return [*messages, {"role": "user", "content": items}]
    reader = _Reader(messages)
    for position, item in enumerate(items):
        reader.take(item, f"input[{position}]")
    reader.end_turn()
    return messages


class _Reader:
    """Collects the assistant's items until the turn is another's."""

    def __init__(self, messages: list[Message]) -> None:
        self._messages = messages
        self._turn: Message = {}

    def end_turn(self) -> None:
        """The assistant's turn is over, if there is one."""
        if self._turn:
            self._messages.append({"role": "assistant", "content": None, **self._turn})
            self._turn = {}

    def take(self, item: dict[str, Any], where: str) -> None:
        """Take the next item."""
        match item.get("type", "message"):
            case "message":
                self._message(item, where)
            case "reasoning":
                self._reasoning(item, where)
            case "function_call":
                self._call(item, where)
            case "function_call_output":
                self._output(item, where)
            case kind:
                raise ApiError(
                    400,
                    f"{where}: items of type {kind!r} are not supported",
                    param=f"{where}.type",
                    slug="unsupported_value",
                )

    def _message(self, item: dict[str, Any], where: str) -> None:
        role = item.get("role")
        if role not in _ROLES:
            known = ", ".join(_ROLES)
            raise _fail(f"{where}.role", f"the role must be one of {known}, got {role!r}")
        content = _content(item.get("content"), f"{where}.content")
        if role != "assistant":
            self.end_turn()
            self._messages.append({"role": role, "content": content})
            return
        if "content" in self._turn or "tool_calls" in self._turn:
            self.end_turn()
        self._turn["content"] = content

    def _reasoning(self, item: dict[str, Any], where: str) -> None:
        if "content" in self._turn or "tool_calls" in self._turn:
            self.end_turn()
        parts = item.get("content") or item.get("summary") or []
        content = _content(parts, f"{where}.content")
        texts = (
            [content]
            if isinstance(content, str)
            else [part.get("text") or part["refusal"] for part in content]
        )
        earlier = self._turn.get("reasoning_content")
        text = "\n".join([*([earlier] if earlier else []), *texts])
        if text:  # an encrypted one says nothing to anybody here
            self._turn["reasoning_content"] = text

    def _call(self, item: dict[str, Any], where: str) -> None:
        function = {
            "name": _text(item, "name", where),
            "arguments": _text(item, "arguments", where),
        }
        call = {"id": _text(item, "call_id", where), "type": "function", "function": function}
        self._turn.setdefault("tool_calls", []).append(call)

    def _output(self, item: dict[str, Any], where: str) -> None:
        self.end_turn()
        message = {
            "role": "tool",
            "tool_call_id": _text(item, "call_id", where),
            "content": _content(item.get("output"), f"{where}.output"),
        }
        self._messages.append(message)


def _content(content: object, where: str) -> str | list[dict[str, Any]]:
    """A text, or the chat API's parts. One text part becomes the text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise _fail(where, "the content must be a string or a list of parts")
    parts = [_part(part, f"{where}[{position}]") for position, part in enumerate(content)]
    if len(parts) == 1 and parts[0]["type"] == "text":
        return str(parts[0]["text"])
    return parts


def _part(part: object, where: str) -> dict[str, Any]:
    if not isinstance(part, dict):
        raise _fail(where, "a part must be an object")
    kind = part.get("type")
    if kind in _TEXTS:
        return {"type": "text", "text": _text(part, "text", where)}
    if kind == "refusal":
        return {"type": "refusal", "refusal": _text(part, "refusal", where)}
    raise ApiError(
        400,
        f"{where}: content of type {kind!r} is not supported, only text is",
        param=f"{where}.type",
        slug="unsupported_value",
    )


def _text(item: dict[str, Any], key: str, where: str) -> str:
    value = item.get(key)
    if not isinstance(value, str):
        raise _fail(f"{where}.{key}", f"{key!r} must be a string")
    return value


def _fail(where: str, message: str) -> ApiError:
    return ApiError(400, f"{where}: {message}", param=where, slug="invalid_value")
