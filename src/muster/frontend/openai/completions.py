"""``POST /v1/completions``."""

from __future__ import annotations

import asyncio
import time
from typing import cast

import msgspec

from muster.frontend.api_error import ApiError
from muster.frontend.choice import Choice
from muster.frontend.http.exchange import Exchange
from muster.frontend.metrics import FrontendMetrics
from muster.frontend.model_table import ModelTable
from muster.frontend.openai import prepare
from muster.frontend.openai.frames import CompletionFrames
from muster.frontend.openai.intake import LONG_BODY_BYTES, engine_id, prepare_runs, read_request
from muster.frontend.openai.job import Job
from muster.frontend.openai.limits import check_completion
from muster.frontend.openai.reply import CompletionChoice, CompletionLogprobs, CompletionReply
from muster.frontend.openai.requests import CompletionRequest
from muster.frontend.openai.respond import answer
from muster.frontend.openai.scores import completion_logprobs
from muster.frontend.served_model import ServedModel

__all__ = ["CompletionRoute"]

MAX_PROMPTS = 1024
"""Prompts of one request; each is a request to an engine."""

_decoder = msgspec.json.Decoder(CompletionRequest)
_encode = msgspec.json.Encoder().encode


class CompletionRoute:
    """The handler.

    Args:
        table: The models.
        metrics: Where requests are counted.
    """

    endpoint = "completions"

    def __init__(self, table: ModelTable, metrics: FrontendMetrics) -> None:
        self._table = table
        self._metrics = metrics
        self._dialect = CompletionDialect()

    async def handle(self, exchange: Exchange) -> None:
        """Answer one completion request.

        Raises:
            MusterError: What went wrong before anything was sent.
        """
        with self._metrics.refusals(self.endpoint):
            request = read_request(exchange, _decoder)
            model = self._table.get(request.model)
        stream = bool(request.stream)
        with self._metrics.start(model.name, self.endpoint, stream=stream) as meter:
            check_completion(request)
            if not model.completions:
                raise ApiError(
                    400,
                    f"The model `{model.name}` does not take completion requests",
                    param="model",
                    slug="unsupported_operation",
                )
            job = await self._prepare(exchange, request, model)
            await answer(exchange, job, self._dialect, meter)

    async def _prepare(
        self, exchange: Exchange, request: CompletionRequest, model: ServedModel
    ) -> Job:
        if len(exchange.body) > LONG_BODY_BYTES:
            prompts = await asyncio.to_thread(_tokenize, request, model)
        else:
            prompts = _tokenize(request, model)
        scoring = prepare.completion_scoring(request)
        requests = [
            prepare.completion_request(request, model, token_ids, scoring) for token_ids in prompts
        ]
        request_id = engine_id(exchange)
        return Job(
            model=model,
            runs=await prepare_runs(model, requests, n=request.n or 1),
            scoring=scoring,
            request_id=request_id,
            reply_id=f"cmpl-{request_id}",
            created=int(time.time()),
            stream=bool(request.stream),
            options=request.stream_options,
        )


def _tokenize(request: CompletionRequest, model: ServedModel) -> list[list[int]]:
    encode = model.preprocessor.encode
    prompts = [
        encode(prompt) if isinstance(prompt, str) else prompt for prompt in _split(request.prompt)
    ]
    for position, token_ids in enumerate(prompts):
        if not token_ids:
            raise ApiError(400, f"Prompt {position} is empty", param="prompt", slug="invalid_value")
    return prompts


def _split(prompt: str | list[str | int | list[int]]) -> list[str | list[int]]:
    """The prompts in a request: texts, or lists of token ids.

    Raises:
        ApiError: 400 if there are none or too many, or if forms are mixed.
    """
    if isinstance(prompt, str):
        return [prompt]
    kinds = {type(part) for part in prompt}
    if kinds == {int}:
        return [cast("list[int]", prompt)]
    if kinds not in ({str}, {list}):
        raise ApiError(
            400,
            "The prompt must be a text, a list of texts, a list of token ids, or a list of such "
            "lists; it is empty or mixes them",
            param="prompt",
            slug="invalid_value",
        )
    if len(prompt) > MAX_PROMPTS:
        raise ApiError(
            400,
            f"At most {MAX_PROMPTS} prompts are allowed in a request, got {len(prompt)}",
            param="prompt",
            slug="invalid_value",
        )
    return cast("list[str | list[int]]", prompt)


class CompletionDialect:
    """Replies of the completions API."""

    def frames(self, job: Job) -> CompletionFrames:
        """The builder of the stream's events."""
        return CompletionFrames(job.reply_id, job.model.name, job.created)

    def logprobs(self, job: Job, choice: Choice, text_before: int) -> CompletionLogprobs | None:
        """The choice's new scores."""
        if job.scoring is None:
            return None
        return completion_logprobs(
            choice.take_scores(),
            top=job.scoring.top,
            token_bytes=job.model.preprocessor.tokenizer.token_bytes,
            offset=text_before,
        )

    def reply(self, job: Job) -> bytes:
        """The whole reply."""
        choices = [
            CompletionChoice(
                choice.take_text(),
                choice.index,
                choice.finish_reason or "stop",
                self.logprobs(job, choice, 0),
            )
            for run in job.runs
            for choice in run.choices
        ]
        return _encode(
            CompletionReply(job.reply_id, choices, job.created, job.model.name, job.usage())
        )
