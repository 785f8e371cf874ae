"""Server-sent events of streamed replies, with all but the text encoded in advance.

A request makes one ``Frames``; a batch of tokens then costs one JSON string and two
concatenations. The fields are those of Dynamo 1.6.1, in the order OpenAI writes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from muster.frontend.openai.reply import ChatLogprobs, CompletionLogprobs, ReasoningField, Usage
from muster.llm.tool_calls.events import (
    CallAborted,
    CallArguments,
    CallEnded,
    CallStarted,
    Content,
    Event,
    Reasoning,
)

__all__ = ["DONE", "ChatFrames", "CompletionFrames", "Frames", "delta_fields", "error_frame"]

DONE = b"data: [DONE]\n\n"

_encode = msgspec.json.Encoder().encode
_NO_LOGPROBS = b"null"


def error_frame(body: bytes) -> bytes:
    """An error after the stream has started: the same object an early error's body is."""
    return b"data: " + body + b"\n\n"


class Frames(Protocol):
    """Builds a request's events."""

    def opening(self, index: int, usage: Usage | None = None) -> bytes:
        """What a choice that has tokens but no text yet begins with, if anything."""
        ...

    def text(self, index: int, text: str) -> bytes:
        """More text of a choice; the common case."""
        ...

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
        ...

    def usage(self, usage: Usage) -> bytes:
        """The last chunk of a stream whose client asked for usage: no choices."""
        ...


class ChatFrames:
    """``chat.completion.chunk`` events. A choice's first one names the role.

    Args:
        reply_id: Id of the reply.
        model: Model name in the reply.
        created: Seconds since the epoch.
        reasoning_field: Name of the field that has reasoning.
    """

    __slots__ = ("_head", "_prefixes", "_reasoning_field")

    def __init__(
        self,
        reply_id: str,
        model: str,
        created: int,
        *,
        reasoning_field: ReasoningField = "reasoning_content",
    ) -> None:
        self._reasoning_field = reasoning_field
        self._head = (
            b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"choices":['
            % (_encode(reply_id), created, _encode(model))
        )
        self._prefixes: dict[int, bytes] = {}

    def opening(self, index: int, usage: Usage | None = None) -> bytes:
        """The role, once."""
        if index in self._prefixes:
            return b""
        return self.chunk(index, "", finish_reason=None, logprobs=None, usage=usage)

    def text(self, index: int, text: str) -> bytes:
        """More text of a choice."""
        prefix = self._prefixes.get(index)
        if prefix is None:
            return self.chunk(index, text, finish_reason=None, logprobs=None, usage=None)
        return prefix + _encode(text) + b'},"finish_reason":null,"logprobs":null}]}\n\n'

    def chunk(
        self,
        index: int,
        text: str,
        *,
        finish_reason: str | None,
        logprobs: ChatLogprobs | CompletionLogprobs | None,
        usage: Usage | None,
    ) -> bytes:
        """Text of a choice with anything else that goes with it; no ``content`` if it is empty."""
        content = b'"content":' + _encode(text) if text else b""
        return self._delta(
            index, content, finish_reason=finish_reason, logprobs=logprobs, usage=usage
        )

    def events(
        self,
        index: int,
        events: Sequence[Event],
        *,
        finish_reason: str | None,
        logprobs: ChatLogprobs | CompletionLogprobs | None,
        usage: Usage | None,
    ) -> bytes:
        """A chunk a delta. Scores go with the first, the reason with one that has nothing else."""
        chunks = []
        for fields in delta_fields(events, self._reasoning_field) or (
            [b""] if logprobs is not None else []
        ):
            chunks.append(
                self._delta(index, fields, finish_reason=None, logprobs=logprobs, usage=usage)
            )
            logprobs = None
        if finish_reason is not None:
            chunks.append(
                self._delta(index, b"", finish_reason=finish_reason, logprobs=None, usage=usage)
            )
        return b"".join(chunks) or self.opening(index, usage)

    def _delta(
        self,
        index: int,
        fields: bytes,
        *,
        finish_reason: str | None,
        logprobs: ChatLogprobs | CompletionLogprobs | None,
        usage: Usage | None,
    ) -> bytes:
        """What is new in a choice, as the members of a JSON object, without its braces."""
        who = b""
        if index not in self._prefixes:
            self._prefixes[index] = b'%b{"index":%d,"delta":{"content":' % (self._head, index)
            who = b'"role":"assistant"'
        comma = b"," if fields and who else b""
        return b'%b{"index":%d,"delta":{%b%b%b},"finish_reason":%b,"logprobs":%b}]%b}\n\n' % (
            self._head,
            index,
            who,
            comma,
            fields,
            _encode(finish_reason),
            _encode(logprobs) if logprobs is not None else _NO_LOGPROBS,
            b',"usage":' + _encode(usage) if usage is not None else b"",
        )

    def usage(self, usage: Usage) -> bytes:
        """The usage chunk."""
        return b'%b],"usage":%b}\n\n' % (self._head, _encode(usage))


def delta_fields(
    events: Sequence[Event], reasoning_field: ReasoningField = "reasoning_content"
) -> list[bytes]:
    """The deltas for what was read: each the members of a JSON object, without its braces.

    A call's first delta has its id and name, and the arguments that came with them.
    """
    deltas: list[bytes] = []
    started: CallStarted | None = None
    for event in events:
        match event:
            case CallStarted():
                started = event
                continue
            case CallArguments(index, text) if started is None:
                deltas.append(
                    b'"tool_calls":[{"index":%d,"function":{"arguments":%b}}]'
                    % (index, _encode(text))
                )
            case CallArguments(_, text) if started is not None:
                deltas.append(_call_delta(started, text))
            case Reasoning(text):
                deltas.append(b'"%b":%b' % (reasoning_field.encode(), _encode(text)))
            case Content(text) | CallAborted(_, text):
                if started is not None:
                    deltas.append(_call_delta(started, ""))
                deltas.append(b'"content":' + _encode(text))
            case CallEnded():
                continue
        started = None
    if started is not None:
        deltas.append(_call_delta(started, ""))
    return deltas


def _call_delta(call: CallStarted, arguments: str) -> bytes:
    return (
        b'"tool_calls":[{"index":%d,"id":%b,"type":"function",'
        b'"function":{"name":%b,"arguments":%b}}]'
        % (call.index, _encode(call.id), _encode(call.name), _encode(arguments))
    )


class CompletionFrames:
    """``text_completion`` events.

    Args:
        reply_id: Id of the reply.
        model: Model name in the reply.
        created: Seconds since the epoch.
    """

    __slots__ = ("_head",)

    def __init__(self, reply_id: str, model: str, created: int) -> None:
        self._head = (
            b'data: {"id":%b,"object":"text_completion","created":%d,"model":%b,'
            b'"system_fingerprint":null,"choices":[' % (_encode(reply_id), created, _encode(model))
        )

    def opening(self, index: int, usage: Usage | None = None) -> bytes:
        """Nothing."""
        return b""

    def text(self, index: int, text: str) -> bytes:
        """More text of a choice."""
        return (
            b'%b{"index":%d,"text":%b,"finish_reason":null,"logprobs":null}],"usage":null}\n\n'
            % (self._head, index, _encode(text))
        )

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
        return b'%b{"index":%d,"text":%b,"finish_reason":%b,"logprobs":%b}],"usage":%b}\n\n' % (
            self._head,
            index,
            _encode(text),
            _encode(finish_reason),
            _encode(logprobs) if logprobs is not None else _NO_LOGPROBS,
            _encode(usage),
        )

    def usage(self, usage: Usage) -> bytes:
        """The usage chunk."""
        return b'%b],"usage":%b}\n\n' % (self._head, _encode(usage))
