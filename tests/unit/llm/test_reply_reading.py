"""Reasoning, calls and guided JSON in one reply, put together as a request asks for them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from muster.llm.tool_calls.events import (
    CallAborted,
    CallArguments,
    CallEnded,
    CallStarted,
    Content,
    Reasoning,
    merged,
)
from muster.llm.tool_calls.reply_parser import ReplyFormat

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "go",
            "parameters": {"type": "object", "properties": {"to": {"type": "string"}}},
        },
    }
]
ARRAY = '[{"name": "go", "parameters": {"to": "x"}}]'
GO = [("go", {"to": "x"})]
HARMONY_CALL = (
    '<|channel|>commentary to=functions.go <|constrain|>json<|message|>{"to": "x"}<|call|>'
)
THOUGHT = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"


def read(text: str, *, prompt_end: str = "", **form: Any) -> tuple[str, str, list[tuple[str, Any]]]:
    """Reasoning, content and calls; the same whole and character by character."""
    found = []
    for pieces in ([text], text):
        parser = ReplyFormat(**form).new_parser(lambda: "call-123456789", prompt_end=prompt_end)
        events = [event for piece in pieces for event in parser.feed(piece)]
        found.append(merged([*events, *parser.finish()]))
    assert found[0] == found[1]
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    ended = []
    reasoning = content = ""
    for event in found[0]:
        match event:
            case Content(each):
                content += each
            case Reasoning(each):
                reasoning += each
            case CallStarted(index, _, name):
                assert index == len(names)
                names[index], arguments[index] = name, ""
            case CallArguments(index, each):
                arguments[index] += each
            case CallEnded(index):
                ended.append(index)
            case CallAborted(_, each):
                content += each
    return reasoning, content, [(names[each], json.loads(arguments[each])) for each in ended]


@pytest.mark.parametrize("reasoning", [None, "gpt_oss"])
@pytest.mark.parametrize("tools", [TOOLS, []])
def test_harmony_is_read_whole_whichever_of_the_parsers_the_card_names(
    reasoning: str | None, tools: list[dict[str, Any]]
) -> None:
    text = f"{THOUGHT}<|channel|>final<|message|>So.<|return|>"
    form: dict[str, Any] = {
        "tool_call_parser": "harmony", "reasoning_parser": reasoning, "tools": tools
    }  # fmt: skip
    assert not ReplyFormat(**form).plain
    assert ReplyFormat(**form).special_tokens
    assert read(text, **form) == ("Hm.", "So.", [])
    assert read(text, reasoning_parser="gpt_oss") == ("Hm.", "So.", [])


def test_a_preamble_in_harmony_is_text_and_the_call_after_it_a_call() -> None:
    preamble = "<|channel|>commentary<|message|>Let me look.<|end|><|start|>assistant"
    text = THOUGHT + preamble + HARMONY_CALL
    assert read(text, tool_call_parser="harmony", tools=TOOLS) == ("Hm.", "Let me look.", GO)


def test_a_call_in_the_channel_of_reasoning_is_a_call() -> None:
    text = HARMONY_CALL.replace("commentary", "analysis")
    assert read(text, tool_call_parser="harmony", tools=TOOLS) == ("", "", GO)


def test_without_functions_a_call_in_harmony_is_shown() -> None:
    _, content, calls = read(HARMONY_CALL, tool_call_parser="harmony")
    assert (content, calls) == (HARMONY_CALL, [])


@pytest.mark.parametrize(
    "text",
    [
        ARRAY,
        f"{THOUGHT}<|channel|>final<|message|>{ARRAY}<|return|>",
        THOUGHT + HARMONY_CALL,
    ],
)
def test_demanded_calls_in_harmony_are_json_in_the_last_channel_or_calls_of_its_own(
    text: str,
) -> None:
    _, content, calls = read(text, tool_call_parser="harmony", tools=TOOLS, required=True)
    assert (content, calls) == ("", GO)


def test_calls_of_both_ways_in_one_reply_are_counted_together() -> None:
    final = f"<|channel|>final<|message|>{ARRAY}<|end|><|start|>assistant"
    text = final + HARMONY_CALL
    _, content, calls = read(text, tool_call_parser="harmony", tools=TOOLS, required=True)
    assert (content, calls) == ("", GO * 2)


@pytest.mark.parametrize("name", ["deepseek_r1", "kimi_k25", "nemotron_v3", "step3"])
def test_reasoning_that_begins_at_once_comes_before_demanded_json(name: str) -> None:
    form: dict[str, Any] = {"reasoning_parser": name, "tools": TOOLS, "required": True}
    assert read(f"Hm. [{{x</think>{ARRAY}", **form) == ("Hm. [{x", "", GO)
    assert read(f"Hm.</think>\n\n{ARRAY}", tool_call_parser="hermes", **form) == ("Hm.", "", GO)
    named = form | {"required": False, "named": "go"}
    assert read('Hm.</think>{"to": "x"}', **named) == ("Hm.", "", GO)


@pytest.mark.parametrize("prompt_end", ["", "<think>\n"])
def test_an_engine_that_writes_demanded_json_at_once_has_not_thought(prompt_end: str) -> None:
    form: dict[str, Any] = {"reasoning_parser": "deepseek_r1", "prompt_end": prompt_end}
    assert read(ARRAY, tools=TOOLS, required=True, **form) == ("", "", GO)
    assert read('{"a": 1}', guided=True, **form) == ("", '{"a": 1}', [])
    # Of a reply that may be anything, nothing can be said.
    assert read('{"a": 1}', **form) == ('{"a": 1}', "", [])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mistral", '[TOOL_CALLS] [{"name": "go", "arguments": {"to": "x"}}]'),
        ("pythonic", "[go(to='x')]"),
        ("hermes", '<tool_call>{"name": "go", "arguments": {"to": "x"}}</tool_call>'),
        ("gemma4", '<|tool_call>call:go{to:<|"|>x<|"|>}<tool_call|>'),
    ],
)
def test_demanded_calls_may_be_in_the_models_own_format(name: str, text: str) -> None:
    form: dict[str, Any] = {"tool_call_parser": name, "tools": TOOLS, "required": True}
    assert read(text, **form) == ("", "", GO)
    assert read(f" \n{ARRAY}", **form) == ("", "", GO)


def test_thinking_switched_off_in_the_prompt_leaves_the_reply_text() -> None:
    form: dict[str, Any] = {"reasoning_parser": "deepseek_r1", "guided": True}
    assert read("So.", prompt_end="<think>\n\n</think>\n\n", **form) == ("", "So.", [])
    assert read("So.", reasoning_parser="nemotron_v3", prompt_end="<think></think>") == (
        "", "So.", []
    )  # fmt: skip


def test_only_the_first_call_is_kept_of_a_format_that_has_all() -> None:
    text = f"{HARMONY_CALL}<|start|>assistant{HARMONY_CALL}"
    form: dict[str, Any] = {"tool_call_parser": "harmony", "tools": TOOLS, "parallel": False}
    assert read(text, **form) == ("", "", GO)


def test_lists_and_objects_of_minimax_m3_are_tags_in_tags() -> None:
    properties = {"n": {"type": "array", "items": {"type": "integer"}}, "o": {"type": "object"}}
    tools = [{"function": {"name": "go", "parameters": {"properties": properties}}}]
    text = (
        '@<tool_call>@<invoke name="go">@<n>@<item>1@</item>@<item>2@</item>@</n>'
        "@<o>@<a>x@</a>@<b>@<c>y@</c>@</b>@</o>@</invoke>@</tool_call>"
    ).replace("@", "]<]minimax[>[")
    _, content, calls = read(text, tool_call_parser="minimax_m3", tools=tools)
    assert (content, calls) == ("", [("go", {"n": [1, 2], "o": {"a": "x", "b": {"c": "y"}}})])


def test_values_of_muse_stand_bare_or_in_quotes() -> None:
    for value in ("x", '"x"'):
        text = (
            ' to=go<|message|><atem:function_calls><atem:invoke name="go">'
            f'<atem:parameter name="to">{value}</atem:parameter></atem:invoke>'
            "</atem:function_calls><|eom|>"
        )
        assert read(text, tool_call_parser="muse", tools=TOOLS) == ("", "", GO)
