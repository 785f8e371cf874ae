"""Tools and the form of the text, from the Responses API's shape to the chat API's. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from muster.frontend.api_error import ApiError

__all__ = ["to_response_format", "to_tool_choice", "to_tools"]

_CHOICES = frozenset({"none", "auto", "required"})
Json = dict[str, Any]


def to_tools(tools: Sequence[Json] | None) -> list[Json] | None:
    """Functions in the chat API's nested form; ``None`` for no tools.

    Raises:
        ApiError: 400 for tools that somebody else would have to run, by name.
    """
    return [_tool(tool, f"tools[{n}]") for n, tool in enumerate(tools)] if tools else None


def _tool(tool: Json, where: str) -> Json:
    kind = tool.get("type")
    if kind != "function":
        raise _unsupported(f"{where}.type", f"tools of type {kind!r}")
    if not isinstance(tool.get("name"), str):
        raise ApiError(
            400, f"{where}: the name is missing", param=f"{where}.name", slug="invalid_value"
        )
    fields = ("name", "description", "parameters", "strict")
    function = {key: tool[key] for key in fields if tool.get(key) is not None}
    return {"type": "function", "function": function}


def to_tool_choice(
    choice: str | Json | None, tools: list[Json] | None
) -> tuple[str | Json | None, list[Json] | None]:
    """The chat API's ``tool_choice``, and the tools it leaves.

    Raises:
        ApiError: 400 for a choice the chat API cannot express.
    """
    if choice is None or (isinstance(choice, str) and choice in _CHOICES):
        return choice, tools
    if isinstance(choice, dict):
        if choice.get("type") == "function":
            return {"type": "function", "function": {"name": choice.get("name")}}, tools
        if choice.get("type") == "allowed_tools":
            return choice.get("mode", "auto"), _allowed(choice.get("tools"), tools)
    raise _unsupported("tool_choice", f"the choice {choice!r}")


def _allowed(allowed: object, tools: list[Json] | None) -> list[Json] | None:
    entries = allowed if isinstance(allowed, list) else []
    names = [entry.get("name") for entry in entries if isinstance(entry, dict)]
    return [tool for tool in tools or () if tool["function"]["name"] in names] or None


def to_response_format(form: Json | None) -> Json | None:
    """The chat API's ``response_format``; ``None`` for plain text.

    Raises:
        ApiError: 400 for a form nobody knows, or a schema that is missing.
    """
    kind = form.get("type") if form is not None else "text"
    if form is None or kind == "text":
        return None
    if kind == "json_object":
        return {"type": "json_object"}
    if kind != "json_schema":
        raise _unsupported("text.format.type", f"the format {kind!r}")
    if not isinstance(form.get("schema"), dict):
        raise ApiError(
            400,
            "`text.format` of type 'json_schema' needs a `schema`",
            param="text.format.schema",
            slug="invalid_value",
        )
    fields = ("name", "description", "schema", "strict")
    return {
        "type": "json_schema",
        "json_schema": {key: form[key] for key in fields if form.get(key) is not None},
    }


def _unsupported(where: str, what: str) -> ApiError:
    return ApiError(
        400, f"`{where}`: {what} is not supported", param=where, slug="unsupported_value"
    )
