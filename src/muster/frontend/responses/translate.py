"""A response's request as a chat request, and the chat reply as a response. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from muster.frontend.api_error import ApiError
from muster.frontend.openai.requests import decode
from muster.frontend.responses.events import EventWriter
from muster.frontend.responses.input_items import to_messages
from muster.frontend.responses.items import Items, read_logprobs
from muster.frontend.responses.objects import (
    IncompleteDetails,
    InputTokensDetails,
    OutputTokensDetails,
    Response,
    ResponseError,
    ResponseUsage,
    Status,
)
from muster.frontend.responses.requests import ResponsesRequest, refuse_state
from muster.frontend.responses.tools import to_response_format, to_tool_choice, to_tools
from muster.frontend.surface.blocks import Blocks
from muster.frontend.surface.chunks import ChatChunk, ChatReplyView, ChatUsage, StreamError
from muster.frontend.surface.exchange import Opening

__all__ = ["ResponseTranslation", "Responses", "to_chat"]

_encode = msgspec.json.Encoder().encode

_SAME = (
    "model", "temperature", "top_p", "parallel_tool_calls", "user",
    "chat_template_kwargs", "frequency_penalty", "ignore_eos", "min_p", "min_tokens", "nvext",
    "presence_penalty", "repetition_penalty", "seed", "stop", "top_k", "stream",
)  # fmt: skip
_PARAMS = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
}
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_LOGPROBS = "message.output_text.logprobs"


def to_chat(request: ResponsesRequest) -> dict[str, Any]:
    """The chat request that asks for the same.

    Raises:
        ApiError: 400 for what is stateful, or cannot be said in a chat request.
    """
    refuse_state(request)
    tool_choice, tools = to_tool_choice(request.tool_choice, to_tools(request.tools))
    text = request.text
    scored = request.top_logprobs is not None or _LOGPROBS in (request.include or ())
    chat: dict[str, Any] = {name: getattr(request, name) for name in _SAME}
    chat |= {
        "messages": to_messages(request.input, request.instructions),
        "max_completion_tokens": request.max_output_tokens,
        "tools": tools,
        "tool_choice": tool_choice,
        "reasoning_effort": request.reasoning.effort if request.reasoning is not None else None,
        "response_format": to_response_format(text.format) if text is not None else None,
        "logprobs": scored or None,
        "top_logprobs": request.top_logprobs,
        "stream_options": {"include_usage": True} if request.stream else None,
    }
    return {name: value for name, value in chat.items() if value is not None}


class Responses:
    """``/v1/responses`` as a surface of the chat path.

    Args:
        now: The time, in seconds since the epoch.
    """

    endpoint = "responses"
    decoder = msgspec.json.Decoder(ResponsesRequest)

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now

    def read(self, body: bytes) -> tuple[bytes, ResponseTranslation]:
        """The chat request, and the translation of its reply."""
        request = decode(self.decoder, body)
        return _encode(to_chat(request)), ResponseTranslation(request, self._now)

    def rename(self, error: ApiError) -> ApiError:
        """The error with this API's name of the field at fault."""
        head, dot, rest = (error.param or "").partition(".")
        name, bracket, _ = head.partition("[")
        if name not in _PARAMS:
            return error
        rest = rest.removeprefix("json_schema.")  # there is no such level here
        # a message's place is not its item's: instructions come first, items become one message
        param = _PARAMS[name] if bracket or not dot else f"{_PARAMS[name]}.{rest}"
        return ApiError(
            error.status, error.message, param=param, slug=error.slug, headers=error.headers
        )


class ResponseTranslation:
    """See ``Translation``.

    Args:
        request: The request, whose settings are part of the response.
        now: The time.
    """

    def __init__(self, request: ResponsesRequest, now: Callable[[], float]) -> None:
        self._request = request
        self._now = now
        self._opened: Response | None = None
        self._items = Items("")
        self._events = EventWriter(self._items)
        self._blocks = Blocks(self._events)
        self._reason = ""
        self._usage = ChatUsage()
        self._failed = False

    def open(self, opening: Opening) -> bytes:
        """``response.created`` and ``response.in_progress``."""
        self._items = Items(opening.request_id)
        self._events = EventWriter(self._items)
        self._blocks = Blocks(self._events)
        self._opened = _in_progress(self._request, opening)
        return self._events.response("created", self._opened) + self._events.response(
            "in_progress", self._opened
        )

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
            scores = read_logprobs(choice.logprobs) if choice.logprobs is not None else None
            out += self._blocks.take(choice.delta, scores)
        return out

    def finish(self, stop: str | None) -> bytes:
        """The end of the open item, and ``response.completed`` or ``.incomplete``."""
        if self._failed:
            return b""
        out = b"" if self._blocks.all else self._blocks.open_text()
        self._events.cut_off = self._reason in _INCOMPLETE
        out += self._blocks.close()
        response = self._response()
        return out + self._events.response(response.status, response)

    def whole(self, reply: ChatReplyView, stop: str | None) -> bytes:
        """The response."""
        for choice in reply.choices:
            self._reason = choice.finish_reason or ""
            self._blocks.take(choice.message, read_logprobs(choice.logprobs))
        self._usage = reply.usage
        if not self._blocks.all:
            self._blocks.open_text()
        return _encode(self._response())

    def _fail(self, error: StreamError) -> bytes:
        self._failed = True
        code = "rate_limit_exceeded" if error.type == "rate_limit_error" else "server_error"
        failed = msgspec.structs.replace(
            self._response(),
            status="failed",
            error=ResponseError(code, error.message),
            completed_at=None,
            incomplete_details=None,
            usage=None,  # nobody counted
        )
        return self._events.error(error) + self._events.response("failed", failed)

    def _response(self) -> Response:
        """The response as it is at its end."""
        if self._opened is None:
            raise RuntimeError("the response has not been opened")
        blocks = self._blocks.all
        cut_off = _INCOMPLETE.get(self._reason)
        last: Status = "incomplete" if cut_off is not None else "completed"
        return msgspec.structs.replace(
            self._opened,
            status=last,
            completed_at=int(self._now()) if cut_off is None else None,
            incomplete_details=IncompleteDetails(cut_off) if cut_off is not None else None,
            output=[
                self._items.item(block, last if block is blocks[-1] else "completed")
                for block in blocks
            ],
            usage=_usage(self._usage),
        )


def _usage(usage: ChatUsage) -> ResponseUsage:
    return ResponseUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=InputTokensDetails(usage.cached_tokens or 0),
        output_tokens=usage.completion_tokens,
        output_tokens_details=OutputTokensDetails(usage.reasoning_tokens),
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
    )


def _in_progress(request: ResponsesRequest, opening: Opening) -> Response:
    """The response before its first token: the settings it is made with."""
    text: dict[str, Any] = {"format": {"type": "text"}}
    if request.text is not None:
        text = {"format": request.text.format or text["format"]}
        if request.text.verbosity is not None:
            text["verbosity"] = request.text.verbosity
    reasoning = request.reasoning
    return Response(
        id=f"resp_{opening.request_id.replace('-', '')}",
        created_at=opening.created,
        status="in_progress",
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        max_tool_calls=request.max_tool_calls,
        model=opening.model,
        parallel_tool_calls=request.parallel_tool_calls is not False,
        prompt_cache_key=request.prompt_cache_key,
        reasoning={
            "effort": reasoning.effort if reasoning is not None else None,
            "summary": reasoning.summary if reasoning is not None else None,
        },
        safety_identifier=request.safety_identifier,
        temperature=1.0 if request.temperature is None else request.temperature,
        text=text,
        tool_choice=request.tool_choice or "auto",
        tools=request.tools or [],
        top_logprobs=request.top_logprobs or 0,
        top_p=1.0 if request.top_p is None else request.top_p,
        user=request.user,
        metadata=request.metadata or {},
    )
