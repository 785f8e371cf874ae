"""The bounds in the document are those that requests are checked against."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from muster.errors import MusterError
from muster.frontend.api_error import ApiError
from muster.frontend.openai.bounds import CHAT, COMPLETION
from muster.frontend.openai.limits import check_chat, check_completion
from muster.frontend.openai.requests import ChatRequest, CompletionRequest
from muster.frontend.openapi.document import openapi_document
from muster.frontend.openapi.operations import OPERATIONS

SCHEMAS: dict[str, dict[str, Any]] = json.loads(msgspec.json.encode(openapi_document(OPERATIONS)))[
    "components"
]["schemas"]
WIDEST = {"max_tokens", "max_completion_tokens", "top_k"}
"""Fields that are bounded above by their type alone."""


def chat(**fields: Any) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
    check_chat(msgspec.convert(body, ChatRequest))


def completion(**fields: Any) -> None:
    check_completion(msgspec.convert({"model": "m", "prompt": "x", **fields}, CompletionRequest))


def form_of(schema: str, field: str, *types: str) -> dict[str, Any]:
    described = SCHEMAS[schema]["properties"][field]
    (form,) = [each for each in described.get("anyOf", [described]) if each["type"] in types]
    found: dict[str, Any] = form
    return found


CASES = [
    pytest.param(check, schema, field, id=f"{schema}.{field}")
    for check, schema, bounds in (
        (chat, "ChatRequest", CHAT),
        (completion, "CompletionRequest", COMPLETION),
    )
    for field in bounds
]


def others(field: str) -> dict[str, Any]:
    """What goes with the least value of a field, so that nothing else is at fault."""
    return {"echo": True} if field == "max_tokens" else {}


@pytest.mark.parametrize(("check", "schema", "field"), CASES)
def test_what_the_document_bounds_is_refused_beyond_and_taken_within(
    check: Callable[..., None], schema: str, field: str
) -> None:
    form = form_of(schema, field, "number", "integer")
    step = 1 if form["type"] == "integer" else 0.001
    more = others(field) if schema == "CompletionRequest" else {}
    excluded = "exclusiveMinimum" in form
    least = form["exclusiveMinimum"] + step if excluded else form["minimum"]
    check(**{field: least}, **more)
    with pytest.raises(ApiError) as caught:
        check(**{field: least - step}, **more)
    assert caught.value.param == field
    most = form["maximum"]
    check(**{field: most}, **more)
    with pytest.raises((MusterError, msgspec.ValidationError)) as caught_above:
        check(**{field: most + step}, **more)
    assert isinstance(caught_above.value, msgspec.ValidationError) == (field in WIDEST)


@pytest.mark.parametrize("schema", ["ChatRequest", "CompletionRequest"])
def test_so_are_lists_of_stops_and_biases(schema: str) -> None:
    check = chat if schema == "ChatRequest" else completion
    most = form_of(schema, "stop", "array")["maxItems"]
    check(stop=["x"] * most)
    with pytest.raises(MusterError, match="stop sequences"):
        check(stop=["x"] * (most + 1))
    bias = form_of(schema, "logit_bias", "object")["additionalProperties"]
    check(logit_bias={"1": bias["minimum"], "2": bias["maximum"]})
    for beyond in (bias["minimum"] - 1, bias["maximum"] + 1):
        with pytest.raises(MusterError, match="Logit bias"):
            check(logit_bias={"1": beyond})


def bounds_of(schema: str, field: str) -> dict[str, Any]:
    form = form_of(schema, field, "number", "integer")
    return {key: value for key, value in form.items() if key in ("minimum", "maximum")}


def test_what_is_answered_as_a_chat_has_the_bounds_of_one() -> None:
    for field in ("temperature", "top_p", "top_logprobs", "top_k", "presence_penalty"):
        assert bounds_of("ResponsesRequest", field) == bounds_of("ChatRequest", field)
    longest = bounds_of("ChatRequest", "max_completion_tokens")
    assert bounds_of("ResponsesRequest", "max_output_tokens") == longest
    for field in ("temperature", "top_p", "top_k", "max_tokens"):
        assert bounds_of("MessagesRequest", field) == bounds_of("ChatRequest", field)
    assert form_of("MessagesRequest", "stop_sequences", "array")["maxItems"] == 32
