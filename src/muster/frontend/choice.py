"""One of a request's answers, decoded as its tokens come. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from muster.errors import EngineError
from muster.frontend.text_offsets import TextOffsets
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
    """What the engine said about one token it chose.

    ``offset`` is how many characters of the choice's text are before it, where that is counted.
    """

    token_id: int
    token: str | None
    logprob: float
    top: Sequence[TopLogprob]
    offset: int = 0


class Choice:
    """Takes an engine's outputs for one answer and holds what is new until it is taken.

    Args:
        index: Its index in the reply.
        checker: Decodes its tokens and ends it.
        scored: Whether the client wants log probabilities.
        offsets: Counts where its tokens begin, for scores that say so.
        keep_ids: Whether the client wants its token ids.

    Attributes:
        text: Text that has not been taken yet.
        scores: Scores of tokens that have not been taken yet.
        finish_reason: Why it ended; ``None`` while it goes on.
        ended_by_engine: Whether the engine said so itself.
        stop: The stop string or id that ended it, if one did.
        stop_reason: The same, or else what the engine gave for it.
        token_ids: Its token ids so far, that of the end included; ``None`` if they are not kept.
        usage: The engine's own count, if it sent one with its last output.
    """

    __slots__ = (
        "_checker",
        "_offsets",
        "_scored",
        "ended_by_engine",
        "finish_reason",
        "index",
        "scores",
        "stop",
        "stop_reason",
        "text",
        "token_ids",
        "usage",
    )

    def __init__(
        self,
        index: int,
        checker: StopChecker,
        *,
        scored: bool = False,
        offsets: TextOffsets | None = None,
        keep_ids: bool = False,
    ) -> None:
        self._checker = checker
        self._offsets = offsets
        self._scored = scored
        self.index = index
        self.text = ""
        self.scores: list[TokenScore] = []
        self.finish_reason: FinishReason | None = None
        self.ended_by_engine = False
        self.stop: str | int | None = None
        self.stop_reason: str | int | None = None
        self.token_ids: list[int] | None = [] if keep_ids else None
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
        ending: EngineOutput | None = None
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
                ending = output
                break
        if token_ids:
            self._push(token_ids)
        if ending is not None and reason is not None:
            self.usage = ending.completion_usage
            self._end(openai_finish_reason(reason))
            if self.stop_reason is None:
                self.stop_reason = ending.stop_reason
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
            self.stop = self.stop_reason = step.stop

    def _push(self, token_ids: list[int], text: str | None = None) -> Step:
        step = self._checker.push(token_ids, text)
        self.text += step.text
        if self.token_ids is not None:
            self.token_ids += token_ids[: step.tokens]
        if step.finish_reason is not None:
            self.finish_reason = step.finish_reason
            self.stop = self.stop_reason = step.stop
        return step

    def _push_one(self, output: EngineOutput) -> None:
        """Take an output whose text or scores must be kept with its tokens."""
        step = self._push(output.token_ids, output.text)
        if not self._scored:
            return
        token_ids = output.token_ids[: step.tokens]
        offsets = self._offsets
        begins = [offsets.next(token_id) for token_id in token_ids] if offsets is not None else ()
        if output.log_probs is None:
            return
        texts = output.tokens or ()
        tops = output.top_logprobs or ()
        pairs = zip(token_ids, output.log_probs, strict=False)
        for position, (token_id, logprob) in enumerate(pairs):
            self.scores.append(
                TokenScore(
                    token_id,
                    texts[position] if position < len(texts) else None,
                    logprob,
                    tops[position] if position < len(tops) else (),
                    begins[position] if begins else 0,
                )
            )
