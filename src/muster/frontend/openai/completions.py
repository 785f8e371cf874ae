"""``POST /v1/completions``.

``echo`` puts the prompt before each answer, as the module ``echo`` says. With ``max_tokens`` 0 there
is nothing else: no engine is asked then, unless the prompt's log probabilities are wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import msgspec

from muster.frontend.api_error import ApiError
from muster.frontend.choice import Choice
from muster.frontend.openai import prepare
from muster.frontend.openai.echo import Echo, EchoFrames, Preface, prompt_logprobs
from muster.frontend.openai.frames import CompletionFrames
from muster.frontend.openai.job import Job
from muster.frontend.openai.limits import check_completion
from muster.frontend.openai.prepare import Scoring
from muster.frontend.openai.reply import CompletionChoice, CompletionLogprobs, CompletionReply
from muster.frontend.openai.requests import CompletionRequest
from muster.frontend.openai.scores import as_token_ids, completion_logprobs, joined
from muster.frontend.served_model import ServedModel
from muster.frontend.text_offsets import TextOffsets
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
        given = prepare.given_tokens(request, model)
        if given is not None:
            return [given]
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

    def formatted_prompt(self, request: CompletionRequest, model: ServedModel) -> None:
        """Nothing: no template has written it."""
        return

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
        """What the engine is asked for one prompt. One token is the least it can be asked for."""
        if request.max_tokens == 0:
            request = msgspec.structs.replace(request, max_tokens=1, min_tokens=None)
        asked = prepare.completion_request(request, model, token_ids, scoring)
        if request.echo and scoring is not None:
            options = msgspec.structs.replace(asked.output_options, prompt_logprobs=scoring.asked)
            asked = msgspec.structs.replace(asked, output_options=options)
        return asked

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
        echo = job.echo
        if echo is None:
            return CompletionFrames(job.reply_id, job.model.name, job.created)
        n = len(job.runs[0].choices)
        return EchoFrames(
            job.reply_id,
            job.model.name,
            job.created,
            preface=lambda index: _preface(job, echo, index // n),
            alone=echo.alone,
        )

    def logprobs(self, job: Job, choice: Choice) -> CompletionLogprobs | None:
        """The choice's new scores."""
        if job.scoring is None:
            return None
        token_bytes = job.model.preprocessor.tokenizer.token_bytes
        scores = choice.take_scores()
        if job.scoring.as_ids:
            scores = as_token_ids(scores)
        return completion_logprobs(scores, top=job.scoring.top, token_bytes=token_bytes)

    def reply(self, job: Job) -> bytes:
        """The whole reply."""
        choices = [
            self._choice(job, number, choice)
            for number, run in enumerate(job.runs)
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

    def _choice(self, job: Job, number: int, choice: Choice) -> CompletionChoice:
        reason = choice.finish_reason or "stop"
        if job.echo is None:
            return CompletionChoice(
                choice.take_text(), choice.index, reason, self.logprobs(job, choice)
            )
        preface = _preface(job, job.echo, number)
        if job.echo.alone:
            return CompletionChoice(preface.text, choice.index, "length", preface.logprobs)
        scores = self.logprobs(job, choice)
        if scores is not None and preface.logprobs is not None:
            scores = joined(preface.logprobs, scores)
        return CompletionChoice(preface.text + choice.take_text(), choice.index, reason, scores)


def _preface(job: Job, echo: Echo, number: int) -> Preface:
    """What comes before the answers to a prompt."""
    text, run = echo.texts[number], job.runs[number]
    if job.scoring is None:
        return Preface(text, None)
    preprocessor = job.model.preprocessor
    token_bytes = preprocessor.tokenizer.token_bytes
    detokenizer = preprocessor.new_detokenizer(skip_special_tokens=False)
    scores = prompt_logprobs(
        run.request.token_ids,
        run.prompt_scores,
        top=job.scoring.top,
        token_bytes=token_bytes,
        offsets=TextOffsets(detokenizer, token_bytes),
    )
    return Preface(text, scores)


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
