"""A prepared request on its way to being answered."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Protocol, TypeVar

import msgspec

from muster.frontend.choice import Choice
from muster.frontend.openai.additions import Additions
from muster.frontend.openai.echo import Echo
from muster.frontend.openai.frames import Frames
from muster.frontend.openai.prepare import Scoring
from muster.frontend.openai.reading import Reading
from muster.frontend.openai.reply import (
    ChatLogprobs,
    CompletionLogprobs,
    CompletionTokensDetails,
    PromptTokensDetails,
    Usage,
)
from muster.frontend.openai.requests import GenerationRequest, StreamOptions
from muster.frontend.prompt_run import PromptRun
from muster.frontend.request_scope import RequestScope
from muster.frontend.request_trace import (
    TRACE_HEADER,
    describe_request,
    trace_comment,
    wants_trace,
)
from muster.frontend.served_model import ServedModel
from muster.llm.protocol import EngineRequest

__all__ = ["Api", "Job"]


T = TypeVar("T", bound=GenerationRequest)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Everything about one request that does not change while it is answered.

    Attributes:
        model: The model.
        runs: One per prompt; their choices are numbered through.
        scoring: Which log probabilities go into the reply.
        scope: The request as engines get it (its id is a UUID), and how it ends.
        reply_id: Id of the reply.
        created: Seconds since the epoch.
        stream: Whether to stream.
        options: What the stream carries besides text.
        reading: Tells reasoning and calls from text; ``None`` if replies are nothing but text.
        echo: What answers begin with; ``None`` if they are only what the engine says.
        additions: What replies say beyond OpenAI's fields; ``None`` if nothing, which is usual.
    """

    model: ServedModel
    runs: Sequence[PromptRun]
    scoring: Scoring | None
    scope: RequestScope
    reply_id: str
    created: int
    stream: bool
    options: StreamOptions | None
    reading: Reading | None = None
    echo: Echo | None = None
    additions: Additions | None = None

    @property
    def asks_engine(self) -> bool:
        """Whether there is anything to ask an engine for."""
        return self.echo is None or not self.echo.alone or self.scoring is not None

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts, as we counted them."""
        return sum([len(run.request.token_ids) for run in self.runs])

    @property
    def completion_tokens(self) -> int:
        """Tokens of all answers so far, as we counted them."""
        if self.echo is not None and self.echo.alone:
            return 0
        return sum([choice.tokens for run in self.runs for choice in run.choices])

    @property
    def cached_tokens(self) -> int | None:
        """Prompt tokens the engines had cached; ``None`` if none of them says."""
        reported = [
            choice.usage.prompt_tokens_details.cached_tokens
            for run in self.runs
            for choice in run.choices
            if choice.usage is not None and choice.usage.prompt_tokens_details is not None
        ]
        known = [count for count in reported if count is not None]
        return sum(known) if known else None

    def usage(self) -> Usage:
        """Tokens so far. Prompt tokens are the engine's count where it gives one."""
        prompt = 0
        for run in self.runs:
            reported = [choice.usage.prompt_tokens for choice in run.choices if choice.usage]
            prompt += max(reported, default=0) or len(run.request.token_ids)
        completion = self.completion_tokens
        cached = self.cached_tokens
        details = None if cached is None else PromptTokensDetails(cached)
        thought = self.reading.reasoning_tokens if self.reading is not None else None
        spent = None if thought is None else CompletionTokensDetails(thought)
        return Usage(prompt, completion, prompt + completion, details, spent)

    def trace(self) -> str:
        """What ``x-muster-trace`` says up to now; empty if the client did not ask for it."""
        if not wants_trace(self.scope.exchange):
            return ""
        journeys = [run.journey for run in self.runs if run.journey is not None]
        return describe_request(journeys, arrived=self.scope.arrived, now=time.monotonic())

    def trace_headers(self) -> dict[str, str] | None:
        """The headers of a whole answer that say it."""
        text = self.trace()
        return {TRACE_HEADER: text} if text else None

    def trace_comment(self) -> bytes:
        """The part of a stream that says it, for its end."""
        text = self.trace()
        return trace_comment(text) if text else b""


class Api(Protocol[T]):
    """What differs between the chat and the completions API.

    Attributes:
        endpoint: Its name in metrics.
        id_prefix: What the ids of its replies begin with.
        decoder: Reads its requests.
    """

    endpoint: str
    id_prefix: str
    decoder: msgspec.json.Decoder[T]

    def check(self, request: T) -> None:
        """Check the values of a request. Raises ``ApiError`` (400) for the first bad one."""
        ...

    def serves(self, model: ServedModel) -> bool:
        """Whether ``model`` takes this API's requests."""
        ...

    def tokenize(self, request: T, model: ServedModel) -> list[list[int]]:
        """The ids of each prompt. Runs in any thread. Raises ``MusterError`` for bad prompts."""
        ...

    def formatted_prompt(self, request: T, model: ServedModel) -> str | None:
        """The prompt as the template wrote it, where the client asks to see it."""
        ...

    def scoring(self, request: T) -> Scoring | None:
        """Which log probabilities the client wants."""
        ...

    def engine_request(
        self, request: T, model: ServedModel, token_ids: list[int], scoring: Scoring | None
    ) -> EngineRequest:
        """What the engine is asked for one prompt. Raises ``ApiError`` (400) if it is too long."""
        ...

    def reading(
        self, request: T, model: ServedModel, requests: Sequence[EngineRequest], *, keep: bool
    ) -> Reading | None:
        """How replies are read, made for one request; ``None`` if they are nothing but text.

        ``keep`` says that the whole reply is wanted at the end.
        """
        ...

    def frames(self, job: Job) -> Frames:
        """The builder of the stream's events."""
        ...

    def logprobs(self, job: Job, choice: Choice) -> ChatLogprobs | CompletionLogprobs | None:
        """The choice's new scores, taken from it; ``None`` if the client wants none."""
        ...

    def reply(self, job: Job) -> bytes:
        """The whole reply, once every choice has ended."""
        ...
