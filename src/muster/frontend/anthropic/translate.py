"""Chat replies as Anthropic's messages. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from muster.frontend.anthropic.chat import to_chat
from muster.frontend.anthropic.errors import error_type
from muster.frontend.anthropic.events import EventWriter, content_block, event
from muster.frontend.anthropic.requests import MessagesRequest
from muster.frontend.api_error import ApiError
from muster.frontend.openai.requests import decode
from muster.frontend.surface.blocks import Blocks
from muster.frontend.surface.chunks import ChatChunk, ChatReplyView, ChatUsage, StreamError
from muster.frontend.surface.exchange import Opening

__all__ = ["MessageTranslation", "Messages"]

_encode = msgspec.json.Encoder().encode

_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_ERROR_STATUSES = {"invalid_request_error": 400, "rate_limit_error": 429}


class Messages:
    """``/v1/messages`` as a surface of the chat path."""

    endpoint = "anthropic_messages"
    decoder = msgspec.json.Decoder(MessagesRequest)

    def read(self, body: bytes) -> tuple[bytes, MessageTranslation]:
        """The chat request, and the translation of its reply."""
        return _encode(to_chat(decode(self.decoder, body))), MessageTranslation()

    def rename(self, error: ApiError) -> ApiError:
        """The error: this API's errors name no field but in words."""
        return error


class MessageTranslation:
    """See ``Translation``."""

    def __init__(self) -> None:
        self._blocks = Blocks(EventWriter())
        self._opening: Opening | None = None
        self._reason = ""
        self._usage = ChatUsage()
        self._failed = False

    def open(self, opening: Opening) -> bytes:
        """``message_start``, with the prompt's tokens as they were counted."""
        self._opening = opening
        message = self._message(ChatUsage(prompt_tokens=opening.prompt_tokens))
        return event("message_start", message=message)

    def chunk(self, chunk: ChatChunk) -> bytes:
        """The events for a chunk."""
        if chunk.error is not None:
            return self._fail(chunk.error)
        if chunk.usage is not None:
            self._usage = chunk.usage
        out = b""
        for choice in chunk.choices:
            if choice.finish_reason is not None:
                self._reason = choice.finish_reason
            out += self._blocks.take(choice.delta)
        return out

    def finish(self, stop: str | None) -> bytes:
        """The end of the open block, ``message_delta`` and ``message_stop``."""
        if self._failed:
            return b""
        delta = _stop(self._reason, stop)
        return (
            self._blocks.close()
            + event("message_delta", delta=delta, usage=_usage(self._usage))
            + event("message_stop")
        )

    def whole(self, reply: ChatReplyView, stop: str | None) -> bytes:
        """The message."""
        for choice in reply.choices:
            self._reason = choice.finish_reason or ""
            self._blocks.take(choice.message)
        content = [content_block(block) for block in self._blocks.all]
        message = self._message(reply.usage) | _stop(self._reason, stop) | {"content": content}
        return _encode(message)

    def _fail(self, error: StreamError) -> bytes:
        self._failed = True
        kind = error_type(_ERROR_STATUSES.get(error.type, 500))
        detail = {"type": kind, "message": error.message}
        return self._blocks.close() + event("error", error=detail)

    def _message(self, usage: ChatUsage) -> dict[str, Any]:
        if self._opening is None:
            raise RuntimeError("the message has not been opened")
        return {
            "id": f"msg_{self._opening.request_id.replace('-', '')}",
            "type": "message",
            "role": "assistant",
            "model": self._opening.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _usage(usage),
        }


def _stop(reason: str, stop: str | None) -> dict[str, Any]:
    if stop is not None and reason == "stop":
        return {"stop_reason": "stop_sequence", "stop_sequence": stop}
    return {"stop_reason": _STOP_REASONS.get(reason, "end_turn"), "stop_sequence": None}


def _usage(usage: ChatUsage) -> dict[str, int]:
    """Tokens as Anthropic counts them: ``input_tokens`` leaves out what was cached."""
    cached = min(usage.cached_tokens or 0, usage.prompt_tokens)
    return {
        "input_tokens": usage.prompt_tokens - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.completion_tokens,
    }
