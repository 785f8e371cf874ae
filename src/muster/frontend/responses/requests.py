"""Bodies of ``POST /v1/responses`` and ``/v1/responses/input_tokens``."""

from __future__ import annotations

from typing import Any

import msgspec

from muster.frontend.api_error import ApiError
from muster.frontend.openai.requests import I32, I64, U32

__all__ = ["Reasoning", "ResponsesRequest", "TextOptions", "refuse_state"]


class Reasoning(msgspec.Struct, frozen=True):
    """How much to think. There are no summaries: the reasoning itself is returned."""

    effort: str | None = None
    summary: str | None = None


class TextOptions(msgspec.Struct, frozen=True):
    """The form of the text."""

    format: dict[str, Any] | None = None
    verbosity: str | None = None


class ResponsesRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of OpenAI's reference, then those of the chat route that engines understand."""

    model: str
    input: str | list[dict[str, Any]] = ""
    instructions: str | None = None
    max_output_tokens: I64 | None = None
    max_tool_calls: I64 | None = None
    metadata: dict[str, str] | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    temperature: float | None = None
    text: TextOptions | None = None
    tool_choice: str | dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    top_logprobs: I64 | None = None
    top_p: float | None = None
    truncation: str | None = None
    user: str | None = None
    include: list[str] | None = None
    # What needs a memory; see ``refuse_state``.
    background: bool | None = None
    conversation: str | dict[str, Any] | None = None
    previous_response_id: str | None = None
    prompt: dict[str, Any] | None = None
    store: bool | None = None
    # Not OpenAI's.
    chat_template_kwargs: dict[str, Any] | None = None
    frequency_penalty: float | None = None
    ignore_eos: bool | None = None
    min_p: float | None = None
    min_tokens: U32 | None = None
    nvext: dict[str, Any] | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: I64 | None = None
    stop: str | list[str] | None = None
    top_k: I32 | None = None


_REFUSED = (
    ("previous_response_id", "send the earlier items in `input`"),
    ("conversation", "send the earlier items in `input`"),
    ("prompt", "send the text of the prompt in `instructions` and `input`"),
    ("background", "leave it out, and wait for the response or stream it"),
    ("store", "leave it out or send false; responses cannot be retrieved later"),
)


def refuse_state(request: ResponsesRequest) -> None:
    """Refuse what would need responses to be kept.

    Raises:
        ApiError: 400 (a 5xx would be tried again by OpenAI's client); ``param`` is the field.
    """
    for field, advice in _REFUSED:
        if getattr(request, field):
            raise ApiError(
                400,
                f"`{field}` is not supported, because nothing is stored here: {advice}",
                param=field,
                slug="unsupported_parameter",
            )
    if request.truncation not in (None, "disabled"):
        raise ApiError(
            400,
            f"`truncation` {request.truncation!r} is not supported, only 'disabled' is",
            param="truncation",
            slug="unsupported_parameter",
        )
