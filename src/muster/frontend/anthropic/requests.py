"""Bodies of ``POST /v1/messages`` and ``/v1/messages/count_tokens``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from muster.frontend.api_error import ApiError
from muster.frontend.openai.requests import I32

__all__ = [
    "CountRequest",
    "InputMessage",
    "MessagesRequest",
    "Thinking",
    "ToolChoice",
    "refuse_hosted",
]

MaxTokens = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class InputMessage(msgspec.Struct, frozen=True):
    """One turn: a text or content blocks."""

    role: str
    content: str | list[dict[str, Any]]


class Thinking(msgspec.Struct, frozen=True):
    """Whether the model thinks before it answers, and how long."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None


class ToolChoice(msgspec.Struct, frozen=True):
    """Whether tools are used."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class OutputConfig(msgspec.Struct, frozen=True):
    """The effort, and the form of the text."""

    effort: str | None = None
    format: dict[str, Any] | None = None


class _Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """What a prompt is made of."""

    model: str
    messages: list[InputMessage]
    system: str | list[dict[str, Any]] | None = None
    thinking: Thinking | None = None
    tool_choice: ToolChoice | None = None
    tools: list[dict[str, Any]] | None = None
    output_config: OutputConfig | None = None
    chat_template_kwargs: dict[str, Any] | None = None  # not Anthropic's
    mcp_servers: list[Any] | None = None
    container: Any = None


class CountRequest(_Prompt, frozen=True, kw_only=True):
    """``POST /v1/messages/count_tokens``."""


class MessagesRequest(_Prompt, frozen=True, kw_only=True):
    """``POST /v1/messages``."""

    max_tokens: MaxTokens
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_k: I32 | None = None
    top_p: float | None = None


def refuse_hosted(request: CountRequest | MessagesRequest) -> None:
    """Refuse what would need a service behind this one.

    Raises:
        ApiError: 400.
    """
    for field in ("mcp_servers", "container"):
        if getattr(request, field):
            raise ApiError(
                400, f"{field}: is not supported", param=field, slug="unsupported_parameter"
            )
