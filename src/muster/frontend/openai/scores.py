"""Log probabilities as the two APIs show them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from muster.frontend.choice import TokenScore
from muster.frontend.openai.reply import (
    ChatLogprobs,
    CompletionLogprobs,
    TokenLogprob,
    TopTokenLogprob,
)
from muster.llm.protocol import TopLogprob

__all__ = ["TokenBytes", "chat_logprobs", "completion_logprobs"]

TokenBytes = Callable[[int], bytes]
"""The bytes a token id stands for."""


def _spell(token_id: int, token: str | None, token_bytes: TokenBytes) -> tuple[str, list[int]]:
    """A token's text, and its bytes: the text may show U+FFFD for a part of a character."""
    if token is not None:
        return token, list(token.encode())
    data = token_bytes(token_id)
    return data.decode(errors="replace"), list(data)


def _top(entry: TopLogprob, token_bytes: TokenBytes) -> TopTokenLogprob:
    token, data = _spell(entry.token_id, entry.token, token_bytes)
    return TopTokenLogprob(token, entry.logprob, entry.bytes or data)


def chat_logprobs(
    scores: Sequence[TokenScore], *, top: int, token_bytes: TokenBytes
) -> ChatLogprobs:
    """Scores as chat replies carry them, with the ``top`` likeliest tokens at each position."""
    content = []
    for score in scores:
        token, data = _spell(score.token_id, score.token, token_bytes)
        tops = [_top(entry, token_bytes) for entry in score.top[:top]]
        content.append(TokenLogprob(token, score.logprob, score.token_id, data, tops))
    return ChatLogprobs(content)


def completion_logprobs(
    scores: Sequence[TokenScore], *, top: int, token_bytes: TokenBytes, offset: int
) -> CompletionLogprobs:
    """Scores as completions carry them; ``offset`` is where the first token's text begins."""
    tokens, offsets, tops = [], [], []
    for score in scores:
        token, _ = _spell(score.token_id, score.token, token_bytes)
        tokens.append(token)
        offsets.append(offset)
        offset += len(token)
        spelled = [_top(entry, token_bytes) for entry in score.top[:top]]
        tops.append({entry.token: entry.logprob for entry in spelled})
    return CompletionLogprobs(
        tokens, [score.logprob for score in scores], tops if top else None, offsets
    )
