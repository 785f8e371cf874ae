"""Whether a chat is thought about, in every word for it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from muster.frontend.openai.requests import ChatRequest
from muster.frontend.openai.thinking import is_thinking_off, template_kwargs

ON = {"enable_thinking": True, "thinking": True, "thinking_mode": "enabled"}
OFF = {"enable_thinking": False, "thinking": False, "thinking_mode": "disabled"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"chat_template_kwargs": {}}, {}),
        ({"chat_template_kwargs": {"a": 1}}, {"a": 1}),
        (
            {"chat_template_args": {"a": 1, "b": 1}, "chat_template_kwargs": {"a": 2}},
            {"a": 2, "b": 1},
        ),
        ({"chat_template_kwargs": {"enable_thinking": False}}, OFF),
        ({"chat_template_args": {"thinking": False}}, OFF),
        ({"chat_template_kwargs": {"thinking_mode": "enabled"}}, ON),
        ({"chat_template_kwargs": {"thinking_mode": "deep"}}, {"thinking_mode": "deep"}),
        ({"chat_template_kwargs": {"enable_thinking": "no"}}, {"enable_thinking": "no"}),
        ({"reasoning_effort": "low"}, ON),
        ({"reasoning_effort": "none"}, OFF),
        ({"reasoning_effort": "high", "chat_template_kwargs": {"thinking": False}}, OFF),
        (
            {"chat_template_kwargs": {"enable_thinking": True, "thinking": False}},
            {**ON, "thinking": False},
        ),
    ],
)
def test_one_word_sets_the_others_that_are_not_set(
    fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    request = msgspec.convert({"model": "m", "messages": [], **fields}, ChatRequest)
    found = template_kwargs(request)
    assert found == expected
    assert is_thinking_off(found) is (expected.get("enable_thinking") is False)
