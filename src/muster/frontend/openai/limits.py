"""Bounds on the values of a request, with Dynamo's texts for them. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from muster.frontend.api_error import ApiError
from muster.frontend.openai.bounds import BIAS, CHAT, COMPLETION, MAX_CHOICES, MAX_STOPS
from muster.frontend.openai.guided import guided_decoding
from muster.frontend.openai.nvext import check_nvext
from muster.frontend.openai.requests import (
    ChatRequest,
    CompletionRequest,
    GenerationRequest,
    Message,
)

__all__ = ["check_chat", "check_completion"]

_ROLES = frozenset({"developer", "system", "user", "assistant", "tool", "function"})

_LABELS = {
    "temperature": "Temperature",
    "top_p": "Top_p",
    "min_p": "Min_p",
    "presence_penalty": "Presence penalty",
    "frequency_penalty": "Frequency penalty",
}
_RANGES = [(field, label, CHAT[field].low, CHAT[field].high) for field, label in _LABELS.items()]
_TOP_LOGPROBS, _LOGPROBS = CHAT["top_logprobs"], COMPLETION["logprobs"]
_PENALTY = CHAT["repetition_penalty"]


def _fail(param: str, message: str) -> ApiError:
    return ApiError(400, message, param=param, slug="invalid_value")


def check_chat(request: ChatRequest) -> None:
    """Check a chat request.

    Raises:
        ApiError: 400, for the first value out of bounds; ``param`` names it.
    """
    _check_common(request)
    if request.max_completion_tokens is not None and request.max_completion_tokens <= 0:
        raise _fail(
            "max_completion_tokens",
            f"Max tokens must be greater than 0, got {request.max_completion_tokens}",
        )
    if request.top_logprobs is not None and not _TOP_LOGPROBS.admits(request.top_logprobs):
        raise _fail(
            "top_logprobs",
            f"Top_logprobs must be between {_TOP_LOGPROBS.low} and {_TOP_LOGPROBS.high}, "
            f"got {request.top_logprobs}",
        )
    if request.nvext is not None:
        _check_nvext(request, prompts=1)
        if request.nvext.use_raw_prompt and len(request.messages) > 1:
            raise _fail(
                "nvext.use_raw_prompt",
                "nvext.use_raw_prompt: the prompt is the text of the one message, got "
                f"{len(request.messages)} messages",
            )
    if not request.messages:
        raise _fail(
            "messages",
            "The 'messages' field cannot be empty. At least one message is required.",
        )
    for position, message in enumerate(request.messages):
        _check_message(message, f"messages[{position}]")


def check_completion(request: CompletionRequest) -> None:
    """Check a completion request. One that echoes its prompt may ask for no tokens besides.

    Raises:
        ApiError: 400, for the first value out of bounds; ``param`` names it.
    """
    _check_common(request, least_tokens=0 if request.echo else 1)
    if request.logprobs is not None and not _LOGPROBS.admits(request.logprobs):
        raise _fail(
            "logprobs",
            f"Logprobs must be between {_LOGPROBS.low} and {_LOGPROBS.high}, "
            f"got {request.logprobs}",
        )
    if request.best_of is not None:
        if not 1 <= request.best_of <= MAX_CHOICES:
            raise _fail(
                "best_of", f"Best_of must be between 1 and {MAX_CHOICES}, got {request.best_of}"
            )
        if request.best_of < (request.n or 1):
            raise _fail(
                "best_of",
                f"Best_of must be greater than or equal to n, got best_of={request.best_of}, "
                f"n={request.n}",
            )
        if request.stream and request.best_of > (request.n or 1):
            raise _fail("best_of", "Best_of greater than n cannot be streamed")
    if request.nvext is not None:
        prompt = request.prompt
        several = isinstance(prompt, list) and not isinstance(next(iter(prompt), None), int)
        prompts = len(prompt) if several else 1
        _check_nvext(request, prompts=prompts)
        if request.nvext.token_data and prompts != 1:
            raise _fail(
                "nvext.token_data",
                f"nvext.token_data stands for one prompt, and the request has {prompts}",
            )


def _check_common(request: GenerationRequest, *, least_tokens: int = 1) -> None:
    if not request.model:
        raise _fail("model", "Model cannot be empty")
    _check_sampling(request)
    if request.max_tokens is not None and request.max_tokens < least_tokens:
        raise _fail("max_tokens", f"Max tokens must be greater than 0, got {request.max_tokens}")
    if request.n is not None:
        _check_choices(request.n, request.temperature)
    if request.stop is not None:
        _check_stops([request.stop] if isinstance(request.stop, str) else request.stop)
    guided_decoding(request)
    if request.user == "":
        raise _fail("user", "User ID cannot be empty")
    if request.stream_options is not None and not request.stream:
        raise _fail(
            "stream_options",
            "The 'stream_options' field is only allowed when 'stream' is set to true.",
        )


def _check_sampling(request: GenerationRequest) -> None:
    for field, label, low, high in _RANGES:
        value: float | None = getattr(request, field)
        if value is not None and not low <= value <= high:
            raise _fail(field, f"{label} must be between {low:g} and {high:g}, got {value:g}")
    penalty = request.repetition_penalty
    if penalty is not None and not _PENALTY.admits(penalty):
        raise _fail(
            "repetition_penalty",
            f"Repetition penalty must be between {_PENALTY.low} and {_PENALTY.high}, "
            f"got {penalty:g}",
        )
    if request.length_penalty is not None and not math.isfinite(request.length_penalty):
        raise _fail("length_penalty", "Length penalty must be finite")
    if request.top_k is not None and request.top_k < CHAT["top_k"].low:
        raise _fail("top_k", "Top_k must be null or greater than or equal to -1")
    if request.logit_bias:
        _check_bias(request.logit_bias)


def _check_nvext(request: GenerationRequest, *, prompts: int) -> None:
    nvext = request.nvext
    if nvext is not None:
        check_nvext(nvext, choices=prompts * (request.n or 1))
        if nvext.greed_sampling:
            _check_choices(request.n or 1, 0)


def _check_choices(n: int, temperature: float | None) -> None:
    if not 1 <= n <= MAX_CHOICES:
        raise _fail("n", f"n must be between 1 and {MAX_CHOICES}, got {n}")
    if n > 1 and temperature == 0:
        raise _fail(
            "n",
            "When n > 1, temperature must be greater than 0 to ensure diverse outputs. "
            f"Got n={n}, temperature=0",
        )


def _check_stops(stops: Sequence[str]) -> None:
    if len(stops) > MAX_STOPS:
        raise _fail("stop", f"Maximum of {MAX_STOPS} stop sequences allowed, got {len(stops)}")
    if not all(stops):
        raise _fail("stop", "Stop sequence cannot be empty")


def _check_bias(biases: dict[str, float]) -> None:
    for token, bias in biases.items():
        if not token.isdecimal():
            raise _fail("logit_bias", f"Logit bias keys must be token ids, got '{token}'")
        if not BIAS.admits(bias):
            raise _fail(
                "logit_bias",
                f"Logit bias for token '{token}' must be between {BIAS.low} and {BIAS.high}, "
                f"got {bias:g}",
            )


def _check_message(message: Message, where: str) -> None:
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise _fail(
            f"{where}.role",
            f"{where}: the role must be one of {', '.join(sorted(_ROLES))}, got {role!r}",
        )
    content = message.get("content")
    if isinstance(content, str):
        return
    if content is None:
        if role == "user":
            raise _fail(f"{where}.content", f"{where}: the content of a user message is missing")
        return
    if not isinstance(content, list):
        raise _fail(f"{where}.content", f"{where}: the content must be a string or a list of parts")
    for position, part in enumerate(content):
        _check_part(part, f"{where}.content[{position}]")


def _check_part(part: object, where: str) -> None:
    """Parts other than text would be lost on the way to the engine, so they are refused."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in ("text", "refusal"):
        raise _fail(where, f"{where}: content of type {kind!r} is not supported, only text is")
    if not isinstance(part, dict) or not isinstance(part.get(kind), str):
        raise _fail(where, f"{where}: a part of type {kind!r} needs a string in {kind!r}")
