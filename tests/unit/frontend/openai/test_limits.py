"""Values out of bounds are refused with Dynamo's own words, and ``param`` names the field."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from muster.frontend.api_error import ApiError
from muster.frontend.openai.limits import check_chat, check_completion
from muster.frontend.openai.requests import ChatRequest, CompletionRequest

USER = {"role": "user", "content": "hi"}


def chat(**fields: Any) -> ChatRequest:
    return msgspec.convert({"model": "m", "messages": [USER]} | fields, ChatRequest)


def completion(**fields: Any) -> CompletionRequest:
    return msgspec.convert({"model": "m", "prompt": "p"} | fields, CompletionRequest)


COMMON = [
    ({"model": ""}, "model", "Model cannot be empty"),
    ({"temperature": 3}, "temperature", "Temperature must be between 0 and 2, got 3"),
    ({"temperature": -0.5}, "temperature", "Temperature must be between 0 and 2, got -0.5"),
    ({"top_p": 2}, "top_p", "Top_p must be between 0 and 1, got 2"),
    ({"min_p": 2}, "min_p", "Min_p must be between 0 and 1, got 2"),
    ({"n": 0}, "n", "n must be between 1 and 128, got 0"),
    ({"n": 129}, "n", "n must be between 1 and 128, got 129"),
    (
        {"n": 2, "temperature": 0},
        "n",
        (
            "When n > 1, temperature must be greater than 0 to ensure diverse outputs. "
            "Got n=2, temperature=0"
        ),
    ),
    ({"max_tokens": 0}, "max_tokens", "Max tokens must be greater than 0, got 0"),
    ({"max_tokens": -1}, "max_tokens", "Max tokens must be greater than 0, got -1"),
    (
        {"frequency_penalty": 3},
        "frequency_penalty",
        "Frequency penalty must be between -2 and 2, got 3",
    ),
    (
        {"presence_penalty": -3},
        "presence_penalty",
        "Presence penalty must be between -2 and 2, got -3",
    ),
    (
        {"repetition_penalty": 0},
        "repetition_penalty",
        "Repetition penalty must be between 0 and 2, got 0",
    ),
    ({"length_penalty": float("nan")}, "length_penalty", "Length penalty must be finite"),
    ({"top_k": -2}, "top_k", "Top_k must be null or greater than or equal to -1"),
    (
        {"logit_bias": {"5": 200}},
        "logit_bias",
        "Logit bias for token '5' must be between -100 and 100, got 200",
    ),
    ({"logit_bias": {"x": 1}}, "logit_bias", "Logit bias keys must be token ids, got 'x'"),
    ({"user": ""}, "user", "User ID cannot be empty"),
    ({"stop": [""]}, "stop", "Stop sequence cannot be empty"),
    ({"stop": ""}, "stop", "Stop sequence cannot be empty"),
    ({"stop": ["x"] * 40}, "stop", "Maximum of 32 stop sequences allowed, got 40"),
    (
        {"stream_options": {"include_usage": True}},
        "stream_options",
        "The 'stream_options' field is only allowed when 'stream' is set to true.",
    ),
]


@pytest.mark.parametrize(("fields", "param", "message"), COMMON)
def test_shared_fields(fields: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        check_chat(chat(**fields))
    assert (caught.value.status, caught.value.param) == (400, param)
    assert caught.value.message == message
    with pytest.raises(ApiError) as caught:
        check_completion(completion(**fields))
    assert (caught.value.param, caught.value.message) == (param, message)


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        (
            {"messages": []},
            "messages",
            "The 'messages' field cannot be empty. At least one message is required.",
        ),
        (
            {"top_logprobs": 30},
            "top_logprobs",
            "Top_logprobs must be between 0 and 20, got 30",
        ),
        (
            {"max_completion_tokens": 0},
            "max_completion_tokens",
            "Max tokens must be greater than 0, got 0",
        ),
        ({"messages": [USER, {"role": "boss", "content": "x"}]}, "messages[1].role", None),
        ({"messages": [{"content": "x"}]}, "messages[0].role", None),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role", None),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content", None),
        ({"messages": [{"role": "user"}]}, "messages[0].content", None),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", None),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]", None),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0]",
            "messages[0].content[0]: content of type 'image_url' is not supported, only text is",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]},
            "messages[0].content[0]",
            "messages[0].content[0]: a part of type 'text' needs a string in 'text'",
        ),
    ],
)
def test_chat_fields(fields: dict[str, Any], param: str, message: str | None) -> None:
    with pytest.raises(ApiError) as caught:
        check_chat(chat(**fields))
    assert (caught.value.status, caught.value.param) == (400, param)
    assert message is None or caught.value.message == message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logprobs": 6}, "logprobs"),
        ({"best_of": 0}, "best_of"),
        ({"best_of": 1, "n": 2}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
    ],
)
def test_completion_fields(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        check_completion(completion(**fields))
    assert (caught.value.status, caught.value.param) == (400, param)


def test_values_on_the_bounds_are_accepted() -> None:
    edge = {
        "temperature": 2,
        "top_p": 0,
        "min_p": 1,
        "n": 128,
        "max_tokens": 1,
        "repetition_penalty": 2,
        "top_k": -1,
        "logit_bias": {"5": -100},
        "stop": ["x"] * 32,
        "stream": True,
        "stream_options": {},
    }
    check_chat(chat(**edge, top_logprobs=20, logprobs=True))
    check_completion(completion(**edge, logprobs=5, best_of=128))


def test_every_role_and_kind_of_content_is_accepted() -> None:
    messages = [
        {"role": "developer", "content": "x"},
        {"role": "system", "content": [{"type": "text", "text": "x"}]},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"role": "tool", "content": "x", "tool_call_id": "1"},
        {"role": "function", "content": "x", "name": "f"},
    ]
    check_chat(chat(messages=messages))
