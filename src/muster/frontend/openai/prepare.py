"""From a checked request and its token ids to what the engine is asked. Pure."""

from __future__ import annotations

import msgspec

from muster.frontend.api_error import ApiError
from muster.frontend.openai.guided import guided_decoding
from muster.frontend.openai.requests import ChatRequest, CompletionRequest, GenerationRequest
from muster.frontend.served_model import ServedModel
from muster.llm.generation import SamplingDefaults
from muster.llm.protocol import EngineRequest, OutputOptions, SamplingOptions, StopConditions

__all__ = [
    "DEFAULT_MAX_TOKENS",
    "Scoring",
    "chat_request",
    "completion_request",
    "given_tokens",
    "room_for",
]

DEFAULT_MAX_TOKENS = 4096
"""Limit of a reply when the client names none and the model's context length is unknown."""


class Scoring(msgspec.Struct, frozen=True):
    """Which log probabilities the client wants.

    Attributes:
        top: How many of the likeliest tokens at each position it wants to see.
        asked: What the engine is asked for: at least the chosen token.
        as_ids: Whether tokens are to be spelled as ``token_id:<id>``, as vLLM does on request.
    """

    top: int
    asked: int
    as_ids: bool = False


def chat_scoring(request: ChatRequest) -> Scoring | None:
    """The scores a chat request asks for; ``top_logprobs`` alone asks for none."""
    if not request.logprobs:
        return None
    top = request.top_logprobs
    return Scoring(
        top=top or 0,
        asked=1 if top is None else top,
        as_ids=bool(request.return_tokens_as_token_ids),
    )


def completion_scoring(request: CompletionRequest) -> Scoring | None:
    """The scores a completion request asks for."""
    if request.logprobs is None:
        return None
    return Scoring(
        top=request.logprobs,
        asked=request.logprobs,
        as_ids=bool(request.return_tokens_as_token_ids),
    )


def given_tokens(request: GenerationRequest, model: ServedModel) -> list[int] | None:
    """The prompt in ``nvext.token_data``; ``None`` if it is not there.

    Raises:
        ApiError: 400 for an id that the model's vocabulary does not have.
    """
    token_ids = request.nvext.token_data if request.nvext is not None else None
    if not token_ids:
        return None
    size = model.preprocessor.tokenizer.vocab_size
    if max(token_ids) >= size:
        raise ApiError(
            400,
            f"nvext.token_data has the id {max(token_ids)}; ids of the model `{model.name}` are "
            f"below {size}",
            param="nvext.token_data",
            slug="invalid_value",
        )
    return token_ids


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
        max_thinking_tokens=_thinking_budget(request),
    )
    return EngineRequest(
        model=model.name,
        token_ids=token_ids,
        stop_conditions=conditions.with_eos(eos_token_ids),
        sampling_options=_sampling(request, best_of, model.sampling),
        output_options=OutputOptions(
            logprobs=scoring.asked if scoring is not None else None,
            skip_special_tokens=request.skip_special_tokens,
            return_tokens_as_token_ids=request.return_tokens_as_token_ids,
        ),
        eos_token_ids=list(eos_token_ids),
        mdc_sum=model.mdc_sum,
        # Dynamo's protocol has no place for it among the sampling options, and drops it.
        extra_args={"logit_bias": request.logit_bias} if request.logit_bias else msgspec.UNSET,
    )


def _thinking_budget(request: GenerationRequest) -> int | None:
    nvext = request.nvext
    if nvext is not None and nvext.max_thinking_tokens is not None:
        return nvext.max_thinking_tokens
    return request.thinking_token_budget


def _sampling(
    request: GenerationRequest, best_of: int | None, defaults: SamplingDefaults | None
) -> SamplingOptions:
    options = SamplingOptions(
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
        guided_decoding=guided_decoding(request),
    )
    nvext = request.nvext
    if nvext is not None and nvext.greed_sampling:
        # Dynamo 1.6.1 only leaves both out, and most engines then sample at temperature 1.
        options = msgspec.structs.replace(options, temperature=0.0, top_p=None)
    return options if defaults is None else _with_defaults(options, defaults)


_SAMPLED = ("temperature", "top_p", "top_k", "min_p")
_PENALTIES = ("repetition_penalty", "presence_penalty", "frequency_penalty")


def _with_defaults(options: SamplingOptions, defaults: SamplingDefaults) -> SamplingOptions:
    """The options with the model's own values where the client names none.

    A client that wants no randomness gets none of those for it. A model that is not to be sampled
    (``do_sample`` false) has values for it all the same in some files; they are not meant.
    """
    names: tuple[str, ...] = _PENALTIES
    if options.temperature != 0 and defaults.do_sample is not False:
        names = _SAMPLED + _PENALTIES
    found: dict[str, float] = {}
    for name in names:
        value = getattr(defaults, name)
        if value is not None and getattr(options, name) is None:
            found[name] = -1 if name == "top_k" and value <= 0 else value
    return msgspec.structs.replace(options, **found) if found else options
