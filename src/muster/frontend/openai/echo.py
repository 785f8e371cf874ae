"""Completions that begin with their prompt.

The prompt's text comes before each answer's. With ``logprobs`` the prompt's tokens come before the
answer's as well. The first of them has no probability, so ``null`` stands for it. The others have
what the engine says of them; ``null`` stands for each it says nothing of. Dynamo's engines say it
with their last output, so in a stream, which begins with the prompt, they are ``null`` unless it
comes with the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from muster.frontend.openai.frames import CompletionFrames
from muster.frontend.openai.reply import ChatLogprobs, CompletionLogprobs, Usage
from muster.frontend.openai.requests import CompletionRequest, GenerationRequest
from muster.frontend.openai.scores import spell
from muster.frontend.served_model import ServedModel
from muster.frontend.text_offsets import TextOffsets

__all__ = ["Echo", "EchoFrames", "Preface", "echo_of", "prompt_logprobs"]


class Echo(msgspec.Struct, frozen=True, kw_only=True):
    """What a completion repeats.

    Attributes:
        texts: The text of each prompt.
        alone: Nothing is generated: the client wants the prompt back, or its scores.
    """

    texts: Sequence[str]
    alone: bool


class Preface(msgspec.Struct, frozen=True):
    """What comes before one answer."""

    text: str
    logprobs: CompletionLogprobs | None


def echo_of(
    request: GenerationRequest, model: ServedModel, prompts: Sequence[list[int]]
) -> Echo | None:
    """What ``request`` wants repeated; ``None`` if nothing. Prompts of ids are decoded, all of them."""
    if not isinstance(request, CompletionRequest) or not request.echo:
        return None
    given = request.prompt
    texts: list[Any] = [given] if isinstance(given, str) else given
    if not isinstance(texts[0], str):
        decode = model.preprocessor.decode
        texts = [decode(token_ids, skip_special_tokens=False) for token_ids in prompts]
    return Echo(texts=texts, alone=request.max_tokens == 0)


class _Entry(msgspec.Struct, frozen=True):
    logprob: float
    decoded_token: str | None = None


def _delivered(scores: Any) -> Sequence[dict[int, _Entry] | None]:
    """What an engine said of a prompt, if it is what Dynamo's engines say."""
    try:
        return msgspec.convert(scores, list[dict[int, _Entry] | None], strict=False)
    except msgspec.ValidationError:
        return ()


def prompt_logprobs(
    token_ids: Sequence[int],
    scores: Any,
    *,
    top: int,
    token_bytes: Callable[[int], bytes],
    offsets: TextOffsets,
) -> CompletionLogprobs:
    """The scores of a prompt's tokens.

    Args:
        token_ids: The prompt.
        scores: By position: ``null``, or by token id (in decimal) an object with ``logprob`` and
            perhaps ``decoded_token``; ``None``, or of any other shape, if nothing is known.
        top: How many of the likeliest tokens at each position are wanted.
        token_bytes: The bytes a token stands for.
        offsets: Of the prompt's text, at its start.
    """
    known = _delivered(scores)
    chosen: list[float | None] = []
    tops: list[dict[str, float] | None] = []
    for position, token_id in enumerate(token_ids):
        entries = (known[position] if 0 < position < len(known) else None) or {}
        own = entries.get(token_id)
        chosen.append(None if own is None else own.logprob)
        best = sorted(entries.items(), key=lambda item: -item[1].logprob)[:top]
        named = {
            entry.decoded_token or spell(other, None, token_bytes)[0]: entry.logprob
            for other, entry in best
        }
        tops.append(named or None)
    return CompletionLogprobs(
        [spell(token_id, None, token_bytes)[0] for token_id in token_ids],
        chosen,
        tops if top else None,
        [offsets.next(token_id) for token_id in token_ids],
    )


class EchoFrames(CompletionFrames):
    """The events of a stream in which each choice begins with its prompt.

    Args:
        reply_id: Id of the reply.
        model: Model name in the reply.
        created: Seconds since the epoch.
        preface: What comes before the choice with an index.
        alone: Nothing else comes.
    """

    __slots__ = ("_alone", "_begun", "_preface")

    def __init__(
        self,
        reply_id: str,
        model: str,
        created: int,
        *,
        preface: Callable[[int], Preface],
        alone: bool,
    ) -> None:
        super().__init__(reply_id, model, created)
        self._preface = preface
        self._alone = alone
        self._begun: set[int] = set()

    def opening(self, index: int, usage: Usage | None = None) -> bytes:
        """The prompt, once."""
        return self._begin(index, usage)

    def text(self, index: int, text: str) -> bytes:
        """More text of a choice."""
        more = b"" if self._alone else super().text(index, text)
        return self._begin(index, None) + more

    def chunk(
        self,
        index: int,
        text: str,
        *,
        finish_reason: str | None,
        logprobs: ChatLogprobs | CompletionLogprobs | None,
        usage: Usage | None,
    ) -> bytes:
        """Text of a choice with anything else that goes with it."""
        preface = self._begin(index, usage)
        if not self._alone:
            return preface + super().chunk(
                index, text, finish_reason=finish_reason, logprobs=logprobs, usage=usage
            )
        if finish_reason is None:
            return preface
        return preface + super().chunk(
            index, "", finish_reason="length", logprobs=None, usage=usage
        )

    def _begin(self, index: int, usage: Usage | None) -> bytes:
        if index in self._begun:
            return b""
        self._begun.add(index)
        preface = self._preface(index)
        return super().chunk(
            index, preface.text, finish_reason=None, logprobs=preface.logprobs, usage=usage
        )
