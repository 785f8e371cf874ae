"""Headers, ``nvext`` and fields about the way of a request."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from muster.frontend.api_error import ApiError
from muster.frontend.openai.limits import check_chat, check_completion
from muster.frontend.openai.requests import ChatRequest, CompletionRequest, decode
from muster.frontend.openai.steering import Steering, steer
from muster.llm.protocol import EngineRequest


def chat(**fields: Any) -> ChatRequest:
    messages = [{"role": "user", "content": "x"}]
    return msgspec.convert({"model": "m", "messages": messages, **fields}, ChatRequest)


def said(headers: dict[bytes, bytes] | None = None, **fields: Any) -> Steering:
    found = steer(chat(**fields), headers or {})
    assert found is not None
    return found


def test_usual_requests_say_nothing() -> None:
    assert steer(chat(), {b"x-request-id": b"a", b"host": b"b"}) is None


@pytest.mark.parametrize(
    ("headers", "routing"),
    [
        ({b"x-dynamo-request-priority": b"3"}, {"priority": 3, "priority_jump": 3.0}),
        ({b"x-dynamo-request-priority": b"-3"}, {"priority": -3, "priority_jump": 0.0}),
        ({b"x-dynamo-request-strict-priority": b"4"}, {"strict_priority": 4}),
        ({b"x-dynamo-prefill-instance-id": b"3"}, {"prefill_worker_id": 3}),
        ({b"x-prefill-dp-rank": b"3"}, {"prefill_dp_rank": 3}),
        (
            {b"x-dynamo-worker-instance-id": b"18446744073709551615", b"x-dp-rank": b"1"},
            {"backend_instance_id": 2**64 - 1, "decode_worker_id": 2**64 - 1, "dp_rank": 1},
        ),
        (
            {b"x-worker-instance-id": b"1", b"x-dynamo-worker-instance-id": b"2"},
            {"backend_instance_id": 2, "decode_worker_id": 2},
        ),
    ],
)
def test_headers_become_routing(headers: dict[bytes, bytes], routing: dict[str, Any]) -> None:
    assert said(headers).routing == routing


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x-dynamo-request-priority", b"soon"),
        (b"x-dynamo-request-priority", b"2147483648"),
        (b"x-dynamo-request-priority", b"--1"),
        (b"x-dynamo-request-strict-priority", b"-1"),
        (b"x-worker-instance-id", b"18446744073709551616"),
        (b"x-worker-instance-id", b"1" * 5000),
        (b"x-dp-rank", b"1.5"),
        (b"x-dp-rank", "\u0661".encode()),
    ],
)
def test_a_header_that_is_no_such_number_is_refused_by_name(name: bytes, value: bytes) -> None:
    with pytest.raises(ApiError, match=name.decode()) as caught:
        steer(chat(), {name: value})
    assert caught.value.status == 400


def test_a_rank_needs_its_instance() -> None:
    with pytest.raises(ApiError, match="rank"):
        steer(chat(), {b"x-dp-rank": b"1"})
    with pytest.raises(ApiError, match="rank"):
        steer(chat(nvext={"dp_rank": 1}), {})
    assert said(nvext={"dp_rank": 1, "decode_worker_id": 7}).routing["backend_instance_id"] == 7


def test_a_salt_is_the_tenants_then_nvexts_then_the_fields() -> None:
    both: dict[str, Any] = {"cache_salt": "field", "nvext": {"cache_salt": "nvext"}}
    for found, salt in (
        (said({b"x-tenant-id": b"tenant"}, **both), "tenant"),
        (said({b"x-tenant-id": b""}, **both), "nvext"),
        (said(cache_salt="field", nvext={"cache_salt": ""}), "field"),
    ):
        assert found.routing == {"cache_salt": salt}
        assert found.passed_on == {"cache_salt": salt}


def test_metadata_has_the_rest_of_the_headers_name() -> None:
    headers = {b"x-dynamo-meta-a_b": b"1", b"x-dynamo-meta-": b"2", b"x-dynamo-meta-c": b"\xc3"}
    assert said(headers).metadata == {"a_b": "1"}


def test_headers_win_over_hints_and_hints_over_vllms_field() -> None:
    hints = {"agent_hints": {"priority": 9, "osl": 7}}
    found = said({b"x-dynamo-request-priority": b"2"}, nvext=hints, priority=5).routing
    assert found == {"priority": 2, "priority_jump": 2.0, "expected_output_tokens": 7}
    assert said(nvext=hints, priority=5).routing["priority"] == 9
    assert said(priority=5).routing == {"priority": -5, "priority_jump": 0.0}


def test_without_nvext_only_salts_metadata_and_instances_count() -> None:
    request = chat(nvext={"cache_salt": "s", "agent_hints": {"priority": 9}}, priority=5)
    headers = {
        b"x-dynamo-request-priority": b"2",
        b"x-dynamo-meta-a": b"1",
        b"x-worker-instance-id": b"4",
    }
    found = steer(request, headers, nvext=False)
    assert found is not None
    assert found.routing == {"backend_instance_id": 4, "decode_worker_id": 4, "cache_salt": "s"}
    assert found.metadata == {"a": "1"}


def test_all_of_it_goes_into_the_engines_request() -> None:
    nvext = {
        "annotations": ["request_id"],
        "extra_fields": ["timing"],
        "token_data": [1],
        "request_timestamp_ms": 1.5,
        "router": {"ttft_target": 2},
        "routing_constraints": {"preferred_taints": {"a": 1.0}},
    }
    asked = EngineRequest(
        model="m", token_ids=[1], routing={"lora_name": "l"}, extra_args={"logit_bias": {"1": 2.0}}
    )
    found = said(nvext=nvext).applied(asked)
    assert found.annotations == ["request_id"]
    assert found.request_timestamp_ms == 1.5
    assert found.router == {"ttft_target": 2.0}
    assert found.routing == {
        "lora_name": "l",
        "routing_constraints": {"preferred_taints": {"a": 1.0}},
    }
    assert found.extra_args == {
        "logit_bias": {"1": 2.0},
        "nvext": {"extra_fields": ["timing"], "token_in": True},
    }


@pytest.mark.parametrize(
    ("nvext", "fields", "param"),
    [
        ({"metadata_upload": {"url": "x"}}, {}, "nvext.metadata_upload"),
        (
            {"routing_constraints": {"required_taints": ["a"]}},
            {},
            "nvext.routing_constraints.required_taints",
        ),
        ({"token_data": []}, {}, "nvext.token_data"),
        ({"token_data": [1], "use_raw_prompt": True}, {}, "nvext.use_raw_prompt"),
        ({"backend_instance_id": 2**64}, {}, "nvext.backend_instance_id"),
        ({"extra_fields": ["completion_token_ids"]}, {"n": 2}, "nvext.extra_fields"),
        ({"greed_sampling": True}, {"n": 2}, "n"),
        (
            {"use_raw_prompt": True},
            {"messages": [{"role": "user", "content": "x"}] * 2},
            "nvext.use_raw_prompt",
        ),
    ],
)
def test_what_nvext_asks_for_in_vain_is_refused(
    nvext: dict[str, Any], fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(ApiError) as caught:
        check_chat(chat(nvext=nvext, **fields))
    assert (caught.value.status, caught.value.param) == (400, param)


def test_one_prompts_tokens_cannot_stand_for_two_prompts() -> None:
    def completion(prompt: Any) -> CompletionRequest:
        fields = {"model": "m", "prompt": prompt, "nvext": {"token_data": [1]}}
        return msgspec.convert(fields, CompletionRequest)

    for prompt in ("x", ["x"], [5, 6], [[5, 6]]):
        check_completion(completion(prompt))
    with pytest.raises(ApiError) as caught:
        check_completion(completion(["x", "y"]))
    assert caught.value.param == "nvext.token_data"


@pytest.mark.parametrize("nvext", ['{"foo": 1}', '{"agent_hints": {"foo": 1}}'])
def test_a_name_nobody_knows_is_refused_with_it(nvext: str) -> None:
    body = f'{{"model": "m", "messages": [], "nvext": {nvext}}}'.encode()
    with pytest.raises(ApiError, match="foo") as caught:
        decode(msgspec.json.Decoder(ChatRequest), body)
    assert (caught.value.param or "").startswith("nvext")
