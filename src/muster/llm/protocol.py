"""What the frontend and an engine say to each other: Dynamo's token protocol as typed values.

One ``EngineRequest`` goes out, many ``EngineOutput`` come back. Field names, null-ness and defaults
are those of Dynamo 1.6.1 (``PreprocessedRequest`` and ``LLMEngineOutput``), so both ends may be
someone else's. Fields nobody here knows are ignored on reading. This module carries no behaviour
beyond the mapping of finish reasons: how bytes are framed is ``muster.wire``'s business.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from muster.errors import EngineError, ProtocolError
from muster.wire.context import Context

__all__ = [
    "AnnotatedOutput",
    "CompletionUsage",
    "Engine",
    "EngineOutput",
    "EngineRequest",
    "FinishReason",
    "GuidedDecoding",
    "OutputOptions",
    "PromptTokensDetails",
    "SamplingOptions",
    "StopConditions",
    "TopLogprob",
    "as_output",
    "as_request",
    "openai_finish_reason",
]

FinishReason = Literal["stop", "length", "content_filter"]
"""What OpenAI's API can say about an engine's end; ``tool_calls`` is the reply parser's to add."""

_FINISH_REASONS: dict[str, FinishReason] = {
    "eos": "stop",
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "cancelled": "stop",
    "abort": "stop",
}


def openai_finish_reason(reason: str) -> FinishReason:
    """Map an engine's finish reason to OpenAI's, as Dynamo 1.6.1 does.

    Raises:
        EngineError: For ``error``, ``error: <text>`` and every word the protocol does not have.
    """
    known = _FINISH_REASONS.get(reason)
    if known is not None:
        return known
    word, _, text = reason.partition(":")
    if word == "error":
        raise EngineError(text.strip() or "the engine reported an error without a text")
    raise EngineError(f"the engine ended with the unknown finish reason {reason!r}")


class StopConditions(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """When to stop. Fields that are not set travel as null.

    Attributes:
        stop_token_ids: Ids the client named. They end the reply without showing in it.
        stop_token_ids_visible: Ids that end the reply and whose text is part of it.
        stop_token_ids_hidden: End-of-sequence ids; they do not show either.
        min_tokens: A reply goes on until it has this many tokens: only a later one can end it.
    """

    max_tokens: int | None = None
    stop: list[str] | None = None
    stop_token_ids: list[int] | None = None
    stop_token_ids_visible: list[int] | None = None
    stop_token_ids_hidden: list[int] | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    max_thinking_tokens: int | None = None

    def with_eos(self, eos_token_ids: Sequence[int]) -> StopConditions:
        """These conditions as they are sent to an engine of a model with these end-of-sequence ids.

        The ids go out as hidden stop ids, and with ``ignore_eos`` none do. Unlike Dynamo 1.6.1 the
        client's own stop strings and ids are kept then: it ignores the end of sequence, not them.
        """
        hidden = None if self.ignore_eos else (list(eos_token_ids) or None)
        return msgspec.structs.replace(self, stop_token_ids_hidden=hidden)


class GuidedDecoding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A constraint on what may be generated; one of the first four is set. Only what is set travels."""

    json: Any = None  # a JSON schema: any JSON value
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    backend: str | None = None
    whitespace_pattern: str | None = None


class SamplingOptions(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How to choose tokens. Fields that are not set travel as null: the engine's own defaults."""

    n: int | None = None
    best_of: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    use_beam_search: bool | None = None
    length_penalty: float | None = None
    seed: int | None = None
    include_stop_str_in_output: bool | None = None
    guided_decoding: GuidedDecoding | None = None


class OutputOptions(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What to return beside the tokens. Fields that are not set travel as null."""

    logprobs: int | None = None
    prompt_logprobs: int | None = None
    skip_special_tokens: bool | None = None
    formatted_prompt: bool | None = None
    return_tokens_as_token_ids: bool | None = None


class EngineRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request to an engine that takes tokens (``ModelInput.Tokens``).

    The optional fields at the end are absent on the wire unless set. Their contents are passed
    through as they came, so they stay untyped JSON here.
    """

    model: str
    token_ids: list[int]
    stop_conditions: StopConditions = StopConditions()
    sampling_options: SamplingOptions = SamplingOptions()
    output_options: OutputOptions = OutputOptions()
    eos_token_ids: list[int] = []
    mdc_sum: str | None = None
    annotations: list[str] = []
    routing: dict[str, Any] | None = {}
    router_config_override: dict[str, Any] | None = None

    prompt_embeds: str | UnsetType | None = UNSET
    multi_modal_data: dict[str, Any] | UnsetType | None = UNSET
    mm_routing_info: dict[str, Any] | UnsetType | None = UNSET
    mm_processor_kwargs: dict[str, Any] | UnsetType | None = UNSET
    prefill_result: dict[str, Any] | UnsetType | None = UNSET
    encoder_result: dict[str, Any] | UnsetType | None = UNSET
    bootstrap_info: dict[str, Any] | UnsetType | None = UNSET
    migration_link: Any = UNSET
    extra_args: dict[str, Any] | UnsetType | None = UNSET
    require_reasoning: bool | UnsetType | None = UNSET
    router: dict[str, Any] | UnsetType | None = UNSET
    agent_context: dict[str, Any] | UnsetType | None = UNSET
    image_cache_scope: str | UnsetType | None = UNSET
    request_timestamp_ms: float | UnsetType | None = UNSET
    generate_request: dict[str, Any] | UnsetType | None = UNSET
    health_check: bool | UnsetType | None = msgspec.field(name="_HEALTH_CHECK", default=UNSET)


class PromptTokensDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Where prompt tokens came from."""

    cached_tokens: int | None = None
    audio_tokens: int | None = None


class CompletionUsage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What the engine counted."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: PromptTokensDetails | None = None


class TopLogprob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One of the likeliest tokens at a position."""

    rank: int = 0
    token_id: int = 0
    token: str | None = None
    logprob: float = 0.0
    bytes: list[int] | None = None


def _no_tokens() -> list[int]:
    # A factory that msgspec does not recognise as "empty by default", so that ``token_ids`` is
    # written even when it is empty: readers require the key.
    return []


class EngineOutput(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """One item of an engine's reply: some tokens, and at the end a reason.

    ``token_ids`` may be empty and is always written; all else is written only when set. ``text``,
    when an engine sends it, replaces our own decoding of the item. Not tracked by Python's cycle
    collector: it holds decoded values only, which cannot refer back to it.
    """

    token_ids: list[int] = msgspec.field(default_factory=_no_tokens)
    finish_reason: str | None = None
    index: int | None = 0
    text: str | None = None
    log_probs: list[float] | None = None
    top_logprobs: list[list[TopLogprob]] | None = None
    cum_log_probs: float | None = None
    tokens: list[str | None] | None = None
    stop_reason: str | int | None = None
    completion_usage: CompletionUsage | None = None
    output_type: str | None = None
    content_parts: list[Any] | None = None
    disaggregated_params: dict[str, Any] | None = None
    encoder_result: Any = None
    worker_trace_link: Any = None
    extra_args: dict[str, Any] | None = None
    engine_data: Any = None
    routing_data: Any = None


class AnnotatedOutput(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """The wrapper around each item on the wire; absent keys are not written.

    ``event == "error"`` means the stream failed, with the reason in ``error`` (or, from older
    workers, in ``comment``); another event is an annotation for the client.
    """

    data: EngineOutput | None = None
    id: str | None = None
    event: str | None = None
    comment: list[str] | None = None
    error: Any = None


def as_output(item: EngineOutput | dict[str, Any]) -> EngineOutput:
    """An engine's item as a typed value; Python engines may yield plain dicts.

    Raises:
        EngineError: If a field has another type than the protocol says.
    """
    if isinstance(item, EngineOutput):
        return item
    try:
        return msgspec.convert(item, EngineOutput)
    except msgspec.ValidationError as error:
        raise EngineError(f"the engine yielded an item that is not an output: {error}") from error


def as_request(item: dict[str, Any]) -> EngineRequest:
    """A decoded request as a typed value.

    Raises:
        ProtocolError: If a required field is missing, or has another type than the protocol says.
    """
    try:
        return msgspec.convert(item, EngineRequest)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"not an engine request: {error}") from error


class Engine(Protocol):
    """Something that generates tokens."""

    def generate(
        self, request: EngineRequest, context: Context
    ) -> AsyncIterator[EngineOutput | dict[str, Any]]:
        """Answer one request with a stream of outputs; usually an async generator.

        The last output has a ``finish_reason``. The engine looks at ``context.is_stopped()`` between
        outputs and ends early, with ``cancelled``, when it is true. The caller may close the
        iterator at any time. Raises ``MusterError`` for what the caller should see.
        """
        ...
