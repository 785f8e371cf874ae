"""The engine protocol on the wire: what is written, what is read, what is forgiven."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from muster.errors import EngineError, ProtocolError
from muster.llm.protocol import (
    AnnotatedOutput,
    CompletionUsage,
    EngineOutput,
    EngineRequest,
    StopConditions,
    as_output,
    as_request,
    openai_finish_reason,
)

# The request a Dynamo 1.6.1 frontend sent for the chat "hi" with max_tokens 1 (lists shortened).
CAPTURED: dict[str, Any] = {
    "model": "tiny",
    "token_ids": [258, 104, 105],
    "stop_conditions": {
        "max_tokens": 1,
        "stop": None,
        "stop_token_ids": None,
        "stop_token_ids_visible": None,
        "stop_token_ids_hidden": [257, 259],
        "min_tokens": None,
        "ignore_eos": None,
        "max_thinking_tokens": None,
    },
    "sampling_options": {
        "n": None,
        "best_of": None,
        "presence_penalty": None,
        "frequency_penalty": None,
        "repetition_penalty": None,
        "temperature": None,
        "top_p": None,
        "top_k": None,
        "min_p": None,
        "use_beam_search": None,
        "length_penalty": None,
        "seed": None,
        "include_stop_str_in_output": None,
        "guided_decoding": None,
    },
    "output_options": {
        "logprobs": None,
        "prompt_logprobs": None,
        "skip_special_tokens": None,
        "formatted_prompt": None,
        "return_tokens_as_token_ids": None,
    },
    "eos_token_ids": [257, 259],
    "mdc_sum": "d759",
    "annotations": [],
    "routing": {},
    "router_config_override": None,
}


class TestRequest:
    def test_is_written_as_dynamo_writes_it(self) -> None:
        request = EngineRequest(
            model="tiny",
            token_ids=[258, 104, 105],
            stop_conditions=StopConditions(max_tokens=1).with_eos([257, 259]),
            eos_token_ids=[257, 259],
            mdc_sum="d759",
        )
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(request)) == CAPTURED

    def test_comes_back_as_it_was(self) -> None:
        assert msgspec.to_builtins(as_request(CAPTURED)) == CAPTURED

    def test_unknown_fields_are_ignored_at_every_level(self) -> None:
        body = {**CAPTURED, "news": 1, "stop_conditions": {"max_tokens": 2, "news": [1]}}
        assert as_request(body).stop_conditions == StopConditions(max_tokens=2)

    def test_optional_fields_are_written_only_when_set(self) -> None:
        assert "_HEALTH_CHECK" not in msgspec.to_builtins(as_request(CAPTURED))
        body = {**CAPTURED, "_HEALTH_CHECK": True, "extra_args": {"a": 1}, "prefill_result": None}
        assert msgspec.to_builtins(as_request(body)) == body

    def test_a_missing_or_mistyped_field_is_named(self) -> None:
        with pytest.raises(ProtocolError, match="token_ids"):
            as_request({"model": "m"})
        with pytest.raises(ProtocolError, match=r"stop_conditions\.max_tokens"):
            as_request({"model": "m", "token_ids": [], "stop_conditions": {"max_tokens": "x"}})

    def test_requests_do_not_share_their_defaults(self) -> None:
        first = EngineRequest(model="m", token_ids=[])
        first.annotations.append("x")
        assert EngineRequest(model="m", token_ids=[]).annotations == []


class TestStopConditions:
    def test_eos_ids_are_sent_as_hidden_stops(self) -> None:
        assert StopConditions(stop=["x"]).with_eos([7]) == StopConditions(
            stop=["x"], stop_token_ids_hidden=[7]
        )

    def test_ignore_eos_sends_none_and_keeps_what_the_client_asked_for(self) -> None:
        asked = StopConditions(stop=["x"], stop_token_ids=[3], ignore_eos=True)
        assert asked.with_eos([7]) == asked


class TestOutput:
    def test_tokens_are_written_even_if_there_are_none(self) -> None:
        assert msgspec.json.encode(EngineOutput()) == b'{"token_ids":[]}'
        assert msgspec.json.encode(EngineOutput(token_ids=[1], finish_reason="stop")) == (
            b'{"token_ids":[1],"finish_reason":"stop"}'
        )

    def test_everything_but_what_was_sent_has_its_default(self) -> None:
        item = msgspec.msgpack.encode(
            {"token_ids": [5], "index": 2, "news": {"a": 1}, "text": None}
        )
        assert msgspec.msgpack.decode(item, type=EngineOutput) == EngineOutput(
            token_ids=[5], index=2
        )

    def test_tokens_may_be_left_out(self) -> None:
        assert msgspec.json.decode(b"{}", type=EngineOutput).token_ids == []

    def test_usage_and_scores_are_typed(self) -> None:
        output = as_output(
            {
                "token_ids": [5],
                "log_probs": [-0.5],
                "top_logprobs": [[{"rank": 1, "token_id": 5, "token": "H", "logprob": -0.5}]],
                "completion_usage": {
                    "prompt_tokens": 3,
                    "completion_tokens": 1,
                    "total_tokens": 4,
                    "prompt_tokens_details": {"cached_tokens": 2},
                },
            }
        )
        assert output.top_logprobs is not None
        assert output.top_logprobs[0][0].token == "H"
        assert isinstance(output.completion_usage, CompletionUsage)
        assert output.completion_usage.prompt_tokens_details is not None
        assert output.completion_usage.prompt_tokens_details.cached_tokens == 2

    def test_an_output_passes_through(self) -> None:
        output = EngineOutput(token_ids=[1])
        assert as_output(output) is output

    def test_an_engines_mistake_is_the_engines(self) -> None:
        with pytest.raises(EngineError, match="token_ids"):
            as_output({"token_ids": "x"})

    def test_the_wrapper_omits_absent_keys(self) -> None:
        wrapped = AnnotatedOutput(data=EngineOutput(token_ids=[1]))
        assert msgspec.json.encode(wrapped) == b'{"data":{"token_ids":[1]}}'


class TestFinishReason:
    @pytest.mark.parametrize(
        ("reason", "said"),
        [
            ("eos", "stop"),
            ("stop", "stop"),
            ("length", "length"),
            ("content_filter", "content_filter"),
            ("cancelled", "stop"),
            ("abort", "stop"),
        ],
    )
    def test_is_said_in_openais_words(self, reason: str, said: str) -> None:
        assert openai_finish_reason(reason) == said

    @pytest.mark.parametrize(
        ("reason", "message"),
        [
            ("error: out of memory", "^out of memory$"),
            ("error", "without a text"),
            ("bored", "unknown finish reason 'bored'"),
        ],
    )
    def test_an_error_is_an_error(self, reason: str, message: str) -> None:
        with pytest.raises(EngineError, match=message):
            openai_finish_reason(reason)
