from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.frontend.api_error import ApiError
from muster.frontend.responses.requests import ResponsesRequest
from muster.frontend.responses.translate import Responses, to_chat
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
FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}


def chat(**fields: Any) -> dict[str, Any]:
    return to_chat(msgspec.convert({"model": "tiny", "input": "hi", **fields}, ResponsesRequest))


def translation(**fields: Any) -> Any:
    body = msgspec.json.encode({"model": "tiny", "input": "hi", **fields})
    return Responses(now=lambda: 9.5).read(body)[1]


def events_of(data: bytes) -> list[dict[str, Any]]:
    events = []
    for event in data.decode().split("\n\n")[:-1]:
        name, body = event.split("\n", 1)
        events.append(msgspec.json.decode(body.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


def delta(reason: str | None = None, **fields: Any) -> ChatChunk:
    return ChatChunk([ChunkChoice(Delta(**fields), reason)])


def call(index: int, arguments: str, **named: Any) -> ToolDelta:
    return ToolDelta(index, named.get("id"), FunctionDelta(named.get("name"), arguments))


def test_fields_get_the_chat_apis_names_and_unset_ones_stay_unset() -> None:
    assert chat() == {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
    assert chat(
        instructions="be brief",
        max_output_tokens=5,
        reasoning={"effort": "low"},
        stream=True,
        top_logprobs=2,
        seed=1,
    ) == {
        "model": "tiny",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "hi"},
        ],
        "max_completion_tokens": 5,
        "reasoning_effort": "low",
        "stream": True,
        "stream_options": {"include_usage": True},
        "logprobs": True,
        "top_logprobs": 2,
        "seed": 1,
    }


def test_the_items_of_a_turn_become_one_message() -> None:
    items = [
        {"role": "user", "content": "q"},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "r"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "a"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {
            "type": "function_call_output",
            "call_id": "c2",
            "output": [{"type": "input_text", "text": "2"}],
        },
        {"type": "function_call", "call_id": "c3", "name": "f", "arguments": "{}"},
    ]

    def calls(*named: tuple[str, str]) -> list[dict[str, Any]]:
        return [
            {"id": id_, "type": "function", "function": {"name": name, "arguments": "{}"}}
            for id_, name in named
        ]

    assert chat(input=items)["messages"] == [
        {"role": "user", "content": "q"},
        {
            "role": "assistant",
            "reasoning_content": "r",
            "content": "a",
            "tool_calls": calls(("c1", "f"), ("c2", "g")),
        },
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "tool", "tool_call_id": "c2", "content": "2"},
        {"role": "assistant", "content": None, "tool_calls": calls(("c3", "f"))},
    ]


def test_tools_and_choices_are_nested() -> None:
    nested = {"type": "function", "function": FUNCTION}
    tools = [{"type": "function", **FUNCTION}]
    made = chat(tools=tools, tool_choice={"type": "function", "name": "f"})
    assert made["tools"] == [nested]
    assert made["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    other = {"type": "function", "name": "g"}
    unnamed = {"type": "function", "name": ["f"]}
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [other, unnamed]}
    made = chat(tools=[*tools, other], tool_choice=allowed)
    assert made["tools"] == [{"type": "function", "function": {"name": "g"}}]
    assert made["tool_choice"] == "required"


def test_a_schema_becomes_a_response_format() -> None:
    form = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    assert chat(text={"format": form})["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
    }
    assert chat(text={"format": {"type": "json_object"}})["response_format"] == {
        "type": "json_object"
    }
    assert "response_format" not in chat(text={"format": {"type": "text"}})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tool_choice": {"type": "mcp"}}, "tool_choice"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"input": [{"role": ["user"], "content": "x"}]}, "input[0].role"),
        ({"input": [{"type": {}, "content": "x"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": []}]}]}, "input[0].content[0].type"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
        ({"input": [{"role": "user", "content": 5}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [5]}]}, "input[0].content[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0].type",
        ),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input[0].arguments"),
    ],
)
def test_what_cannot_be_said_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        chat(**fields)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_errors_of_the_chat_path_get_this_apis_names() -> None:
    rename = Responses().rename
    for param, renamed in [
        ("messages", "input"),
        ("messages[3].content", "input"),
        ("max_completion_tokens", "max_output_tokens"),
        ("response_format.json_schema", "text.format.json_schema"),
        ("temperature", "temperature"),
        (None, None),
    ]:
        error = ApiError(503, "m", param=param, slug="s")
        assert rename(error).param == renamed
        assert (rename(error).status, rename(error).headers) == (503, {"retry-after": "1"})


def test_reasoning_text_and_calls_are_items_of_their_own() -> None:
    stream = translation(stream=True)
    data = stream.open(OPENING)
    data += stream.chunk(delta(reasoning_content="hm"))
    data += stream.chunk(delta(content="so"))
    data += stream.chunk(delta(tool_calls=[call(0, "", id="c", name="f")]))
    data += stream.chunk(delta("tool_calls", tool_calls=[call(0, '{"a":1}')]))
    data += stream.chunk(ChatChunk(usage=ChatUsage(7, 4)))
    events = events_of(data + stream.finish(None))
    assert [event["sequence_number"] for event in events] == [*range(len(events))]
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    final = events[-1]["response"]
    assert final["output"] == done
    assert [item["type"] for item in done] == ["reasoning", "message", "function_call"]
    assert (done[2]["call_id"], done[2]["name"], done[2]["arguments"]) == ("c", "f", '{"a":1}')
    assert (final["completed_at"], final["created_at"]) == (9, 5)
    assert (final["usage"]["input_tokens"], final["usage"]["output_tokens"]) == (7, 4)


def test_nothing_follows_a_failure() -> None:
    stream = translation(stream=True)
    stream.open(OPENING)
    events = events_of(stream.chunk(ChatChunk(error=StreamError("m", "rate_limit_error", None, 5))))
    assert [event["type"] for event in events] == ["error", "response.failed"]
    assert events[0]["code"] == "5"
    assert events[1]["response"]["error"] == {"code": "rate_limit_exceeded", "message": "m"}
    assert stream.finish(None) == b""


PIECES = st.lists(
    st.one_of(
        st.builds(lambda text: {"content": text}, st.text(min_size=1)),
        st.builds(lambda text: {"reasoning_content": text}, st.text(min_size=1)),
    ),
    max_size=8,
)


@given(PIECES, st.sampled_from(["stop", "length"]))
def test_a_stream_adds_up_to_what_is_answered_whole(
    pieces: list[dict[str, str]], reason: str
) -> None:
    stream = translation(stream=True)
    stream.open(OPENING)
    for piece in pieces:
        stream.chunk(delta(**piece))
    stream.chunk(delta(reason))
    streamed = events_of(stream.finish(None))[-1]["response"]
    texts = {"reasoning": "", "message": ""}
    for item in streamed["output"]:
        texts[item["type"]] += "".join(part["text"] for part in item["content"])
    assert texts["message"] == "".join(piece.get("content", "") for piece in pieces)
    assert texts["reasoning"] == "".join(piece.get("reasoning_content", "") for piece in pieces)

    whole = translation()
    whole.open(OPENING)
    message = {"content": texts["message"], "reasoning_content": texts["reasoning"]}
    reply: ChatReplyView = read_reply(
        msgspec.json.encode({"choices": [{"message": message, "finish_reason": reason}]})
    )
    answered = msgspec.json.decode(whole.whole(reply, None))
    assert answered["status"] == streamed["status"]
    assert set(answered) == set(streamed)
    found = {
        item["type"]: "".join(part["text"] for part in item["content"])
        for item in answered["output"]
    }
    assert {"reasoning": "", "message": "", **found} == texts
