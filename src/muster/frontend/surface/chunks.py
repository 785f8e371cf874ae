"""Chat replies and chunks, read back. Only what a translation needs; all else is skipped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

__all__ = [
    "ChatChunk",
    "ChatReplyView",
    "ChatUsage",
    "Delta",
    "FunctionDelta",
    "StreamError",
    "ToolDelta",
    "read_chunks",
    "read_reply",
]

Logprobs = dict[str, Any]


class FunctionDelta(msgspec.Struct, frozen=True):
    """More of a call's function: the name comes first, the arguments in pieces of JSON text."""

    name: str | None = None
    arguments: str | None = None


class ToolDelta(msgspec.Struct, frozen=True):
    """More of a tool call. Calls of a whole message have no index: their order counts."""

    index: int | None = None
    id: str | None = None
    function: FunctionDelta = FunctionDelta()


class Delta(msgspec.Struct, frozen=True):
    """What a chunk adds to the assistant's message; also a whole message."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolDelta] | None = None

    @property
    def thought(self) -> str:
        """The reasoning under either of its names."""
        return self.reasoning_content or self.reasoning or ""


class _CachedTokens(msgspec.Struct, frozen=True):
    cached_tokens: int | None = None


class _ReasoningTokens(msgspec.Struct, frozen=True):
    reasoning_tokens: int | None = None


class ChatUsage(msgspec.Struct, frozen=True):
    """Tokens of a request."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _CachedTokens | None = None
    completion_tokens_details: _ReasoningTokens | None = None

    @property
    def cached_tokens(self) -> int | None:
        """Prompt tokens the engine had cached; ``None`` if it does not say."""
        details = self.prompt_tokens_details
        return details.cached_tokens if details is not None else None

    @property
    def reasoning_tokens(self) -> int:
        """Completion tokens spent on reasoning, as far as they are known."""
        details = self.completion_tokens_details
        return (details.reasoning_tokens or 0) if details is not None else 0


class ChunkChoice(msgspec.Struct, frozen=True):
    """The choice of a chunk; surfaces ask for one."""

    delta: Delta = Delta()
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class StreamError(msgspec.Struct, frozen=True):
    """An error after the stream has started: OpenAI's error object."""

    message: str = ""
    type: str = "server_error"
    param: str | None = None
    code: str | int | None = None


class ChatChunk(msgspec.Struct, frozen=True):
    """One event of a chat stream."""

    choices: list[ChunkChoice] = []
    usage: ChatUsage | None = None
    error: StreamError | None = None


class _ReplyChoice(msgspec.Struct, frozen=True):
    message: Delta = Delta()
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class ChatReplyView(msgspec.Struct, frozen=True):
    """A whole chat reply."""

    choices: list[_ReplyChoice]
    usage: ChatUsage = ChatUsage()


_PREFIX = b"data: "
_DONE = b"data: [DONE]"

read_reply = msgspec.json.Decoder(ChatReplyView).decode
_read_chunk = msgspec.json.Decoder(ChatChunk).decode


def read_chunks(data: bytes) -> Iterator[ChatChunk | bytes]:
    """The events in ``data``, which holds whole ones; ``[DONE]`` is left out.

    A comment comes out as the bytes it is. Events with names of their own (annotations) are left out:
    no other API has them.
    """
    for event in data.split(b"\n\n"):
        if event.startswith(_PREFIX):
            if event != _DONE:
                yield _read_chunk(event[len(_PREFIX) :])
        elif event.startswith(b":"):
            yield event + b"\n\n"
