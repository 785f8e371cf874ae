"""Tools of a chat request."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest

from muster.frontend.openai.chat import ChatApi
from muster.frontend.openai.frames import ChatFrames, delta_fields
from muster.frontend.openai.requests import ChatRequest
from muster.frontend.openai.tools import forced_call_grammar, reply_format
from muster.llm.preprocessor import ModelFiles, Preprocessor
from muster.llm.tool_calls.events import (
    CallAborted,
    CallArguments,
    CallEnded,
    CallStarted,
    Content,
    Event,
    Reasoning,
)
from muster.testing.scripted import ScriptedModel
from muster.testing.tiny_model import write_tiny_model

POINT = {"type": "object", "properties": {"x": {"type": "integer"}}}
PATH = {
    "type": "object",
    "properties": {"to": {"$ref": "#/$defs/Point"}},
    "$defs": {"Point": POINT},
}
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "go", "parameters": PATH}},
    {"type": "function", "function": {"name": "stop"}},
]


def asking(**fields: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=[{"role": "user", "content": "x"}], **fields)


def test_a_required_calls_definitions_are_where_references_look_for_them() -> None:
    guided = forced_call_grammar(asking(tools=TOOLS, tool_choice="required"))
    assert guided is not None
    assert guided.json["$defs"] == {"Point": POINT}
    first = guided.json["items"]["anyOf"][0]
    assert first["properties"]["parameters"] == {k: PATH[k] for k in ("type", "properties")}
    assert "maxItems" not in guided.json
    one = forced_call_grammar(
        asking(tools=TOOLS, tool_choice="required", parallel_tool_calls=False)
    )
    assert one is not None
    assert one.json["maxItems"] == 1


def test_a_named_call_is_guided_by_the_functions_own_schema() -> None:
    choice = {"type": "function", "function": {"name": "go"}}
    guided = forced_call_grammar(asking(tools=TOOLS, tool_choice=choice))
    assert guided is not None
    assert guided.json == PATH


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_calls_nobody_demands_are_not_guided(choice: str | None) -> None:
    assert forced_call_grammar(asking(tools=TOOLS, tool_choice=choice)) is None


@pytest.mark.parametrize(
    ("parsers", "fields", "plain"),
    [
        ((None, None), {}, True),
        (("hermes", None), {}, True),
        (("hermes", None), {"tools": TOOLS}, False),
        (("hermes", None), {"tools": TOOLS, "tool_choice": "none"}, True),
        ((None, None), {"tools": TOOLS}, True),
        ((None, None), {"tools": TOOLS, "tool_choice": "required"}, False),
        (("hermes", "qwen3"), {}, False),
    ],
)
def test_replies_are_read_only_where_there_is_something_to_find(
    model: ScriptedModel,
    parsers: tuple[str | None, str | None],
    fields: dict[str, Any],
    plain: bool,
) -> None:
    served = dataclasses.replace(
        model.served, tool_call_parser=parsers[0], reasoning_parser=parsers[1]
    )
    assert reply_format(asking(**fields), served).plain is plain


@pytest.mark.parametrize("shown", [False, True])
def test_the_card_says_whether_tools_nobody_may_call_are_shown(
    model: ScriptedModel, tmp_path: Path, shown: bool
) -> None:
    template = tmp_path / "template.jinja"
    template.write_text("{{ tools | length if tools else 'none' }}")
    files = ModelFiles.of_directory(write_tiny_model(tmp_path), custom_template=template)
    served = dataclasses.replace(
        model.served,
        preprocessor=Preprocessor.load(files, context_length=2048),
        tools_when_none=shown,
    )
    request = asking(tools=TOOLS, tool_choice="none")
    assert ChatApi().prompt_text(request, served) == (str(len(TOOLS)) if shown else "none")


def test_deltas_have_the_shape_clients_expect() -> None:
    events: list[Event] = [
        Reasoning("hm"),
        Content("so"),
        CallStarted(0, "a", "go"),
        CallArguments(0, "{}"),
        CallEnded(0),
        CallStarted(1, "b", "stop"),
        CallAborted(1, "oops"),
    ]
    assert [msgspec.json.decode(b"{%b}" % fields) for fields in delta_fields(events)] == [
        {"reasoning_content": "hm"},
        {"content": "so"},
        {
            "tool_calls": [
                {
                    "index": 0,
                    "id": "a",
                    "type": "function",
                    "function": {"name": "go", "arguments": "{}"},
                }
            ]
        },
        {
            "tool_calls": [
                {
                    "index": 1,
                    "id": "b",
                    "type": "function",
                    "function": {"name": "stop", "arguments": ""},
                }
            ]
        },
        {"content": "oops"},
    ]
    more = delta_fields([CallArguments(1, '"')])
    assert [msgspec.json.decode(b"{%b}" % fields) for fields in more] == [
        {"tool_calls": [{"index": 1, "function": {"arguments": '"'}}]}
    ]


def test_the_role_comes_once_and_the_reason_alone() -> None:
    frames = ChatFrames("id", "m", 1)
    data = frames.events(
        0, [Reasoning("hm"), Content("so")], finish_reason="stop", logprobs=None, usage=None
    )
    chunks = [msgspec.json.decode(event[6:]) for event in data.split(b"\n\n") if event]
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "reasoning_content": "hm"},
        {"content": "so"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, "stop"]
    assert frames.events(0, [], finish_reason=None, logprobs=None, usage=None) == b""
