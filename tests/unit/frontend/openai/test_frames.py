from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.frontend.openai.frames import ChatFrames, CompletionFrames, error_frame
from muster.frontend.openai.reply import (
    ChatLogprobs,
    CompletionLogprobs,
    PromptTokensDetails,
    TokenLogprob,
    Usage,
)

NAME = 'a "model"\n'


def events(data: bytes) -> list[Any]:
    frames = data.decode().split("\n\n")
    assert frames.pop() == ""
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
    return [json.loads(frame[6:]) for frame in frames]


@given(text=st.text(min_size=1), more=st.text(min_size=1), index=st.integers(0, 127))
def test_chat_frames_are_valid_events_whatever_the_text(text: str, more: str, index: int) -> None:
    frames = ChatFrames("id", NAME, 7)
    first, second = events(frames.text(index, text) + frames.text(index, more))
    shared = {"id": "id", "created": 7, "model": NAME, "object": "chat.completion.chunk"}
    choice = {"index": index, "finish_reason": None, "logprobs": None}
    assert first == shared | {
        "choices": [choice | {"delta": {"content": text, "role": "assistant"}}]
    }
    assert second == shared | {"choices": [choice | {"delta": {"content": more}}]}


def test_each_choice_announces_its_role_once() -> None:
    frames = ChatFrames("id", NAME, 7)
    assert events(frames.opening(0))[0]["choices"][0]["delta"] == {"role": "assistant"}
    assert frames.opening(0) == b""
    assert "role" not in events(frames.text(0, "x"))[0]["choices"][0]["delta"]
    assert "role" in events(frames.text(1, "x"))[0]["choices"][0]["delta"]


@pytest.mark.parametrize("text", ["", "x"])
def test_the_last_chat_chunk_has_the_reason_and_text_only_if_there_is_some(text: str) -> None:
    frames = ChatFrames("id", NAME, 7)
    frames.opening(0)
    usage = Usage(1, 2, 3)
    logprobs = ChatLogprobs([TokenLogprob("x", -1.0, 120, [120], [])])
    (event,) = events(frames.chunk(0, text, finish_reason="stop", logprobs=logprobs, usage=usage))
    choice = event["choices"][0]
    assert choice["delta"] == ({"content": "x"} if text else {})
    assert choice["finish_reason"] == "stop"
    assert choice["logprobs"]["content"][0]["token_id"] == 120
    assert event["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def test_usage_comes_without_choices() -> None:
    usage = Usage(1, 2, 3, PromptTokensDetails(1))
    for frames in (ChatFrames("id", NAME, 7), CompletionFrames("id", NAME, 7)):
        (event,) = events(frames.usage(usage))
        assert event["choices"] == []
        assert event["usage"]["prompt_tokens_details"] == {"cached_tokens": 1}


@given(text=st.text(), index=st.integers(0, 127))
def test_completion_frames_are_valid_events_whatever_the_text(text: str, index: int) -> None:
    frames = CompletionFrames("id", NAME, 7)
    assert frames.opening(index) == b""
    (event,) = events(frames.text(index, text))
    expected = {
        "id": "id",
        "choices": [{"index": index, "text": text, "finish_reason": None, "logprobs": None}],
        "created": 7,
        "model": NAME,
        "system_fingerprint": None,
        "object": "text_completion",
        "usage": None,
    }
    assert event == expected
    assert events(frames.chunk(index, text, finish_reason=None, logprobs=None, usage=None)) == [
        expected
    ]


def test_a_completion_chunk_carries_all_it_is_given() -> None:
    logprobs = CompletionLogprobs(["x"], [-1.0], None, [0])
    data = CompletionFrames("id", NAME, 7).chunk(
        0, "x", finish_reason="length", logprobs=logprobs, usage=Usage(1, 2, 3)
    )
    (event,) = events(data)
    assert event["choices"][0]["finish_reason"] == "length"
    assert event["choices"][0]["logprobs"]["text_offset"] == [0]
    assert event["usage"]["total_tokens"] == 3


def test_an_error_is_an_event() -> None:
    assert events(error_frame(b'{"error":{}}')) == [{"error": {}}]
