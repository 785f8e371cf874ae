"""When a request whose instance was lost goes on at another one, and what that one is asked. Pure.

A prompt and the tokens generated so far are a prompt again: another instance continues from there.
What cannot be said in token ids cannot be continued, see ``obstacle``.

Greedy replies go on as they would have. Sampled ones go on with other random numbers, even with a
seed, and presence and frequency penalties no longer count the tokens before the move: to the engine
they are prompt.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec
from msgspec import UNSET

from muster.config.settings import HttpSettings
from muster.errors import (
    CannotConnect,
    ConnectionTimeout,
    Disconnected,
    EngineShutdown,
    MusterError,
    ResponseTimeout,
    StreamIncomplete,
    WorkerUnavailable,
)
from muster.llm.protocol import CompletionUsage, EngineOutput, EngineRequest

__all__ = ["MigrationLimits", "Progress", "obstacle"]

_LOST = (
    CannotConnect,
    ConnectionTimeout,
    Disconnected,
    EngineShutdown,
    StreamIncomplete,
    WorkerUnavailable,
)


class MigrationLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How often a request may change its instance.

    Attributes:
        before_first: Before its first token; 0 never.
        after_first: After it; 0 never.
        max_seq_len: Prompt and answer may together have so many tokens; longer ones stay.
    """

    before_first: int = 3
    after_first: int = 3
    max_seq_len: int | None = None

    @classmethod
    def of(cls, settings: HttpSettings) -> MigrationLimits:
        """The limits that a frontend's settings name."""
        before, after = settings.migration_limit, settings.migration_after_first
        return cls(
            before_first=before,
            after_first=before if after is None else after,
            max_seq_len=settings.migration_max_seq_len,
        )

    def capped(self, most: int) -> MigrationLimits:
        """These, and no more than ``most`` moves before the first token or after it; 0 is no cap."""
        if not most:
            return self
        return msgspec.structs.replace(
            self,
            before_first=min(self.before_first, most),
            after_first=min(self.after_first, most),
        )


def obstacle(request: EngineRequest) -> str:
    """Why a request cannot be continued once it has tokens; empty if it can."""
    sampling, stop = request.sampling_options, request.stop_conditions
    if (sampling.n or 1) > 1 or (sampling.best_of or 1) > 1 or sampling.use_beam_search:
        return "it has several answers, and a prompt carries one"
    if sampling.guided_decoding is not None:
        return "guided decoding would start anew"
    if request.prompt_embeds is not UNSET and request.prompt_embeds is not None:
        return "its prompt is embeddings, to which tokens cannot be added"
    if request.prefill_result or request.bootstrap_info:
        return "its prompt was computed for one instance"
    if stop.max_thinking_tokens is not None:
        return "the engine's count of thinking tokens would start anew"
    return ""


class Progress:
    """What has come of an answer, and what is left to ask somebody else for.

    Args:
        request: The request as it was first sent.
        limits: How often it may move.

    Attributes:
        tokens: How many tokens have come.
        finished: Whether the engine has said that the answer is complete.
        exceeded: Whether it grew longer than may be moved.
    """

    __slots__ = (
        "_after",
        "_before",
        "_carried",
        "_limits",
        "_room",
        "_textual",
        "_token_ids",
        "exceeded",
        "finished",
        "request",
        "tokens",
    )

    def __init__(self, request: EngineRequest, limits: MigrationLimits) -> None:
        self.request = request
        self.tokens = 0
        self.finished = False
        self.exceeded = False
        self._limits = limits
        self._token_ids: list[int] = []
        self._textual = False
        self._before = self._after = 0
        self._carried = 0
        longest = sys.maxsize if limits.max_seq_len is None else limits.max_seq_len
        self._room = longest - len(request.token_ids)

    @property
    def kind(self) -> str:
        """What moving it now is called: ``new_request`` or ``ongoing_request``; Dynamo's words."""
        return "ongoing_request" if self.tokens else "new_request"

    @property
    def moves_left(self) -> int:
        """How often it may still move, as far as only the limits are asked."""
        limits = self._limits
        if self.tokens:
            return max(0, limits.after_first - self._after)
        return max(0, limits.before_first - self._before)

    def take(self, outputs: Sequence[EngineOutput]) -> None:
        """Note outputs on their way to the client, and count in them what came before a move."""
        token_ids = self._token_ids
        for output in outputs:
            new = output.token_ids
            if new:
                token_ids += new
                self.tokens += len(new)
            elif output.text:
                self._textual = True
            if output.finish_reason is not None:
                self.finished = True
        if self._carried and self.finished:
            self._count_in(outputs)
        if len(token_ids) > self._room:
            self.exceeded = True
            token_ids.clear()
            self._room = sys.maxsize  # this is looked at once

    def refusal(self, failure: MusterError, *, reported: bool) -> str:
        """Why it may not go on elsewhere after ``failure``; empty if it may.

        Args:
            failure: What ended the stream.
            reported: The worker's handler raised it. Then only that its engine goes away is a
                reason to move: all else another one would raise as well.
        """
        if reported and not isinstance(failure, EngineShutdown):
            return "the engine itself failed"
        if self.finished:
            return "the answer was complete"
        if not isinstance(failure, _LOST) and not (
            self.tokens and isinstance(failure, ResponseTimeout)
        ):
            return "this failure says nothing of other instances"
        if self.request.routing and self.request.routing.get("backend_instance_id") is not None:
            return "the client named the instance"
        if self._textual:
            return "the engine sends text without its tokens"
        if not self.moves_left:
            limit, when = self._limits.before_first, "before"
            if self.tokens:
                limit, when = self._limits.after_first, "after"
            return f"it may move {limit} times {when} its first token"
        if not self.tokens:
            return ""
        if self.exceeded:
            return f"it has more than {self._limits.max_seq_len} tokens"
        return obstacle(self.request)

    def moved(self, times: int = 1) -> None:
        """It goes, or has gone, to another instance."""
        if self.tokens:
            self._after += times
        else:
            self._before += times

    def rest(self) -> EngineRequest | None:
        """What the next instance is asked; ``None`` if nothing is left to generate."""
        request = self.request
        if not self.tokens:
            return request
        done = self.tokens
        stop = request.stop_conditions
        if stop.max_tokens is not None and stop.max_tokens <= done:
            return None
        self._carried = done
        return msgspec.structs.replace(
            request,
            token_ids=[*request.token_ids, *self._token_ids],
            stop_conditions=msgspec.structs.replace(
                stop,
                max_tokens=None if stop.max_tokens is None else stop.max_tokens - done,
                min_tokens=None if stop.min_tokens is None else max(0, stop.min_tokens - done),
            ),
            output_options=msgspec.structs.replace(request.output_options, prompt_logprobs=None),
        )

    def _count_in(self, outputs: Sequence[EngineOutput]) -> None:
        """To the last engine the tokens before the move were prompt: give them back."""
        carried = self._carried
        for output in outputs:
            usage = output.completion_usage
            if usage is None:
                continue
            prompt = max(0, usage.prompt_tokens - carried)
            details = usage.prompt_tokens_details
            if details is not None and details.cached_tokens is not None:
                cached = min(details.cached_tokens, prompt)
                details = msgspec.structs.replace(details, cached_tokens=cached)
            output.completion_usage = CompletionUsage(
                prompt_tokens=prompt,
                completion_tokens=usage.completion_tokens + carried,
                total_tokens=usage.total_tokens,
                prompt_tokens_details=details,
            )
