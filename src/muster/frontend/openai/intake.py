"""What every generating route does first: read the body, find the model, prepare the answers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from muster.frontend.api_error import ApiError
from muster.frontend.choice import Choice
from muster.frontend.http.exchange import Exchange
from muster.frontend.openai.requests import GenerationRequest, decode
from muster.frontend.prompt_run import PromptRun
from muster.frontend.served_model import ServedModel
from muster.llm.detokenizer import Detokenizer
from muster.llm.protocol import EngineRequest
from muster.llm.stops import StopChecker, StopRules

__all__ = ["LONG_BODY_BYTES", "engine_id", "prepare_runs", "read_request"]

LONG_BODY_BYTES = 8 << 10
"""Requests with a longer body are rendered and tokenized in a thread. Below it, handing the work
over costs more than the work, and the loop is not held up noticeably (about 1 ms)."""

T = TypeVar("T", bound=GenerationRequest)


def read_request(exchange: Exchange, decoder: msgspec.json.Decoder[T]) -> T:
    """The request in an exchange's body.

    Raises:
        ApiError: 415 if the body is not declared as JSON, 400 if it is not this request.
    """
    content_type = exchange.headers.get(b"content-type", b"")
    if content_type != b"application/json" and not _is_json(content_type):
        raise ApiError(
            415,
            "Expected a request with Content-Type application/json",
            slug="unsupported_media_type",
        )
    return decode(decoder, exchange.body)


def _is_json(content_type: bytes) -> bool:
    media_type = content_type.partition(b";")[0].strip().lower()
    return media_type == b"application/json" or (
        media_type.startswith(b"application/") and media_type.endswith(b"+json")
    )


def engine_id(exchange: Exchange) -> str:
    """The id under which engines see the request: a UUID, the client's own if it gave one."""
    given = exchange.header(b"x-dynamo-request-id") or exchange.request_id
    try:
        return str(uuid.UUID(given))
    except ValueError:
        return str(uuid.uuid4())


async def prepare_runs(
    model: ServedModel, requests: Sequence[EngineRequest], *, n: int
) -> list[PromptRun]:
    """A run with ``n`` choices for each engine request.

    Raises:
        InvalidArgument: If the stop conditions cannot be used.
    """
    first = requests[0]
    rules = [_rules(request) for request in requests]
    new_detokenizer = model.preprocessor.new_detokenizer
    if first.output_options.skip_special_tokens is False:
        # The tables for this are made at the first use, which takes a while.
        await asyncio.to_thread(new_detokenizer, skip_special_tokens=False)

    def choice(index: int, rule: StopRules) -> Choice:
        return Choice(index, StopChecker(rule, detokenizer()), scored=scored)

    def detokenizer() -> Detokenizer:
        return new_detokenizer(skip_special_tokens=skip)

    scored = first.output_options.logprobs is not None
    skip = first.output_options.skip_special_tokens is not False
    return [
        PromptRun(request, [choice(number * n + k, rule) for k in range(n)])
        for number, (request, rule) in enumerate(zip(requests, rules, strict=True))
    ]


def _rules(request: EngineRequest) -> StopRules:
    return StopRules.of(
        request.stop_conditions,
        eos_token_ids=request.eos_token_ids,
        include_stop_str_in_output=bool(request.sampling_options.include_stop_str_in_output),
    )
