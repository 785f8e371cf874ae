"""What replies are worth to the load generator."""

from __future__ import annotations

import json
from typing import Any

import pytest

from muster.testing.replies import Ending, read_reply, read_stream

USAGE = {"usage": {"completion_tokens": 3}}
ERROR = {"error": {"message": "nobody is there", "code": "unavailable"}}


def events(*chunks: Any) -> list[bytes]:
    return [json.dumps(chunk).encode() for chunk in chunks]


@pytest.mark.parametrize(
    ("status", "body", "ending"),
    [
        (200, USAGE, Ending.ANSWER),
        (200, {"usage": {"completion_tokens": 2}}, Ending.BROKEN),
        (200, {}, Ending.BROKEN),
        (200, [], Ending.BROKEN),
        (503, ERROR, Ending.ERROR),
        (503, {"error": {"message": ""}}, Ending.BROKEN),
        (503, {"error": "no"}, Ending.BROKEN),
        (500, [], Ending.BROKEN),
    ],
)
def test_a_reply_is_an_answer_with_all_its_tokens_or_an_error_with_a_message(
    status: int, body: Any, ending: Ending
) -> None:
    assert read_reply(status, json.dumps(body).encode(), 3).ending is ending


def test_a_reply_that_is_no_json_is_broken() -> None:
    assert read_reply(502, b"<html>", 3).ending is Ending.BROKEN
    assert read_reply(200, b"\xff", 3).ending is Ending.BROKEN


def test_an_error_keeps_its_code_and_message() -> None:
    assert read_reply(503, json.dumps(ERROR).encode(), 3) == (
        Ending.ERROR,
        "unavailable",
        "nobody is there",
    )


END = {"choices": [{"finish_reason": "length"}]}
PART = {"choices": [{"finish_reason": None}]}


@pytest.mark.parametrize(
    ("received", "ending"),
    [
        ([*events(PART, END, USAGE), b"[DONE]"], Ending.ANSWER),
        ([*events(PART, ERROR), b"[DONE]"], Ending.ERROR),
        ([*events(PART, END, USAGE)], Ending.BROKEN),
        ([*events(PART, ERROR)], Ending.BROKEN),
        ([*events(PART, USAGE), b"[DONE]"], Ending.BROKEN),
        ([*events(PART, END), b"[DONE]"], Ending.BROKEN),
        ([b"[DONE]"], Ending.BROKEN),
        ([b"{", b"[DONE]"], Ending.BROKEN),
        ([], Ending.BROKEN),
    ],
)
def test_a_stream_is_over_with_done_and_nothing_else(received: list[bytes], ending: Ending) -> None:
    assert read_stream(received, 3).ending is ending
