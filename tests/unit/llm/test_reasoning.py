"""Reasoning told from content."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.llm.reasoning.registry import REASONING_PARSERS, new_reasoning_parser
from muster.llm.tool_calls.events import Content, Reasoning, merged


def read(name: str, *pieces: str, prompt_end: str = "") -> tuple[str, str]:
    parser = new_reasoning_parser(name, prompt_end=prompt_end)
    assert parser is not None
    events = [event for piece in pieces for event in parser.feed(piece)]
    events = merged([*events, *parser.finish()])
    return (
        "".join([event.text for event in events if isinstance(event, Reasoning)]),
        "".join([event.text for event in events if isinstance(event, Content)]),
    )


@pytest.mark.parametrize(
    ("name", "text", "reasoning", "content"),
    [
        ("basic", "<think>abc</think>def", "abc", "def"),
        ("qwen3", "<think>\nabc\n</think>\n\ndef\n", "abc", "def\n"),
        ("qwen3", "abc</think>def", "", "abcdef"),
        ("qwen3", "<think>abc", "abc", ""),
        ("qwen3", "def", "", "def"),
        ("qwen3", "<think>a</think>b<think>c</think>d", "ac", "bd"),
        ("qwen3", "<think>a</think>b</think>c", "a", "b</think>c"),
        ("deepseek_r1", "abc</think>def", "abc", "def"),
        ("deepseek_r1", "<think>abc</think>def", "abc", "def"),
        ("deepseek_r1", "abc", "abc", ""),
        ("kimi", "◁think▷abc◁/think▷def", "abc", "def"),
        ("mistral", "[THINK]abc[/THINK]def", "abc", "def"),
        ("mistral", "def", "", "def"),
        (
            "granite",
            "Here's my thought process: abc\nHere is my response: def",
            "abc",
            "def",
        ),
        (
            "granite",
            "So: Here is my thought process: abc",
            "",
            "So: Here is my thought process: abc",
        ),
        (
            "gpt_oss",
            (
                "<|channel|>analysis<|message|>abc<|end|>"
                "<|start|>assistant<|channel|>final<|message|>def<|return|>"
            ),
            "abc",
            "def",
        ),
        ("gpt_oss", "def", "", "def"),
        ("nemotron_v3", "abc</think>def", "abc", "def"),
        ("deepseek_v4", "<think>abc</think>def", "abc", "def"),
        ("minimax_m3", "<mm:think>abc</mm:think>def", "abc", "def"),
        ("minimax_append_think", "abc</think>def", "", "<think>abc</think>def"),
        ("minimax_append_think", "<think>abc</think>def", "", "<think>abc</think>def"),
        ("gemma4", "<|channel>thought\nabc<channel|>def", "abc", "def"),
        ("gemma4", "<|channel>thoughts<channel|>def", "thoughts", "def"),
        (
            "kimi_k3",
            (
                "<|open|>think<|sep|>abc<|close|>think<|sep|><|open|>response<|sep|>def"
                "<|close|>response<|sep|><|close|>message<|sep|><|end_of_msg|>"
            ),
            "abc",
            "def",
        ),
        (
            "inkling",
            (
                "<|content_thinking|>abc<|end_message|>"
                "<|message_model|><|content_text|>def<|end_message|><|content_model_end_sampling|>"
            ),
            "abc",
            "def",
        ),
        (
            "muse",
            (" to=self<|message|>abc<|eom|><|start|>assistant to=user<|message|>def<|eot|>"),
            "abc",
            "def",
        ),
    ],
)
def test_replies_in_each_format_are_told_apart(
    name: str, text: str, reasoning: str, content: str
) -> None:
    assert read(name, text) == (reasoning, content)
    assert read(name, *text) == (reasoning, content)


@pytest.mark.parametrize(
    ("name", "prompt_end", "reasoning", "content"),
    [
        ("qwen3", "<|im_start|>assistant\n<think>\n", "abc", "def"),
        ("qwen3", "<think>\n\n</think>\n\n", "", "abcdef"),
        ("deepseek_r1", "<think>\n\n</think>\n\n", "", "abcdef"),
        ("deepseek_v3_1", "<think>", "abc", "def"),
        ("deepseek_v3_1", "</think>", "", "abcdef"),
        ("glm45", "<|assistant|>\n<think>", "abc", "def"),
        ("glm45", "<|assistant|>\n<think></think>", "", "abcdef"),
        ("kimi_k25", "<think></think>", "", "abcdef"),
    ],
)
def test_the_prompts_end_says_how_a_reply_begins(
    name: str, prompt_end: str, reasoning: str, content: str
) -> None:
    assert read(name, "abc</think>def", prompt_end=prompt_end) == (reasoning, content)


@pytest.mark.parametrize(
    ("name", "text", "content"),
    [
        (
            "kimi_k25",
            "abc<|tool_calls_section_begin|>...",
            "<|tool_calls_section_begin|>...",
        ),
        ("minimax_m2", "abc\n<minimax:tool_call>...", "<minimax:tool_call>..."),
        ("minimax_m3", "<mm:think>abc]<]minimax[>[<tool_call>", "]<]minimax[>[<tool_call>"),
    ],
)
def test_a_call_ends_reasoning_that_was_not_closed(name: str, text: str, content: str) -> None:
    assert read(name, text) == ("abc", content)
    assert read(name, *text) == ("abc", content)


def test_the_prompts_end_tells_for_markers_of_other_formats_too() -> None:
    text = "abc<|close|>think<|sep|><|open|>response<|sep|>def"
    assert read("kimi_k3", text, prompt_end="<|open|>think<|sep|>") == ("abc", "def")
    text = "abc</mm:think>def"
    assert read("minimax_m3", text, prompt_end="<mm:think>\n") == ("abc", "def")
    text = "abc<channel|>def"
    assert read("gemma4", text, prompt_end="<|channel>thought\n") == ("abc", "def")


PIECES = [
    "<think>",
    "</think>",
    "◁think▷",
    "◁/think▷",
    "[THINK]",
    "[/THINK]",
    "Here is my thought process:",
    "Here's my response:",
    "<|start|>assistant",
    "<|channel|>analysis",
    "<|channel|>commentary to=functions.f",
    "<|message|>",
    "<|end|>",
    "<mm:think>",
    "</mm:think>",
    "]<]minimax[>[<tool_call>",
    "<|channel>",
    "<channel|>",
    "thought\n",
    "<|open|>think<|sep|>",
    "<|close|>think<|sep|>",
    "<|open|>tools<|sep|>",
    "<|message_model|>",
    "<|content_thinking|>",
    "<|content_text|>",
    "<|end_message|>",
    " to=self",
    "<|eom|>",
    "<",
    "\n",
    " ",
    "abc",
]
texts = st.lists(
    st.sampled_from(PIECES)
    | st.sampled_from(PIECES).flatmap(
        lambda text: st.integers(1, len(text)).map(lambda end: text[:end])
    )
    | st.text(max_size=5),
    max_size=12,
).map("".join)


@pytest.mark.parametrize("name", sorted(REASONING_PARSERS))
@given(text=texts, places=st.lists(st.integers(0, 200), max_size=8), inside=st.booleans())
def test_how_a_reply_is_cut_makes_no_difference(
    name: str, text: str, places: list[int], inside: bool
) -> None:
    ends = sorted({min(place, len(text)) for place in places} | {0, len(text)})
    pieces = [text[start:end] for start, end in itertools.pairwise(ends)]
    prompt_end = "<think>" if inside else ""
    whole = read(name, text, prompt_end=prompt_end)
    assert read(name, *text, prompt_end=prompt_end) == whole
    assert read(name, *pieces, prompt_end=prompt_end) == whole


@pytest.mark.parametrize("name", sorted(REASONING_PARSERS))
@given(text=st.text(st.characters(exclude_characters="<◁[H")))
def test_text_without_markers_is_all_one_or_the_other(name: str, text: str) -> None:
    reasoning, content = read(name, text)
    if name == "minimax_append_think":
        content = content.removeprefix("<think>")
    assert (reasoning, content) in ((text.strip(), ""), ("", text))


def test_a_name_nobody_knows_has_no_parser() -> None:
    assert new_reasoning_parser("unheard_of") is None
