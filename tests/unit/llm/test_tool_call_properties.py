"""What holds for every format, whatever the text and however it comes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.llm.tool_calls.events import (
    CallAborted,
    CallArguments,
    CallEnded,
    CallStarted,
    Content,
    Event,
    Parser,
    Reasoning,
    merged,
)
from muster.llm.tool_calls.forced import NamedCallParser, RequiredCallsParser
from muster.llm.tool_calls.registry import TOOL_CALL_PARSERS, new_tool_call_parser
from muster.llm.tool_calls.reply_parser import ReplyFormat

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "f",
            "parameters": {
                "type": "object",
                "properties": {
                    "a": {"type": "string"},
                    "b": {"type": "integer"},
                    "c": {"anyOf": [{"type": "object"}, {"type": "null"}]},
                    "d": {"type": "boolean"},
                    "e": {"type": ["array", "number"]},
                },
            },
        },
    }
]

# Several names may have one format: it is tried under one of them.
OTHER_NAMES = {
    *("deepseek-v4", "deepseekv4", "gemma-4", "glm47", "gpt_oss", "kimi-k3", "kimi_k25"),
    *("minimax-m3", "minimax-m3-nom", "minimax_m3_nom", "muse_glimmer", "nemotron_nano", "qwen25"),
}
NAMES = [*sorted(TOOL_CALL_PARSERS.keys() - OTHER_NAMES), "required", "named"]
WHOLE = {"harmony", "inkling", "kimi_k3", "muse"}


def new_parser(name: str) -> Parser:
    numbers = itertools.count()

    def new_id() -> str:
        return f"call-{next(numbers):09}"

    if name == "required":
        return RequiredCallsParser(new_id)
    if name == "named":
        return NamedCallParser("f", new_id)
    parser = new_tool_call_parser(name, new_id, TOOLS)
    assert parser is not None
    return parser


def parse(name: str, pieces: Iterable[str]) -> list[Event]:
    parser = new_parser(name)
    events = [event for piece in pieces for event in parser.feed(piece)]
    return merged([*events, *parser.finish()])


def cut(text: str, places: Iterable[int]) -> list[str]:
    ends = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    return [text[start:end] for start, end in itertools.pairwise(ends)]


MARKERS = [
    "<tool_call>",
    "</tool_call>",
    "<tool_calls>",
    "</tool_calls>",
    "<TOOLCALL>",
    "</TOOLCALL>",
    "<|tool_call|>",
    "<|/tool_call|>",
    "functools[",
    "<|python_tag|>",
    "<|python_start|>",
    "<|python_end|>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "<｜tool▁calls▁begin｜>",  # noqa: RUF001 - the model's own spelling
    "<｜tool▁calls▁end｜>",  # noqa: RUF001 - as above
    "<｜tool▁call▁begin｜>",  # noqa: RUF001 - as above
    "<｜tool▁call▁end｜>",  # noqa: RUF001 - as above
    "<｜tool▁sep｜>",  # noqa: RUF001 - as above
    "```json\n",
    "```",
    "<function=f>",
    "<function=",
    "</function>",
    "<parameter=a>",
    "<parameter=c>",
    "</parameter>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "<|tool_calls_section_begin|>",
    "<|tool_calls_section_end|>",
    "<|tool_call_begin|>",
    "<|tool_call_argument_begin|>",
    "<|tool_call_end|>",
    "functions.f:0",
    "<|start|>assistant",
    "<|channel|>analysis",
    "<|channel|>final",
    "<|channel|>commentary to=functions.f <|constrain|>json",
    "<|message|>",
    "<|end|>",
    "<|call|>",
    "<minimax:tool_call>",
    '<invoke name="f">',
    '<parameter name="a">',
    "</invoke>",
    "]<]minimax[>[",
    "<a>",
    "</a>",
    "<|tool_call>call:f{",
    '<|"|>',
    "<tool_call|>",
    "<\uff5cDSML\uff5ctool_calls>",
    '<\uff5cDSML\uff5cinvoke name="f">',
    '<\uff5cDSML\uff5cparameter name="a" string="false">',
    "</\uff5cDSML\uff5cparameter>",
    "</\uff5cDSML\uff5cinvoke>",
    "<|open|>tools<|sep|>",
    '<|open|>call tool="f"<|sep|>',
    '<|open|>argument key="a" type="string"<|sep|>',
    "<|close|>argument<|sep|>",
    "<|close|>call<|sep|>",
    "<|message_model|>",
    "<|content_invoke_tool_json|>",
    "<|end_message|>",
    " to=f<|message|>",
    '<atem:invoke name="f">',
    "</atem:invoke>",
]
JSON = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    ";",
    "(",
    ")",
    "=",
    '"',
    "'",
    "\\",
    "\\u00e9",
    "\\n",
    "\n",
    " ",
    "null",
    "true",
    "-1.5e3",
    "12",
    "f",
    "a=",
    '"name"',
    '"arguments"',
    '"parameters"',
    '"f"',
    '{"name": "f", "arguments": {"a": "é{\\"}"}}',
    '{"name": "f", "parameters": {}}',
    '{"arguments": {"a": [1, {"b": null}]}, "name": "f"}',
    '"{\\"a\\": 1}"',
    "f(a='x', b=[1, {'c': 2}])",
]

fragments = st.one_of(
    st.sampled_from(MARKERS),
    st.sampled_from(JSON),
    st.sampled_from(MARKERS).flatmap(
        lambda text: st.integers(1, len(text)).map(lambda end: text[:end])
    ),
    st.text(max_size=8),
)
texts = st.lists(fragments, max_size=14).map("".join)


@pytest.mark.parametrize("name", NAMES)
@given(text=texts, places=st.lists(st.integers(0, 10**6), max_size=12))
def test_how_a_reply_is_cut_makes_no_difference(name: str, text: str, places: list[int]) -> None:
    whole = parse(name, [text])
    assert parse(name, text) == whole
    assert parse(name, cut(text, places)) == whole


@pytest.mark.parametrize("name", NAMES)
@given(text=texts)
def test_calls_are_begun_and_ended_in_order_and_have_arguments_that_are_objects(
    name: str, text: str
) -> None:
    open_call: int | None = None
    started = 0
    arguments = ""
    for event in parse(name, [text]):
        match event:
            case CallStarted():
                assert open_call is None
                assert event.index == started
                assert event.name
                assert event.id
                open_call, arguments = event.index, ""
                started += 1
            case CallArguments():
                assert event.index == open_call
                arguments += event.text
            case CallEnded():
                assert event.index == open_call
                assert isinstance(json.loads(arguments), dict)
                open_call = None
            case CallAborted():
                assert event.index == open_call
                assert event.text
                open_call = None
            case Content() | Reasoning():
                assert open_call is None
    assert open_call is None


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WHOLE])
@given(text=texts)
def test_a_reply_without_a_whole_call_comes_out_as_it_was_written(name: str, text: str) -> None:
    events = parse(name, [text])
    if any(isinstance(event, CallEnded) for event in events):
        return
    shown = [event.text for event in events if isinstance(event, Content | CallAborted)]
    assert squeezed("".join(shown)) == squeezed(text)


@pytest.mark.parametrize("reasoning", ["qwen3", "deepseek_r1", "granite", "gpt_oss"])
@pytest.mark.parametrize("name", ["hermes", "harmony", "pythonic", "qwen3_coder"])
@given(
    text=st.lists(
        fragments | st.sampled_from(["<think>", "</think>", "Here is my thought process:"]),
        max_size=14,
    ).map("".join),
    places=st.lists(st.integers(0, 10**6), max_size=12),
    required=st.booleans(),
    parallel=st.booleans(),
)
def test_how_a_reply_with_reasoning_is_cut_makes_no_difference(
    name: str, reasoning: str, text: str, places: list[int], required: bool, parallel: bool
) -> None:
    form = ReplyFormat(
        tool_call_parser=name,
        reasoning_parser=reasoning,
        tools=TOOLS,
        required=required,
        parallel=parallel,
    )

    def read(pieces: Iterable[str]) -> list[Event]:
        parser = form.new_parser(lambda: "call-123456789")
        events = [event for piece in pieces for event in parser.feed(piece)]
        return merged([*events, *parser.finish()])

    whole = read([text])
    assert read(text) == whole
    assert read(cut(text, places)) == whole


# -- replies as the models write them ---------------------------------------------------------------

Call = dict[str, Any]


def dumped(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def as_object(call: Call) -> str:
    return dumped({"name": "f", "arguments": call})


def array(calls: Sequence[Call]) -> str:
    return "[" + ", ".join(map(as_object, calls)) + "]"


def bar(words: str) -> str:
    return f"<\uff5c{words.replace(' ', chr(0x2581))}\uff5c>"


def section(each: Callable[[Call], str]) -> Callable[[Sequence[Call]], str]:
    def write(calls: Sequence[Call]) -> str:
        inner = "".join(
            bar("tool call begin") + each(call) + bar("tool call end") for call in calls
        )
        return bar("tool calls begin") + inner + bar("tool calls end")

    return write


def plain_value(value: object) -> str:
    return value if isinstance(value, str) else dumped(value)


def coder(calls: Sequence[Call]) -> str:
    return "\n".join(
        "<tool_call>\n<function=f>\n"
        + "".join(f"<parameter={k}>\n{plain_value(v)}\n</parameter>\n" for k, v in call.items())
        + "</function>\n</tool_call>"
        for call in calls
    )


def glm(calls: Sequence[Call]) -> str:
    return "\n".join(
        "<tool_call>f\n"
        + "".join(
            f"<arg_key>{k}</arg_key>\n<arg_value>{plain_value(v)}</arg_value>\n"
            for k, v in call.items()
        )
        + "</tool_call>"
        for call in calls
    )


def kimi(calls: Sequence[Call]) -> str:
    inner = "".join(
        f"<|tool_call_begin|>functions.f:{number}<|tool_call_argument_begin|>{dumped(call)}"
        "<|tool_call_end|>"
        for number, call in enumerate(calls)
    )
    return f"<|tool_calls_section_begin|>{inner}<|tool_calls_section_end|>"


def pythonic(calls: Sequence[Call]) -> str:
    written = (", ".join(f"{k}={v!r}" for k, v in call.items()) for call in calls)
    return "[" + ", ".join(f"f({arguments})" for arguments in written) + "]"


def harmony(calls: Sequence[Call]) -> str:
    return "".join(
        "<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>"
        + dumped(call)
        + "<|call|>"
        for call in calls
    ).removeprefix("<|start|>assistant")


WRITERS: dict[str, Callable[[Sequence[Call]], str]] = {
    "hermes": lambda calls: "\n".join(
        f"<tool_call>\n{as_object(call)}\n</tool_call>" for call in calls
    ),
    "llama3_json": lambda calls: "; ".join(
        dumped({"name": "f", "parameters": call}) for call in calls
    ),
    "mistral": lambda calls: "".join(f"[TOOL_CALLS]f[ARGS]{dumped(call)}" for call in calls),
    "pythonic": pythonic,
    "deepseek_v3": section(
        lambda call: f"function{bar('tool sep')}f\n```json\n{dumped(call)}\n```"
    ),
    "deepseek_v3_1": section(lambda call: f"f{bar('tool sep')}{dumped(call)}"),
    "qwen3_coder": coder,
    "glm45": glm,
    "kimi_k2": kimi,
    "phi4": lambda calls: "functools" + array(calls),
    "harmony": harmony,
    "jamba": lambda calls: f"<tool_calls>{array(calls)}</tool_calls>",
    "nemotron_deci": lambda calls: f"<TOOLCALL>{array(calls)}</TOOLCALL>",
    "required": array,
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
tagless = st.text(st.characters(exclude_characters="<", exclude_categories=["Cs"]), max_size=8).map(
    lambda text: "x" + text + "x"
)
arguments = st.fixed_dictionaries(
    {},
    optional={
        "a": tagless,
        "b": st.integers(-(10**9), 10**9),
        "c": st.dictionaries(tagless, st.integers() | tagless, max_size=2).filter(
            lambda value: all(abs(v) < 2**63 for v in value.values() if isinstance(v, int))
        ),
        "d": st.booleans(),
        "e": st.lists(tagless, max_size=3),
    },
)
free = st.dictionaries(st.text(max_size=5), json_values, max_size=4)
TYPED = {"qwen3_coder", "glm45", "pythonic"}


@pytest.mark.parametrize("name", sorted(WRITERS))
@given(data=st.data())
def test_calls_are_read_as_they_were_meant(name: str, data: st.DataObject) -> None:
    kind: st.SearchStrategy[Call] = arguments if name in TYPED else free
    calls = data.draw(st.lists(kind, min_size=1, max_size=3))
    before = data.draw(st.sampled_from(["", "\n"]))
    places = data.draw(st.lists(st.integers(0, 10**6), max_size=12))
    events = parse(name, cut(before + WRITERS[name](calls), places))
    assert [event for event in events if isinstance(event, Content)] == []
    assert [event.name for event in events if isinstance(event, CallStarted)] == ["f"] * len(calls)
    found: dict[int, str] = {}
    for event in events:
        if isinstance(event, CallArguments):
            found[event.index] = found.get(event.index, "") + event.text
    assert [json.loads(text) for text in found.values()] == calls


@pytest.mark.parametrize("name", sorted(WRITERS))
@given(data=st.data())
def test_a_slip_in_a_reply_loses_nothing(name: str, data: st.DataObject) -> None:
    kind: st.SearchStrategy[Call] = arguments if name in TYPED else free
    written = WRITERS[name](data.draw(st.lists(kind, min_size=1, max_size=2)))
    at = data.draw(st.integers(0, len(written)))
    gone = data.draw(st.integers(0, 3))
    text = written[:at] + data.draw(fragments) + written[at + gone :]
    whole = parse(name, [text])
    assert parse(name, text) == whole
    if name == "harmony" or any(isinstance(event, CallEnded) for event in whole):
        return
    shown = [event.text for event in whole if isinstance(event, Content | CallAborted)]
    assert squeezed("".join(shown)) == squeezed(text)
