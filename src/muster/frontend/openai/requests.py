"""Bodies of chat and completion requests, and reading them.

Fields nobody knows are ignored. A field that is ``null`` counts as left out. Bounds that follow
from the wire (unsigned 32-bit ids and counts) are in the types; bounds of the API are in
``limits``.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec

from muster.frontend.api_error import ApiError
from muster.frontend.openai.nvext import Nvext

__all__ = [
    "ChatRequest",
    "CompletionRequest",
    "GenerationRequest",
    "Message",
    "StreamOptions",
    "decode",
]

Message: TypeAlias = dict[str, Any]
"""One message of a conversation. A template may read any key, so it stays a mapping."""

U32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
I32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
I64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

T = TypeVar("T")


class StreamOptions(msgspec.Struct, frozen=True):
    """What a stream carries besides text."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class GenerationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Fields that chat and completion requests share."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: I64 | None = None
    min_tokens: U32 | None = None
    n: I64 | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[U32] | None = None
    ignore_eos: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: I32 | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    length_penalty: float | None = None
    use_beam_search: bool | None = None
    seed: I64 | None = None
    logit_bias: dict[str, float] | None = None
    user: str | None = None
    skip_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None
    response_format: dict[str, Any] | None = None
    guided_json: dict[str, Any] | bool | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    guided_decoding_backend: str | None = None
    guided_whitespace_pattern: str | None = None
    structured_outputs: dict[str, Any] | None = None
    nvext: Nvext | None = None
    cache_salt: str | None = None
    priority: I32 | None = None
    thinking_token_budget: U32 | None = None
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None


class ChatRequest(GenerationRequest, frozen=True, kw_only=True):
    """``POST /v1/chat/completions``."""

    messages: list[Message]
    max_completion_tokens: I64 | None = None
    logprobs: bool | None = None
    top_logprobs: I64 | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    documents: list[dict[str, Any]] | None = None
    reasoning_effort: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    chat_template_args: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None


class CompletionRequest(GenerationRequest, frozen=True, kw_only=True):
    """``POST /v1/completions``."""

    prompt: str | list[str | U32 | list[U32]]
    logprobs: I64 | None = None
    best_of: I64 | None = None
    echo: bool | None = None


_WHERE = re.compile(r" - at `\$\.?([^`]*)`$")
_MISSING = re.compile(r"missing required field `([^`]+)`")


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Read a request's body.

    Raises:
        ApiError: 400. What is malformed, or which field (``param``) has a wrong type.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        text = str(error)
        where = _WHERE.search(text)
        missing = _MISSING.search(text)
        path = where.group(1) if where else ""
        if missing:
            path = f"{path}.{missing.group(1)}" if path else missing.group(1)
        message = _WHERE.sub("", text)
        if path and not missing:
            message = f"{path}: {message}"
        raise ApiError(
            400, f"Invalid request: {message}", param=path or None, slug="invalid_value"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(
            400, f"The request body is not valid JSON: {error}", slug="invalid_json"
        ) from error
    except RecursionError as error:
        raise ApiError(400, "The request body is nested too deeply", slug="invalid_json") from error
