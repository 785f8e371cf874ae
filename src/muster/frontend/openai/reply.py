"""Replies that are sent whole: the fields clients expect, in the order OpenAI writes them."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

__all__ = [
    "ChatChoice",
    "ChatLogprobs",
    "ChatMessage",
    "ChatReply",
    "CompletionChoice",
    "CompletionLogprobs",
    "CompletionReply",
    "CompletionTokensDetails",
    "FunctionCall",
    "PromptTokensDetails",
    "ReasoningField",
    "TokenLogprob",
    "ToolCall",
    "TopTokenLogprob",
    "Usage",
]


class PromptTokensDetails(msgspec.Struct, frozen=True):
    """How many prompt tokens the engine had cached."""

    cached_tokens: int


class CompletionTokensDetails(msgspec.Struct, frozen=True):
    """What the tokens of a reply were spent on."""

    reasoning_tokens: int


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None


class TopTokenLogprob(msgspec.Struct, frozen=True):
    """One of the likeliest tokens at a position."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(msgspec.Struct, frozen=True):
    """The token at a position. ``token_id`` is an addition of Dynamo's."""

    token: str
    logprob: float
    token_id: int
    bytes: list[int] | None
    top_logprobs: list[TopTokenLogprob]


class ChatLogprobs(msgspec.Struct, frozen=True):
    """Log probabilities of a chat reply's, or chunk's, tokens."""

    content: list[TokenLogprob]
    refusal: None = None


class FunctionCall(msgspec.Struct, frozen=True):
    """The function a model wants called; ``arguments`` is JSON text."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a message."""

    id: str
    type: str = "function"
    function: FunctionCall


ReasoningField = Literal["reasoning_content", "reasoning"]
"""Where a message has its reasoning: the first is DeepSeek's name, the second vLLM's newer one."""


class ChatMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The assistant's message. What it does not have is left out, apart from the first three."""

    role: str = "assistant"
    content: str | None
    refusal: str | None = None
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET


class ChatChoice(msgspec.Struct, frozen=True):
    """One of the ``n`` answers."""

    index: int
    message: ChatMessage
    finish_reason: str
    logprobs: ChatLogprobs | None


class ChatReply(msgspec.Struct, frozen=True, kw_only=True):
    """``chat.completion``."""

    id: str
    object: str = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class CompletionLogprobs(msgspec.Struct, frozen=True):
    """Log probabilities of a completion's tokens; ``text_offset`` counts characters.

    ``null`` stands for what is not known of a prompt's token.
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(msgspec.Struct, frozen=True):
    """One of the ``n`` answers to one of the prompts."""

    text: str
    index: int
    finish_reason: str
    logprobs: CompletionLogprobs | None


class CompletionReply(msgspec.Struct, frozen=True, kw_only=True):
    """``text_completion``."""

    id: str
    object: str = "text_completion"
    created: int
    model: str
    system_fingerprint: None = None
    choices: list[CompletionChoice]
    usage: Usage
