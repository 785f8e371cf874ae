"""One of a request's answers, decoded as its tokens come. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from muster.errors import EngineError
from muster.llm.protocol import (
    CompletionUsage,
    EngineOutput,
    FinishReason,
    TopLogprob,
    openai_finish_reason,
)
from muster.llm.stops import Step, StopChecker

__all__ = ["Choice", "TokenScore"]


class TokenScore(msgspec.Struct, frozen=True, gc=False):
    """What the engine said about one token it chose."""

    token_id: int
    token: str | None
    logprob: float
    top: Sequence[TopLogprob]


class Choice:
    """Takes an engine's outputs for one answer and holds what is new until it is taken.

    Args:
        index: Its index in the reply.
        checker: Decodes its tokens and ends it.
        scored: Whether the client wants log probabilities.

    Attributes:
        text: Text that has not been taken yet.
        scores: Scores of tokens that have not been taken yet.
        finish_reason: Why it ended; ``None`` while it goes on.
        ended_by_engine: Whether the engine said so itself.
        stop: The stop string or id that ended it, if one did.
        usage: The engine's own count, if it sent one with its last output.
    """

    __slots__ = (
        "_checker",
        "_scored",
        "ended_by_engine",
        "finish_reason",
        "index",
        "scores",
        "stop",
        "text",
        "usage",
    )

    def __init__(self, index: int, checker: StopChecker, *, scored: bool = False) -> None:
        self._checker = checker
        self._scored = scored
        self.index = index
        self.text = ""
        self.scores: list[TokenScore] = []
        self.finish_reason: FinishReason | None = None
        self.ended_by_engine = False
        self.stop: str | int | None = None
        self.usage: CompletionUsage | None = None

    @property
    def tokens(self) -> int:
        """How many tokens the answer has so far."""
        return self._checker.tokens

    def feed(self, outputs: Sequence[EngineOutput]) -> int:
        """Take outputs that came together; their tokens are decoded together.

        What comes after the answer's end is dropped.

        Returns:
            How many tokens the answer has grown by.

        Raises:
            EngineError: If the engine reports that it failed.
        """
        if self.finish_reason is not None:
            return 0
        before = self._checker.tokens
        token_ids: list[int] = []
        reason: str | None = None
        for output in outputs:
            if output.text is None and not self._scored:
                token_ids += output.token_ids
            else:
                if token_ids:
                    self._push(token_ids)
                    token_ids = []
                self._push_one(output)
            reason = output.finish_reason
            if reason is not None:
                break
        if token_ids:
            self._push(token_ids)
        if reason is not None:
            self.usage = outputs[-1].completion_usage
            self._end(openai_finish_reason(reason))
        return self._checker.tokens - before

    def end(self) -> None:
        """The engine's stream has ended without a reason for this answer.

        Raises:
            EngineError: If the answer has not even begun: nothing is what a broken engine sends.
        """
        if self.finish_reason is None:
            if not self.tokens:
                raise EngineError("the engine ended its reply without any output")
            self._end("stop")

    def take_text(self) -> str:
        """The text since the last call."""
        text, self.text = self.text, ""
        return text

    def take_scores(self) -> list[TokenScore]:
        """The scores since the last call."""
        scores, self.scores = self.scores, []
        return scores

    def _end(self, reason: FinishReason) -> None:
        self.ended_by_engine = True
        if self.finish_reason is None:
            step = self._checker.flush()
            self.text += step.text
            self.finish_reason = step.finish_reason or reason
            self.stop = step.stop

    def _push(self, token_ids: list[int], text: str | None = None) -> Step:
        step = self._checker.push(token_ids, text)
        self.text += step.text
        if step.finish_reason is not None:
            self.finish_reason = step.finish_reason
            self.stop = step.stop
        return step

    def _push_one(self, output: EngineOutput) -> None:
        """Take an output whose text or scores must be kept with its tokens."""
        step = self._push(output.token_ids, output.text)
        if not self._scored or output.log_probs is None:
            return
        texts = output.tokens or ()
        tops = output.top_logprobs or ()
        pairs = zip(output.token_ids[: step.tokens], output.log_probs, strict=False)
        for position, (token_id, logprob) in enumerate(pairs):
            self.scores.append(
                TokenScore(
                    token_id,
                    texts[position] if position < len(texts) else None,
                    logprob,
                    tops[position] if position < len(tops) else (),
                )
            )
