"""What a response is made of, in the order OpenAI writes the fields."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from muster.frontend.openai.reply import PromptTokensDetails

__all__ = [
    "FunctionCall",
    "IncompleteDetails",
    "Message",
    "OutputItem",
    "OutputText",
    "OutputTokensDetails",
    "ReasoningItem",
    "ReasoningText",
    "Response",
    "ResponseError",
    "ResponseUsage",
    "Status",
]

Status = Literal["in_progress", "completed", "incomplete", "failed"]


class OutputText(msgspec.Struct, frozen=True, kw_only=True):
    """The one part of a message."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[Any] = []
    logprobs: list[dict[str, Any]] = []


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="message"):
    """Text."""

    id: str
    status: Status
    role: Literal["assistant"] = "assistant"
    content: list[OutputText]


class ReasoningText(msgspec.Struct, frozen=True, kw_only=True):
    """The one part of an item of reasoning."""

    type: Literal["reasoning_text"] = "reasoning_text"
    text: str


class ReasoningItem(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="reasoning"):
    """Reasoning. It is returned as it is: nobody summarises it."""

    id: str
    summary: list[Any] = []
    content: list[ReasoningText]
    status: Status


class FunctionCall(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="function_call"
):
    """A call of a function; ``arguments`` is JSON text."""

    id: str
    status: Status
    call_id: str
    name: str
    arguments: str


OutputItem = Message | ReasoningItem | FunctionCall


class OutputTokensDetails(msgspec.Struct, frozen=True):
    """How many of the tokens were reasoning, as far as it is known."""

    reasoning_tokens: int


class InputTokensDetails(PromptTokensDetails, frozen=True):
    """How many prompt tokens the engine had cached, and how many it wrote there (it never says)."""

    cache_write_tokens: int = 0


class ResponseUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of a response."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponseError(msgspec.Struct, frozen=True):
    """Why a response failed."""

    code: str
    message: str


class IncompleteDetails(msgspec.Struct, frozen=True):
    """Why a response is not whole."""

    reason: str


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """``response``: the request's settings, and the output."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Status
    background: bool = False
    completed_at: int | None = None
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    model: str
    output: list[OutputItem] = []
    parallel_tool_calls: bool = True
    previous_response_id: None = None
    prompt_cache_key: str | None = None
    reasoning: dict[str, str | None]
    safety_identifier: str | None = None
    service_tier: str = "default"
    store: bool = False
    temperature: float = 1.0
    text: dict[str, Any]
    tool_choice: str | dict[str, Any] = "auto"
    tools: list[dict[str, Any]] = []
    top_logprobs: int = 0
    top_p: float = 1.0
    truncation: str = "disabled"
    usage: ResponseUsage | None = None
    user: str | None = None
    metadata: dict[str, str] = {}
