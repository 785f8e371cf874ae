from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.frontend.api_error import ApiError
from muster.frontend.openai.requests import ChatRequest, CompletionRequest, decode

CHAT = msgspec.json.Decoder(ChatRequest)
COMPLETION = msgspec.json.Decoder(CompletionRequest)


def attempt(decoder: msgspec.json.Decoder[Any], body: bytes) -> ApiError | None:
    try:
        decode(decoder, body)
    except ApiError as error:
        return error
    return None


def refusal(decoder: msgspec.json.Decoder[Any], body: bytes) -> ApiError:
    with pytest.raises(ApiError) as caught:
        decode(decoder, body)
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"model":1,"messages":[]}', "model"),
        (b'{"messages":[]}', "model"),
        (b'{"model":"m"}', "messages"),
        (b'{"model":"m","messages":["x"]}', "messages[0]"),
        (b'{"model":"m","messages":[],"stop":[1]}', "stop[0]"),
        (b'{"model":"m","messages":[],"seed":1.5}', "seed"),
        (b'{"model":"m","messages":[],"seed":99999999999999999999}', "seed"),
        (b'{"model":"m","messages":[],"stop_token_ids":[-1]}', "stop_token_ids[0]"),
        (b'{"model":"m","messages":[],"min_tokens":4294967296}', "min_tokens"),
        (
            b'{"model":"m","messages":[],"stream_options":{"include_usage":1}}',
            "stream_options.include_usage",
        ),
        (b"[]", None),
    ],
)
def test_a_wrong_type_names_its_field(body: bytes, param: str | None) -> None:
    error = refusal(CHAT, body)
    assert (error.param, error.slug) == (param, "invalid_value")
    assert param is None or param.rpartition(".")[2].rstrip("]0[") in error.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"model":"m","messages":[]} x',
        b'{"model":"\xff"}',
        b'{"model":"\\ud800"}',
    ],
)
def test_what_is_not_json_says_so(body: bytes) -> None:
    assert refusal(CHAT, body).slug == "invalid_json"


def test_nesting_without_end_is_refused() -> None:
    body = b'{"model":"m","messages":[{"role":' + b"[" * 200_000 + b"]" * 200_000 + b"}]}"
    assert refusal(CHAT, body).slug == "invalid_json"


def test_null_is_the_same_as_left_out() -> None:
    names = [name for name in ChatRequest.__struct_fields__ if name not in ("model", "messages")]
    fields: dict[str, Any] = {"model": "m", "messages": [], **dict.fromkeys(names)}
    bare = decode(CHAT, b'{"model":"m","messages":[]}')
    assert decode(CHAT, msgspec.json.encode(fields)) == bare


@pytest.mark.parametrize(
    ("prompt", "value"),
    [
        (b'"x"', "x"),
        (b'["x","y"]', ["x", "y"]),
        (b"[1,2]", [1, 2]),
        (b"[[1],[2]]", [[1], [2]]),
    ],
)
def test_prompts_take_four_forms(prompt: bytes, value: object) -> None:
    assert decode(COMPLETION, b'{"model":"m","prompt":' + prompt + b"}").prompt == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)


@given(body=st.binary() | JSON.map(msgspec.json.encode))
def test_no_body_does_anything_but_decode_or_be_refused(body: bytes) -> None:
    decoders: list[msgspec.json.Decoder[Any]] = [CHAT, COMPLETION]
    for decoder in decoders:
        error = attempt(decoder, body)
        assert error is None or error.status == 400


@given(name=st.sampled_from(ChatRequest.__struct_fields__), value=JSON)
def test_no_value_of_a_field_does_anything_but_decode_or_be_refused(name: str, value: Any) -> None:
    fields = {"model": "m", "messages": [], name: value}
    error = attempt(CHAT, msgspec.json.encode(fields))
    assert error is None or (error.param or "").startswith(name)
