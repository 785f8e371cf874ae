"""From a checked request and its token ids to what the engine is asked. Pure."""

from __future__ import annotations

import msgspec

from muster.frontend.api_error import ApiError
from muster.frontend.openai.requests import ChatRequest, CompletionRequest, GenerationRequest
from muster.frontend.served_model import ServedModel
from muster.llm.protocol import EngineRequest, OutputOptions, SamplingOptions, StopConditions

__all__ = ["DEFAULT_MAX_TOKENS", "Scoring", "chat_request", "completion_request", "room_for"]

DEFAULT_MAX_TOKENS = 4096
"""Limit of a reply when the client names none and the model's context length is unknown."""


class Scoring(msgspec.Struct, frozen=True):
    """Which log probabilities the client wants.

    Attributes:
        top: How many of the likeliest tokens at each position it wants to see.
        asked: What the engine is asked for: at least the chosen token.
    """

    top: int
    asked: int


def chat_scoring(request: ChatRequest) -> Scoring | None:
    """The scores a chat request asks for; ``top_logprobs`` alone asks for none."""
    if not request.logprobs:
        return None
    top = request.top_logprobs
    return Scoring(top=top or 0, asked=1 if top is None else top)


def completion_scoring(request: CompletionRequest) -> Scoring | None:
    """The scores a completion request asks for."""
    if request.logprobs is None:
        return None
    return Scoring(top=request.logprobs, asked=request.logprobs)


def room_for(
    model: ServedModel, prompt_tokens: int, wanted: int | None, *, param: str = "messages"
) -> int:
    """How many tokens the reply may have: what is wanted, within what the context has left.

    Args:
        model: The model.
        prompt_tokens: Length of the prompt.
        wanted: What the client wants; ``None`` if it does not say.
        param: Which field of the request the prompt is made of, for the error.

    Raises:
        ApiError: 400 if the prompt leaves no room; the message says both numbers.
    """
    limit = model.context_length
    if not limit:
        return DEFAULT_MAX_TOKENS if wanted is None else wanted
    left = limit - prompt_tokens
    if left <= 0:
        raise ApiError(
            400,
            f"The prompt has {prompt_tokens} tokens; the context length of the model "
            f"`{model.name}` is {limit} tokens, reply included. Shorten the prompt.",
            param=param,
            slug="context_length_exceeded",
        )
    return left if wanted is None else min(wanted, left)


def chat_request(
    request: ChatRequest, model: ServedModel, token_ids: list[int], scoring: Scoring | None
) -> EngineRequest:
    """What the engine is asked for a chat.

    Raises:
        ApiError: 400 if the prompt leaves no room in the model's context.
    """
    wanted = request.max_completion_tokens or request.max_tokens
    room = room_for(model, len(token_ids), wanted)
    return _engine_request(request, model, token_ids, room, scoring, best_of=None)


def completion_request(
    request: CompletionRequest, model: ServedModel, token_ids: list[int], scoring: Scoring | None
) -> EngineRequest:
    """What the engine is asked for one prompt of a completion.

    Raises:
        ApiError: 400 if the prompt leaves no room in the model's context.
    """
    room = room_for(model, len(token_ids), request.max_tokens, param="prompt")
    return _engine_request(request, model, token_ids, room, scoring, best_of=request.best_of)


def _engine_request(
    request: GenerationRequest,
    model: ServedModel,
    token_ids: list[int],
    max_tokens: int,
    scoring: Scoring | None,
    *,
    best_of: int | None,
) -> EngineRequest:
    # Asked to ignore them, the engine is not even told of them, as the peer's is not.
    eos_token_ids = () if request.ignore_eos else model.preprocessor.eos_token_ids
    stop = request.stop
    conditions = StopConditions(
        max_tokens=max_tokens,
        stop=([stop] if isinstance(stop, str) else stop) or None,
        stop_token_ids=request.stop_token_ids or None,
        min_tokens=request.min_tokens,
        ignore_eos=request.ignore_eos,
    )
    return EngineRequest(
        model=model.name,
        token_ids=token_ids,
        stop_conditions=conditions.with_eos(eos_token_ids),
        sampling_options=_sampling(request, best_of),
        output_options=OutputOptions(
            logprobs=scoring.asked if scoring is not None else None,
            skip_special_tokens=request.skip_special_tokens,
        ),
        eos_token_ids=list(eos_token_ids),
        mdc_sum=model.mdc_sum,
        # Dynamo's protocol has no place for it among the sampling options, and drops it.
        extra_args={"logit_bias": request.logit_bias} if request.logit_bias else msgspec.UNSET,
    )


def _sampling(request: GenerationRequest, best_of: int | None) -> SamplingOptions:
    return SamplingOptions(
        n=request.n,
        best_of=best_of,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        repetition_penalty=request.repetition_penalty,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=-1 if request.top_k == 0 else request.top_k,
        min_p=request.min_p,
        use_beam_search=request.use_beam_search,
        length_penalty=request.length_penalty,
        seed=request.seed,
        include_stop_str_in_output=request.include_stop_str_in_output,
    )
