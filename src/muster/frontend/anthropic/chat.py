"""Anthropic's requests as chat requests. Pure."""

from __future__ import annotations

from typing import Any

from muster.frontend.anthropic.conversation import to_messages
from muster.frontend.anthropic.requests import (
    CountRequest,
    MessagesRequest,
    Thinking,
    ToolChoice,
    refuse_hosted,
)
from muster.frontend.api_error import ApiError

__all__ = ["count_to_chat", "to_chat"]

Json = dict[str, Any]

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_SAME = ("temperature", "top_k", "top_p", "stream")


def to_chat(request: MessagesRequest) -> Json:
    """The chat request that asks for the same.

    A last turn that is the assistant's is the beginning of the answer, which continues it.

    Raises:
        ApiError: 400 for what cannot be said in a chat request.
    """
    chat = _prompt(request) | {name: getattr(request, name) for name in _SAME}
    budget = request.thinking.budget_tokens if request.thinking is not None else None
    chat |= {
        "max_completion_tokens": request.max_tokens,
        "stop": request.stop_sequences or None,
        "user": (request.metadata or {}).get("user_id") or None,
        "stream_options": {"include_usage": True} if request.stream else None,
        "nvext": {"max_thinking_tokens": budget} if budget is not None else None,
    }
    return _without_none(chat)


def count_to_chat(request: CountRequest) -> Json:
    """A chat request with the same prompt.

    Raises:
        ApiError: As ``to_chat``.
    """
    return _without_none(_prompt(request))


def _prompt(request: CountRequest | MessagesRequest) -> Json:
    refuse_hosted(request)
    messages = to_messages(request.system, request.messages)
    choice = request.tool_choice
    output = request.output_config
    continues = bool(messages) and _has_text(messages[-1])
    return {
        "model": request.model,
        "messages": messages,
        "continue_final_message": True if continues else None,
        "tools": _tools(request.tools),
        "tool_choice": _tool_choice(choice),
        "parallel_tool_calls": False if choice and choice.disable_parallel_tool_use else None,
        "response_format": _response_format(output.format if output is not None else None),
        "reasoning_effort": output.effort if output is not None else None,
        "chat_template_kwargs": _template_kwargs(request.thinking, request.chat_template_kwargs),
    }


def _has_text(message: Json) -> bool:
    return (
        message["role"] == "assistant" and bool(message["content"]) and "tool_calls" not in message
    )


def _template_kwargs(thinking: Thinking | None, own: Json | None) -> Json | None:
    if thinking is None or thinking.type == "adaptive":
        return own
    return {"enable_thinking": thinking.type == "enabled", **(own or {})}


def _tools(tools: list[Json] | None) -> list[Json] | None:
    return [_tool(tool, f"tools.{n}") for n, tool in enumerate(tools)] if tools else None


def _tool(tool: Json, where: str) -> Json:
    kind = tool.get("type")
    if kind not in (None, "custom"):
        raise ApiError(
            400,
            f"{where}: tools of type {kind!r} are not supported, only the client's own are",
            param=where,
            slug="unsupported_value",
        )
    name = tool.get("name")
    if not isinstance(name, str):
        raise ApiError(400, f"{where}.name: must be a string", param=where, slug="invalid_value")
    function: Json = {"name": name}
    if tool.get("description"):
        function["description"] = tool["description"]
    if isinstance(tool.get("input_schema"), dict):
        function["parameters"] = tool["input_schema"]
    if tool.get("strict") is not None:
        function["strict"] = tool["strict"]
    return {"type": "function", "function": function}


def _tool_choice(choice: ToolChoice | None) -> str | Json | None:
    if choice is None:
        return None
    if choice.type != "tool":
        return _CHOICES[choice.type]
    if not choice.name:
        raise ApiError(
            400,
            "tool_choice.name: is required when the type is 'tool'",
            param="tool_choice",
            slug="invalid_value",
        )
    return {"type": "function", "function": {"name": choice.name}}


def _response_format(form: Json | None) -> Json | None:
    if form is None:
        return None
    if form.get("type") != "json_schema" or not isinstance(form.get("schema"), dict):
        raise ApiError(
            400,
            "output_config.format: must be of type 'json_schema' and have a schema",
            param="output_config",
            slug="invalid_value",
        )
    return {
        "type": "json_schema",
        "json_schema": {"name": "output", "schema": form["schema"], "strict": True},
    }


def _without_none(fields: Json) -> Json:
    return {name: value for name, value in fields.items() if value is not None}
