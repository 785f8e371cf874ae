"""Log probabilities as the two APIs show them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from muster.frontend.choice import TokenScore
from muster.frontend.openai.reply import (
    ChatLogprobs,
    CompletionLogprobs,
    TokenLogprob,
    TopTokenLogprob,
)
from muster.llm.protocol import TopLogprob

__all__ = ["TokenBytes", "as_token_ids", "chat_logprobs", "completion_logprobs", "joined", "spell"]

TokenBytes = Callable[[int], bytes]
"""The bytes a token id stands for."""


def as_token_ids(scores: Sequence[TokenScore]) -> list[TokenScore]:
    """Scores whose tokens are spelled ``token_id:<id>``, as vLLM's clients may want them."""
    replace = msgspec.structs.replace

    def named(entry: TopLogprob) -> TopLogprob:
        return replace(entry, token=f"token_id:{entry.token_id}", bytes=None)

    return [
        replace(
            score, token=f"token_id:{score.token_id}", top=[named(entry) for entry in score.top]
        )
        for score in scores
    ]


def spell(token_id: int, token: str | None, token_bytes: TokenBytes) -> tuple[str, list[int]]:
    """A token's text, and its bytes: the text may show U+FFFD for a part of a character."""
    if token is not None:
        return token, list(token.encode())
    data = token_bytes(token_id)
    return data.decode(errors="replace"), list(data)


def _top(entry: TopLogprob, token_bytes: TokenBytes) -> TopTokenLogprob:
    token, data = spell(entry.token_id, entry.token, token_bytes)
    return TopTokenLogprob(token, entry.logprob, entry.bytes or data)


def chat_logprobs(
    scores: Sequence[TokenScore], *, top: int, token_bytes: TokenBytes
) -> ChatLogprobs:
    """Scores as chat replies carry them, with the ``top`` likeliest tokens at each position."""
    content = []
    for score in scores:
        token, data = spell(score.token_id, score.token, token_bytes)
        tops = [_top(entry, token_bytes) for entry in score.top[:top]]
        content.append(TokenLogprob(token, score.logprob, score.token_id, data, tops))
    return ChatLogprobs(content)


def completion_logprobs(
    scores: Sequence[TokenScore], *, top: int, token_bytes: TokenBytes
) -> CompletionLogprobs:
    """Scores as completions carry them."""
    tokens = [spell(score.token_id, score.token, token_bytes)[0] for score in scores]
    tops: list[dict[str, float] | None] = []
    for score in scores if top else ():
        spelled = [_top(entry, token_bytes) for entry in score.top[:top]]
        tops.append({entry.token: entry.logprob for entry in spelled})
    return CompletionLogprobs(
        tokens,
        [score.logprob for score in scores],
        tops if top else None,
        [score.offset for score in scores],
    )


def joined(first: CompletionLogprobs, rest: CompletionLogprobs) -> CompletionLogprobs:
    """The scores of two parts of one text."""
    tops = None
    if first.top_logprobs is not None and rest.top_logprobs is not None:
        tops = first.top_logprobs + rest.top_logprobs
    return CompletionLogprobs(
        first.tokens + rest.tokens,
        first.token_logprobs + rest.token_logprobs,
        tops,
        first.text_offset + rest.text_offset,
    )
