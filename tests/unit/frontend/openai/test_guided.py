"""Structured output: what a client writes, and what engines are told."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from muster.frontend.api_error import ApiError
from muster.frontend.openai.guided import guided_decoding, refuse_beside_calls
from muster.frontend.openai.limits import check_chat
from muster.frontend.openai.requests import ChatRequest
from muster.llm.protocol import GuidedDecoding

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def chat(**fields: Any) -> ChatRequest:
    messages = [{"role": "user", "content": "x"}]
    return msgspec.convert({"model": "m", "messages": messages, **fields}, ChatRequest)


def named(name: str = "n", **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": name, "schema": SCHEMA, **more}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"guided_choice": []}, None),
        ({"guided_decoding_backend": "xgrammar", "guided_whitespace_pattern": " "}, None),
        ({"response_format": {"type": "json_object"}}, GuidedDecoding(json={"type": "object"})),
        ({"response_format": named(strict=True)}, GuidedDecoding(json=SCHEMA)),
        ({"response_format": named(strict=None)}, GuidedDecoding(json=SCHEMA)),
        ({"guided_json": {}}, GuidedDecoding(json={})),
        ({"guided_regex": ""}, GuidedDecoding(regex="")),
        ({"guided_choice": ["a"]}, GuidedDecoding(choice=["a"])),
        ({"guided_grammar": "root ::= x"}, GuidedDecoding(grammar="root ::= x")),
        (
            {"guided_json": SCHEMA, "response_format": {"type": "json_object"}},
            GuidedDecoding(json=SCHEMA),
        ),
        (
            {
                "guided_regex": "a",
                "guided_decoding_backend": "xgrammar",
                "guided_whitespace_pattern": " ?",
            },
            GuidedDecoding(regex="a", backend="xgrammar", whitespace_pattern=" ?"),
        ),
        ({"structured_outputs": {"json": SCHEMA}}, GuidedDecoding(json=SCHEMA)),
        ({"structured_outputs": {"json_object": True}}, GuidedDecoding(json={"type": "object"})),
        (
            {"structured_outputs": {"choice": ["a"], "json": None, "disable_fallback": False}},
            GuidedDecoding(choice=["a"]),
        ),
        (
            {"structured_outputs": {"regex": "a", "whitespace_pattern": " "}},
            GuidedDecoding(regex="a", whitespace_pattern=" "),
        ),
    ],
)
def test_each_way_to_write_a_constraint_becomes_one(
    fields: dict[str, Any], expected: GuidedDecoding | None
) -> None:
    assert guided_decoding(chat(**fields)) == expected


@pytest.mark.parametrize(
    ("fields", "param", "text"),
    [
        ({"response_format": {}}, "response_format.type", "got None"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "json_schema, got 'xml'"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "object"),
        ({"response_format": named("")}, "response_format.json_schema.name", "1 to 64"),
        ({"response_format": named("a b")}, "response_format.json_schema.name", "'a b'"),
        ({"response_format": named(schema=3)}, "response_format.json_schema.schema", "schema"),
        ({"response_format": named(strict="yes")}, "response_format.json_schema.strict", "true"),
        ({"guided_regex": "a", "guided_choice": ["b"]}, "guided_choice", "received: regex, choice"),
        (
            {"response_format": {"type": "json_object"}, "guided_grammar": "x"},
            "guided_grammar",
            "received: json, grammar",
        ),
        (
            {"guided_regex": "a", "structured_outputs": {"regex": "b"}},
            "structured_outputs",
            "regex in `structured_outputs` and outside",
        ),
        (
            {"guided_regex": "a", "structured_outputs": {"choice": ["b"]}},
            "structured_outputs",
            "received: regex, choice",
        ),
        ({"structured_outputs": {}}, "structured_outputs", "one of json"),
        ({"structured_outputs": {"regex": 3}}, "structured_outputs.regex", "string"),
        ({"structured_outputs": {"choice": "a"}}, "structured_outputs.choice", "list of strings"),
        (
            {"structured_outputs": {"json": SCHEMA, "json_object": True}},
            "structured_outputs",
            "both",
        ),
        (
            {"structured_outputs": {"structural_tag": "x"}},
            "structured_outputs.structural_tag",
            "not supported",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_by_field(
    fields: dict[str, Any], param: str, text: str
) -> None:
    with pytest.raises(ApiError) as caught:
        check_chat(chat(**fields))
    assert (caught.value.status, caught.value.param) == (400, param)
    assert text in caught.value.message


def test_beside_a_call_that_must_be_only_a_response_format_may_stand() -> None:
    refuse_beside_calls(chat(response_format={"type": "json_object"}, guided_choice=[]))
    for fields in (
        {"guided_json": SCHEMA},
        {"guided_regex": "a"},
        {"structured_outputs": {"regex": "a"}},
    ):
        with pytest.raises(ApiError) as caught:
            refuse_beside_calls(chat(**fields))
        assert caught.value.param == next(iter(fields))


def test_only_what_is_set_travels() -> None:
    assert msgspec.to_builtins(GuidedDecoding(regex="a")) == {"regex": "a"}
