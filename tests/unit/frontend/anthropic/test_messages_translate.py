from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.frontend.anthropic.chat import count_to_chat, to_chat
from muster.frontend.anthropic.errors import answers_in_this_shape, error_body
from muster.frontend.anthropic.requests import CountRequest, MessagesRequest
from muster.frontend.anthropic.translate import MessageTranslation
from muster.frontend.api_error import ApiError
from muster.frontend.surface.chunks import (
    ChatChunk,
    ChatReplyView,
    ChatUsage,
    ChunkChoice,
    Delta,
    FunctionDelta,
    StreamError,
    ToolDelta,
    read_reply,
)
from muster.frontend.surface.exchange import Opening

OPENING = Opening(request_id="a-b", model="tiny", created=5, prompt_tokens=7)
HI = [{"role": "user", "content": "hi"}]
TOOL = {"name": "f", "description": "d", "input_schema": {"type": "object"}}


def chat(**fields: Any) -> dict[str, Any]:
    request = {"model": "tiny", "max_tokens": 5, "messages": HI, **fields}
    return to_chat(msgspec.convert(request, MessagesRequest))


def opened() -> MessageTranslation:
    translation = MessageTranslation()
    translation.open(OPENING)
    return translation


def events_of(data: bytes) -> list[dict[str, Any]]:
    events = []
    for event in data.decode().split("\n\n")[:-1]:
        name, body = event.split("\n", 1)
        events.append(msgspec.json.decode(body.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


def delta(reason: str | None = None, **fields: Any) -> ChatChunk:
    return ChatChunk([ChunkChoice(Delta(**fields), reason)])


def test_fields_get_the_chat_apis_names_and_unset_ones_stay_unset() -> None:
    assert chat() == {"model": "tiny", "messages": HI, "max_completion_tokens": 5}
    assert chat(
        stream=True,
        stop_sequences=["a"],
        metadata={"user_id": "me"},
        thinking={"type": "enabled", "budget_tokens": 1024},
        output_config={
            "effort": "low",
            "format": {"type": "json_schema", "schema": {"type": "object"}},
        },
    ) == {
        "model": "tiny",
        "messages": HI,
        "max_completion_tokens": 5,
        "stream": True,
        "stream_options": {"include_usage": True},
        "stop": ["a"],
        "user": "me",
        "chat_template_kwargs": {"enable_thinking": True},
        "nvext": {"max_thinking_tokens": 1024},
        "reasoning_effort": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "output", "schema": {"type": "object"}, "strict": True},
        },
    }
    assert chat(thinking={"type": "disabled"})["chat_template_kwargs"] == {"enable_thinking": False}


def test_turns_become_messages_and_results_messages_of_their_own() -> None:
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "q"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "a"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": "1"},
                {
                    "type": "tool_result",
                    "tool_use_id": "u",
                    "is_error": True,
                    "content": [{"type": "text", "text": "2"}],
                },
                {"type": "tool_result", "tool_use_id": "v"},
                {
                    "type": "document",
                    "source": {"type": "text", "media_type": "text/plain", "data": "doc"},
                },
            ],
        },
    ]
    function = {"name": "f", "arguments": '{"x":1}'}
    assert chat(messages=turns)["messages"] == [
        {"role": "user", "content": "q"},
        {
            "role": "assistant",
            "content": "a",
            "reasoning_content": "hm",
            "tool_calls": [{"id": "t", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "t", "content": "1"},
        {"role": "tool", "tool_call_id": "u", "content": "2"},
        {"role": "tool", "tool_call_id": "v", "content": ""},
        {"role": "user", "content": "doc"},
    ]


def test_the_system_prompt_is_a_message_without_what_is_not_meant_for_the_model() -> None:
    billing = {"type": "text", "text": "x-anthropic-billing-header: cch=1"}
    parts = [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]
    assert chat(system="S")["messages"][0] == {"role": "system", "content": "S"}
    assert chat(system=[billing, *parts])["messages"][0] == {"role": "system", "content": parts}
    assert chat(system=[billing])["messages"] == HI
    assert chat(system="")["messages"] == HI


def test_an_answer_that_is_begun_is_continued() -> None:
    begun = [*HI, {"role": "assistant", "content": "Hel"}]
    assert chat(messages=begun)["continue_final_message"] is True
    called = [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]
    ended = [*HI, {"role": "assistant", "content": called}]
    assert "continue_final_message" not in chat(messages=ended)


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
    ],
)
def test_tools_and_choices_become_the_chat_apis(choice: dict[str, Any], wanted: object) -> None:
    made = chat(tools=[TOOL], tool_choice={**choice, "disable_parallel_tool_use": True})
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    assert made["tools"] == [{"type": "function", "function": function}]
    assert made["tool_choice"] == wanted
    assert made["parallel_tool_calls"] is False


def test_counting_makes_the_same_prompt() -> None:
    fields = {"system": "S", "tools": [TOOL], "thinking": {"type": "disabled"}}
    counted = count_to_chat(
        msgspec.convert({"model": "tiny", "messages": HI, **fields}, CountRequest)
    )
    assert counted.items() <= chat(**fields).items()


def test_thinking_text_and_calls_are_blocks() -> None:
    stream = opened()
    data = stream.chunk(delta(reasoning_content="hm"))
    data += stream.chunk(delta(content="so"))
    call = ToolDelta(0, "t", FunctionDelta("f", ""))
    data += stream.chunk(delta(tool_calls=[call]))
    rest = ToolDelta(0, None, FunctionDelta(None, '{"a":1}'))
    data += stream.chunk(delta("tool_calls", tool_calls=[rest]))
    data += stream.chunk(ChatChunk(usage=ChatUsage(7, 4)))
    events = events_of(data + stream.finish(None))
    steps = [
        event.get("delta", event.get("content_block", {})).get("type") or event["type"]
        for event in events
    ]
    assert steps == [
        "thinking",
        "thinking_delta",
        "signature_delta",
        "content_block_stop",
        "text",
        "text_delta",
        "content_block_stop",
        "tool_use",
        "input_json_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert [event["index"] for event in events[:-2]] == [0] * 4 + [1] * 3 + [2] * 3
    assert events[7]["content_block"] == {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    assert events[-2]["delta"]["stop_reason"] == "tool_use"
    assert events[-2]["usage"]["output_tokens"] == 4


@pytest.mark.parametrize(
    ("arguments", "parsed"),
    [
        ('{"a":1}', {"a": 1}),
        ("", {}),
        ("{oops", {"arguments": "{oops"}),
        ("[1]", {"arguments": "[1]"}),
    ],
)
def test_a_whole_calls_input_is_parsed_and_never_lost(
    arguments: str, parsed: dict[str, Any]
) -> None:
    calls = [{"id": "t", "function": {"name": "f", "arguments": arguments}}]
    body = {"choices": [{"message": {"tool_calls": calls}, "finish_reason": "tool_calls"}]}
    message = msgspec.json.decode(opened().whole(read_reply(msgspec.json.encode(body)), None))
    assert message["content"] == [{"type": "tool_use", "id": "t", "name": "f", "input": parsed}]
    assert message["stop_reason"] == "tool_use"


def test_nothing_follows_a_failure() -> None:
    stream = opened()
    stream.chunk(delta(content="a"))
    events = events_of(stream.chunk(ChatChunk(error=StreamError("m", "rate_limit_error"))))
    assert [event["type"] for event in events] == ["content_block_stop", "error"]
    assert events[1]["error"] == {"type": "rate_limit_error", "message": "m"}
    assert stream.finish(None) == b""


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (529, "overloaded_error"),
    ],
)
def test_statuses_have_anthropics_words(status: int, kind: str) -> None:
    body = msgspec.json.decode(error_body(ApiError(status, "m"), "r"))
    assert body == {
        "type": "error",
        "error": {"type": kind, "message": "m"},
        "request_id": "r",
    }


def test_only_anthropics_paths_have_its_shape() -> None:
    assert answers_in_this_shape("/v1/messages")
    assert answers_in_this_shape("/v1/messages/count_tokens")
    assert not answers_in_this_shape("/v1/messages2")
    assert not answers_in_this_shape("/v1/models")


@given(st.lists(st.text(min_size=1), max_size=8), st.sampled_from(["stop", "length"]))
def test_a_stream_adds_up_to_what_is_answered_whole(pieces: list[str], reason: str) -> None:
    stream = opened()
    data = b"".join([stream.chunk(delta(content=piece)) for piece in pieces])
    data += stream.chunk(delta(reason)) + stream.finish(None)
    events = events_of(data)
    text = "".join(e["delta"]["text"] for e in events if e["type"] == "content_block_delta")
    assert text == "".join(pieces)
    body = {"choices": [{"message": {"content": text}, "finish_reason": reason}]}
    reply: ChatReplyView = read_reply(msgspec.json.encode(body))
    message = msgspec.json.decode(opened().whole(reply, None))
    assert "".join(block["text"] for block in message["content"]) == text
    assert message["stop_reason"] == events[-2]["delta"]["stop_reason"]
