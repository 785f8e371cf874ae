"""Replies as models write them, format by format, and what goes wrong with them."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from muster.llm.tool_calls.events import (
    CallAborted,
    CallArguments,
    CallEnded,
    CallStarted,
    Content,
    Event,
    Reasoning,
    merged,
)
from muster.llm.tool_calls.registry import TOOL_CALL_PARSERS
from muster.llm.tool_calls.reply_parser import ReplyFormat

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "ratio": {"type": "number"},
        "exact": {"type": "boolean"},
        "tags": {"type": "array"},
        "where": {"anyOf": [{"type": "object"}, {"type": "null"}]},
        "unit": {"enum": ["C", "F"]},
    },
}
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}},
    {"type": "function", "function": {"name": "now"}},
]


def bar(words: str) -> str:
    """A marker of DeepSeek's."""
    return f"<\uff5c{words.replace(' ', chr(0x2581))}\uff5c>"


DSML = "\uff5cDSML\uff5c"


def read(name: str, text: str, **options: Any) -> list[Event]:
    numbers = itertools.count()
    form = ReplyFormat(tool_call_parser=name, tools=TOOLS, **options)
    parser = form.new_parser(lambda: f"call-{next(numbers):09}")
    return merged([*parser.feed(text), *parser.finish()])


def calls(events: list[Event]) -> list[tuple[str, Any]]:
    """Names and arguments of the calls, which must all be whole."""
    names = [event.name for event in events if isinstance(event, CallStarted)]
    ended = [event.index for event in events if isinstance(event, CallEnded)]
    assert ended == [*range(len(names))]
    texts: dict[int, str] = dict.fromkeys(ended, "")
    for event in events:
        if isinstance(event, CallArguments):
            texts[event.index] += event.text
    return [(names[index], json.loads(text)) for index, text in texts.items()]


def content(events: list[Event]) -> str:
    return "".join([event.text for event in events if isinstance(event, Content | CallAborted)])


KOELN = {"city": "Köln", "days": 2}
KOELN_JSON = '{"city": "Köln", "days": 2}'
BOTH = [("weather", KOELN), ("now", {})]

WHOLE = [
    (
        "hermes",
        (
            f'<tool_call>\n{{"name": "weather", "arguments": {KOELN_JSON}}}\n</tool_call>\n'
            '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
        ),
    ),
    (
        "hermes",  # the last marker is a stop token
        (
            f'<tool_call>{{"name": "weather", "arguments": {KOELN_JSON}}}</tool_call>'
            '<tool_call>{"name": "now"}'
        ),
    ),
    (
        "hermes",  # the other order, arguments as text, none as null
        (
            '<tool_call>{"arguments": "{\\"city\\": \\"Köln\\", \\"days\\": 2}", "name": "weather"}'
            '</tool_call><tool_call>{"name": "now", "arguments": null}</tool_call>'
        ),
    ),
    (
        "llama3_json",
        (
            f'<|python_tag|>{{"name": "weather", "parameters": {KOELN_JSON}}}; '
            '{"name": "now", "parameters": {}}'
        ),
    ),
    (
        "llama3_json",
        (
            f'{{"type": "function", "name": "weather", "parameters": {KOELN_JSON}}}\n'
            '{"name": "now", "parameters": {}}'
        ),
    ),
    (
        "mistral",
        (
            f'[TOOL_CALLS] [{{"name": "weather", "arguments": {KOELN_JSON}}}, '
            '{"name": "now", "arguments": {}}]'
        ),
    ),
    ("mistral", f"[TOOL_CALLS]weather[ARGS]{KOELN_JSON}[TOOL_CALLS]now[ARGS]{{}}"),
    ("mistral", f"[TOOL_CALLS]weather{KOELN_JSON}[TOOL_CALLS]now{{}}"),
    ("pythonic", "[weather(city='Köln', days=2), now()]"),
    ("pythonic", '<|python_start|>[weather(city="Köln", days=2), now()]<|python_end|>'),
    (
        "deepseek_v3",
        bar("tool calls begin")
        + f"{bar('tool call begin')}function{bar('tool sep')}weather\n```json\n{KOELN_JSON}\n```"
        + f"{bar('tool call end')}\n"
        + f"{bar('tool call begin')}function{bar('tool sep')}now\n```json\n{{}}\n```"
        + bar("tool call end")
        + bar("tool calls end"),
    ),
    (
        "deepseek_v3_1",
        bar("tool calls begin")
        + f"{bar('tool call begin')}weather{bar('tool sep')}{KOELN_JSON}{bar('tool call end')}"
        + f"{bar('tool call begin')}now{bar('tool sep')}{{}}{bar('tool call end')}"
        + bar("tool calls end"),
    ),
    (
        "qwen3_coder",
        (
            "<tool_call>\n<function=weather>\n<parameter=city>\nKöln\n</parameter>\n"
            "<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>\n"
            "<tool_call>\n<function=now>\n</function>\n</tool_call>"
        ),
    ),
    (
        "qwen3_coder",  # without the outer markers
        (
            "<function=weather>\n<parameter=city>\nKöln\n</parameter>\n"
            "<parameter=days>\n2\n</parameter>\n</function>\n<function=now>\n</function>"
        ),
    ),
    (
        "glm45",
        (
            "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Köln</arg_value>\n"
            "<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>\n"
            "<tool_call>now\n</tool_call>"
        ),
    ),
    (
        "glm47",
        (
            "<tool_call>weather<arg_key>city</arg_key><arg_value>Köln</arg_value>"
            "<arg_key>days</arg_key><arg_value>2</arg_value></tool_call><tool_call>now</tool_call>"
        ),
    ),
    (
        "kimi_k2",
        (
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0"
            f"<|tool_call_argument_begin|>{KOELN_JSON}<|tool_call_end|>"
            "<|tool_call_begin|>functions.now:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
            "<|tool_calls_section_end|>"
        ),
    ),
    (
        "phi4",
        (
            f'functools[{{"name": "weather", "arguments": {KOELN_JSON}}}, '
            '{"name": "now", "arguments": {}}]'
        ),
    ),
    (
        "phi4",
        (
            f'<|tool_call|>[{{"name": "weather", "arguments": {KOELN_JSON}}}, '
            '{"name": "now", "arguments": {}}]<|/tool_call|>'
        ),
    ),
    (
        "harmony",
        (
            "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>"
            f"{KOELN_JSON}<|call|><|start|>assistant to=functions.now<|channel|>commentary"
            "<|message|>{}<|call|>"
        ),
    ),
    (
        "qwen3",
        f'<tool_call>\n{{"name": "weather", "arguments": {KOELN_JSON}}}\n</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>',
    ),
    (
        "nemotron_nano",
        (
            "<tool_call>\n<function=weather>\n<parameter=city>\nKöln\n</parameter>\n"
            "<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>\n"
            "<tool_call>\n<function=now>\n</function>\n</tool_call>"
        ),
    ),
    (
        "kimi_k2",
        (
            "<|tool_call_section_begin|><|tool_call_begin|>functions.weather:0"
            f"<|tool_call_argument_begin|>{KOELN_JSON}<|tool_call_end|>"
            "<|tool_call_begin|>functions.now:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
            "<|tool_call_section_end|>"
        ),
    ),
    (
        "default",
        (
            f'<TOOLCALL>[{{"name": "weather", "arguments": {KOELN_JSON}}}, '
            '{"name": "now", "arguments": {}}]</TOOLCALL>'
        ),
    ),
    (
        "default",
        (
            f'<|python_tag|>{{"name": "weather", "arguments": {KOELN_JSON}}}; '
            '{"name": "now", "arguments": {}}'
        ),
    ),
    (
        "deepseek_v3_2",
        (
            f'<{DSML}function_calls>\n<{DSML}invoke name="weather">\n'
            f'<{DSML}parameter name="city" string="true">Köln</{DSML}parameter>\n'
            f'<{DSML}parameter name="days" string="false">2</{DSML}parameter>\n'
            f'</{DSML}invoke>\n<{DSML}invoke name="now">\n</{DSML}invoke>\n'
            f"</{DSML}function_calls>"
        ),
    ),
    (
        "deepseek_v4",
        (
            f'<{DSML}tool_calls><{DSML}invoke name="weather">'
            f'<{DSML}parameter name="city" string="true">Köln</{DSML}parameter>'
            f'<{DSML}parameter name="days" string="false">2</{DSML}parameter>'
            f'</{DSML}invoke><{DSML}invoke name="now"></{DSML}invoke></{DSML}tool_calls>'
        ),
    ),
    (
        "deepseek_v41",
        (
            f'<{DSML} calls>\n<{DSML} invoke name="weather">{KOELN_JSON}</{DSML} invoke>\n'
            f'<{DSML} invoke name="now"></{DSML} invoke>\n</{DSML} calls>'
        ),
    ),
    (
        "minimax_m2",
        (
            '<minimax:tool_call>\n<invoke name="weather">\n<parameter name="city">Köln</parameter>'
            '\n<parameter name="days">2</parameter>\n</invoke>\n<invoke name="now">\n</invoke>\n'
            "</minimax:tool_call>"
        ),
    ),
    (
        "minimax_m3",
        (
            '@<tool_call>\n@<invoke name="weather">@<city>Köln@</city>@<days>2@</days>@</invoke>\n'
            '@<invoke name="now">@</invoke>\n@</tool_call>'
        ).replace("@", "]<]minimax[>["),
    ),
    (
        "gemma4",
        (
            '<|tool_call>call:weather{city:<|"|>Köln<|"|>,days:2}<tool_call|>'
            "<|tool_call>call:now{}<tool_call|>"
        ),
    ),
    (
        "kimi_k3",
        (
            '<|open|>tools<|sep|><|open|>call tool="weather" index="1"<|sep|>'
            '<|open|>argument key="city" type="string"<|sep|>Köln<|close|>argument<|sep|>'
            '<|open|>argument key="days" type="number"<|sep|>2<|close|>argument<|sep|>'
            '<|close|>call<|sep|><|open|>call tool="now" index="2"<|sep|><|close|>call<|sep|>'
            "<|close|>tools<|sep|>"
        ),
    ),
    (
        "kimi_k3",
        (
            '<|open|>tools<|sep|><|open|>call tool="weather" index="1"<|sep|>'
            f'<|open|>json type="object"<|sep|>{KOELN_JSON}<|close|>json<|sep|>'
            '<|close|>call<|sep|><|open|>call tool="now" index="2"<|sep|><|close|>call<|sep|>'
            "<|close|>tools<|sep|>"
        ),
    ),
    (
        "inkling",
        (
            f'weather<|content_invoke_tool_json|>{{"name": "weather", "args": {KOELN_JSON}}}'
            "<|end_message|><|message_model|>now<|content_invoke_tool_json|>"
            '{"name": "now", "args": {}}<|end_message|><|content_model_end_sampling|>'
        ),
    ),
    (
        "muse",
        (
            ' to=weather<|message|><atem:function_calls>\n<atem:invoke name="weather">\n'
            '<atem:parameter name="city">Köln</atem:parameter>\n'
            '<atem:parameter name="days">2</atem:parameter>\n</atem:invoke>\n'
            "</atem:function_calls><|eom|><|start|>assistant to=now<|message|>"
            '<atem:function_calls><atem:invoke name="now"></atem:invoke></atem:function_calls><|eot|>'
        ),
    ),
]


@pytest.mark.parametrize(("name", "text"), WHOLE)
def test_calls_in_each_format_are_found(name: str, text: str) -> None:
    events = read(name, text)
    assert calls(events) == BOTH
    assert content(events) == ""


@pytest.mark.parametrize(("name", "text"), WHOLE)
def test_calls_that_were_cut_off_are_text_and_those_before_stand(name: str, text: str) -> None:
    cut = text.index("now")
    events = read(name, text[: cut + 1])
    ended = [event.index for event in events if isinstance(event, CallEnded)]
    assert ended == [0]
    assert content(events).endswith("n")


@pytest.mark.parametrize("name", sorted(TOOL_CALL_PARSERS))
@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        "Hello, [world] {x} <b>bold</b> functions.x()",
        '{"answer": {"name": "weather"}}',
        '{"name": "Ada", "age": 36}',
        "[link](https://example.org) and [1, 2]",
        "a < b and <tool",
    ],
)
def test_a_reply_without_calls_is_text(name: str, text: str) -> None:
    assert read(name, text) == ([Content(text)] if text else [])


def test_text_around_calls_is_kept_and_layout_is_not() -> None:
    call = '<tool_call>{"name": "now", "arguments": {}}</tool_call>'
    events = read("hermes", f"\n\nFirst. {call}\n\n{call}\nThen.\n")
    assert [event.text for event in events if isinstance(event, Content)] == [
        "\n\nFirst. ",
        "\nThen.\n",
    ]
    assert calls(events) == [("now", {}), ("now", {})]


def test_arguments_come_before_they_are_complete() -> None:
    parser = ReplyFormat(tool_call_parser="hermes", tools=TOOLS).new_parser(lambda: "x")
    found = parser.feed('<tool_call>{"name": "weather", "arguments": {"city": "Kö')
    assert merged(found) == [CallStarted(0, "x", "weather"), CallArguments(0, '{"city": "Kö')]


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>none of this is JSON</tool_call>",
        '<tool_call>{"name": "weather", "arguments": {"city": }}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": {"city": "\\x"}}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": "no object"}</tool_call>',
        '<tool_call>{"name": "", "arguments": {}}</tool_call>',
        '<tool_call>{"name": 5, "arguments": {}}</tool_call>',
        '<tool_call>{"arguments": {}}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": {"city": 01}}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": {"city": "x"}, "arguments": {}}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": {"a": [1}}}</tool_call>',
        '<tool_call>{"name": "\\ud800", "arguments": {}}</tool_call>',
        f'<tool_call>{{"name": "weather", "arguments": {{"n": {"9" * 500}}}}}</tool_call>',
    ],
)
def test_a_malformed_call_is_text(text: str) -> None:
    events = read("hermes", text)
    assert content(events) == text
    assert not [event for event in events if isinstance(event, CallEnded)]


def test_line_breaks_inside_strings_are_escaped() -> None:
    events = read("hermes", '<tool_call>{"name": "f", "arguments": {"a": "x\n\ty"}}</tool_call>')
    assert calls(events) == [("f", {"a": "x\n\ty"})]


def test_deeply_nested_arguments_are_read() -> None:
    deep = "[" * 5000 + "]" * 5000
    events = read("hermes", f'<tool_call>{{"name": "f", "arguments": {{"a": {deep}}}}}</tool_call>')
    assert [event.text for event in events if isinstance(event, CallArguments)] == [
        f'{{"a": {deep}}}'
    ]


def test_mistral_ids_are_the_models_or_have_nine_characters() -> None:
    events = read("mistral", "[TOOL_CALLS]now[CALL_ID]abcdef123[ARGS]{}[TOOL_CALLS]now{}")
    ids = [event.id for event in events if isinstance(event, CallStarted)]
    assert ids == ["abcdef123", "000000000"]


def test_kimi_ids_are_the_models() -> None:
    events = read("kimi_k2", WHOLE[[name for name, _ in WHOLE].index("kimi_k2")][1])
    ids = [event.id for event in events if isinstance(event, CallStarted)]
    assert ids == ["functions.weather:0", "functions.now:1"]


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        ("True", True),
        ("None", None),
        ("null", None),
        ("-1.5", -1.5),
        ("'it\\'s, (so) [it] is'", "it's, (so) [it] is"),
        ("[1, {'a': (2, 3)}]", [1, {"a": [2, 3]}]),
        ("'two\nlines'", "two\nlines"),
    ],
)
def test_python_values_become_json(literal: str, value: object) -> None:
    assert calls(read("pythonic", f"[f(a={literal}, b=1)]")) == [("f", {"a": value, "b": 1})]


@pytest.mark.parametrize(
    "text",
    [
        "[f(a=g())]",
        "[f(1)]",
        "[f(a=1, a=2)]",
        "[f(a=__import__('os'))]",
        "[f(a='x)]",
        f"[f(a={'[' * 200}{']' * 200})]",
        "[f(a=1] and more",
    ],
)
def test_what_is_no_pythonic_call_is_text(text: str) -> None:
    assert content(read("pythonic", text)) == text


@pytest.mark.parametrize("name", ["qwen3_coder", "glm45"])
@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("city", "5", "5"),
        ("city", 'say "<b>"\n\tnow', 'say "<b>"\n\tnow'),
        ("days", "5", 5),
        ("days", "five", "five"),
        ("days", "null", None),
        ("ratio", "1e3", 1000.0),
        ("exact", "True", True),
        ("tags", '["a", 1]', ["a", 1]),
        ("tags", "['a', 1]", ["a", 1]),
        ("tags", "a", "a"),
        ("where", '{"x": 1}', {"x": 1}),
        ("where", "None", None),
        ("unit", "C", "C"),
        ("unknown", "5", "5"),
    ],
)
def test_values_between_tags_have_the_type_of_their_schema(
    name: str, key: str, text: str, value: object
) -> None:
    if name == "glm45":
        reply = (
            f"<tool_call>weather\n<arg_key>{key}</arg_key>\n<arg_value>{text}</arg_value>\n"
            "</tool_call>"
        )
    else:
        reply = f"<function=weather>\n<parameter={key}>\n{text}\n</parameter>\n</function>"
    assert calls(read(name, reply)) == [("weather", {key: value})]


def test_harmony_has_reasoning_text_and_calls() -> None:
    events = read(
        "harmony",
        "<|channel|>analysis<|message|>The user asks.<|end|>"
        "<|start|>assistant<|channel|>commentary<|message|>Let me look.<|end|>"
        f"<|start|>assistant<|channel|>commentary to=functions.weather <|constrain|>json<|message|>"
        f"{KOELN_JSON}<|call|>",
        reasoning_parser="gpt_oss",
    )
    assert [event for event in events if isinstance(event, Content | Reasoning)] == [
        Reasoning("The user asks."),
        Content("Let me look."),
    ]
    assert calls(events) == [("weather", KOELN)]


def test_harmony_without_arguments_is_a_call_and_bad_arguments_are_text() -> None:
    head = "<|channel|>commentary to=functions.now<|message|>"
    assert calls(read("harmony", f"{head}<|call|>")) == [("now", {})]
    assert content(read("harmony", f"{head}oops<|call|>")) == f"{head}oops<|call|>"


@pytest.mark.parametrize("name", ["hermes", "unheard_of"])
def test_required_calls_are_json_or_the_models_own_format(name: str) -> None:
    array = f' [{{"name": "weather", "parameters": {KOELN_JSON}}}, {{"name": "now"}}]'
    assert calls(read(name, array, required=True)) == BOTH
    if name == "hermes":
        assert calls(read(name, WHOLE[0][1], required=True)) == BOTH


def test_what_follows_required_calls_is_text() -> None:
    events = read("hermes", '[{"name": "now", "parameters": {}}] Done.', required=True)
    assert calls(events) == [("now", {})]
    assert content(events).strip() == "Done."


def test_a_named_call_is_all_arguments() -> None:
    assert calls(read("hermes", KOELN_JSON, named="weather")) == [("weather", KOELN)]
    assert content(read("hermes", "I cannot.", named="weather")) == "I cannot."
    assert content(read("hermes", '{"city": ', named="weather")) == '{"city": '


def test_only_the_first_whole_call_is_kept_where_one_is_allowed() -> None:
    bad = '<tool_call>{"name": "weather", "arguments": {x}}</tool_call>'
    events = read("hermes", bad + WHOLE[0][1], parallel=False)
    started = [event.name for event in events if isinstance(event, CallStarted)]
    ended = [event for event in events if isinstance(event, CallEnded)]
    assert started == ["weather", "weather"]
    assert [event.index for event in ended] == [1]
    assert content(events) == bad


def test_a_format_nobody_knows_leaves_text_as_it_is() -> None:
    assert read("unheard_of", WHOLE[0][1]) == [Content(WHOLE[0][1])]
