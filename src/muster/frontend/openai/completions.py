"""``POST /v1/completions``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import msgspec

from muster.frontend.api_error import ApiError
from muster.frontend.choice import Choice
from muster.frontend.openai import prepare
from muster.frontend.openai.frames import CompletionFrames
from muster.frontend.openai.job import Job
from muster.frontend.openai.limits import check_completion
from muster.frontend.openai.prepare import Scoring
from muster.frontend.openai.reply import CompletionChoice, CompletionLogprobs, CompletionReply
from muster.frontend.openai.requests import CompletionRequest
from muster.frontend.openai.scores import completion_logprobs
from muster.frontend.served_model import ServedModel
from muster.llm.protocol import EngineRequest

__all__ = ["CompletionApi"]

MAX_PROMPTS = 1024
"""Prompts of one request; each is a request to an engine."""

_encode = msgspec.json.Encoder().encode


class CompletionApi:
    """See ``Api``."""

    endpoint = "completions"
    id_prefix = "cmpl-"
    decoder = msgspec.json.Decoder(CompletionRequest)

    def check(self, request: CompletionRequest) -> None:
        """Check the values of a request."""
        check_completion(request)

    def serves(self, model: ServedModel) -> bool:
        """Whether the model takes completions."""
        return model.completions

    def tokenize(self, request: CompletionRequest, model: ServedModel) -> list[list[int]]:
        """The ids of each prompt; no template, nothing added."""
        encode = model.preprocessor.encode
        prompts = [
            encode(prompt) if isinstance(prompt, str) else prompt
            for prompt in _split(request.prompt)
        ]
        for position, token_ids in enumerate(prompts):
            if not token_ids:
                raise ApiError(
                    400, f"Prompt {position} is empty", param="prompt", slug="invalid_value"
                )
        return prompts

    def scoring(self, request: CompletionRequest) -> Scoring | None:
        """Which log probabilities the client wants."""
        return prepare.completion_scoring(request)

    def engine_request(
        self,
        request: CompletionRequest,
        model: ServedModel,
        token_ids: list[int],
        scoring: Scoring | None,
    ) -> EngineRequest:
        """What the engine is asked for one prompt."""
        return prepare.completion_request(request, model, token_ids, scoring)

    def reading(
        self,
        request: CompletionRequest,
        model: ServedModel,
        requests: Sequence[EngineRequest],
        *,
        keep: bool,
    ) -> None:
        """Completions are text."""
        return

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
            CompletionReply(
                id=job.reply_id,
                created=job.created,
                model=job.model.name,
                choices=choices,
                usage=job.usage(),
            )
        )


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
