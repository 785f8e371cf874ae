from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest

from muster.frontend.api_error import ApiError
from muster.frontend.openai import prepare
from muster.frontend.openai.requests import ChatRequest, CompletionRequest
from muster.llm.generation import SamplingDefaults
from muster.testing.scripted import ScriptedModel
from muster.testing.tiny_model import EOS, IM_END


def chat(**fields: Any) -> ChatRequest:
    return msgspec.convert({"model": "m", "messages": []} | fields, ChatRequest)


def completion(**fields: Any) -> CompletionRequest:
    return msgspec.convert({"model": "m", "prompt": "p"} | fields, CompletionRequest)


@pytest.mark.parametrize(
    ("context", "prompt", "wanted", "room"),
    [
        (100, 40, None, 60),
        (100, 40, 10, 10),
        (100, 40, 61, 60),
        (100, 99, None, 1),
        (0, 10**6, None, prepare.DEFAULT_MAX_TOKENS),
        (0, 10**6, 7, 7),
    ],
)
def test_the_reply_gets_what_it_wants_within_what_is_left(
    model: ScriptedModel, context: int, prompt: int, wanted: int | None, room: int
) -> None:
    served = dataclasses.replace(model.served, context_length=context)
    assert prepare.room_for(served, prompt, wanted) == room


@pytest.mark.parametrize("prompt", [100, 101])
def test_a_prompt_that_leaves_no_room_is_refused_with_both_numbers(
    model: ScriptedModel, prompt: int
) -> None:
    served = dataclasses.replace(model.served, context_length=100)
    with pytest.raises(ApiError, match=rf"{prompt} tokens.*100 tokens") as caught:
        prepare.room_for(served, prompt, 1)
    assert caught.value.slug == "context_length_exceeded"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"top_logprobs": 5}, None),
        ({"logprobs": False, "top_logprobs": 5}, None),
        ({"logprobs": True}, prepare.Scoring(top=0, asked=1)),
        ({"logprobs": True, "top_logprobs": 0}, prepare.Scoring(top=0, asked=0)),
        ({"logprobs": True, "top_logprobs": 5}, prepare.Scoring(top=5, asked=5)),
    ],
)
def test_chat_scores_are_asked_for_by_logprobs(
    fields: dict[str, Any], expected: prepare.Scoring | None
) -> None:
    assert prepare.chat_scoring(chat(**fields)) == expected


def test_completion_scores_may_be_of_the_chosen_token_alone() -> None:
    assert prepare.completion_scoring(completion()) is None
    assert prepare.completion_scoring(completion(logprobs=0)) == prepare.Scoring(top=0, asked=0)


def test_max_completion_tokens_wins(model: ScriptedModel) -> None:
    request = chat(max_tokens=5, max_completion_tokens=6)
    prepared = prepare.chat_request(request, model.served, [1], None)
    assert prepared.stop_conditions.max_tokens == 6


def test_the_canonical_name_and_the_eos_ids_go_to_the_engine(model: ScriptedModel) -> None:
    prepared = prepare.chat_request(chat(stop="x"), model.served, [1], None)
    assert prepared.model == "tiny"
    assert set(prepared.eos_token_ids) == {EOS, IM_END}
    assert prepared.stop_conditions.stop == ["x"]
    assert set(prepared.stop_conditions.stop_token_ids_hidden or ()) == {EOS, IM_END}


def test_best_of_goes_to_the_engine(model: ScriptedModel) -> None:
    prepared = prepare.completion_request(completion(best_of=3, n=2), model.served, [1], None)
    assert (prepared.sampling_options.best_of, prepared.sampling_options.n) == (3, 2)


def test_an_engine_that_is_to_ignore_eos_is_not_told_of_it(model: ScriptedModel) -> None:
    asked = prepare.chat_request(chat(ignore_eos=True, stop=["x"]), model.served, [1], None)
    assert asked.eos_token_ids == []
    assert asked.stop_conditions.stop_token_ids_hidden is None
    assert asked.stop_conditions.stop == ["x"]
    assert asked.stop_conditions.ignore_eos is True


def test_an_overlong_prompt_names_the_field_it_came_from(model: ScriptedModel) -> None:
    served = dataclasses.replace(model.served, context_length=2)
    with pytest.raises(ApiError) as chatted:
        prepare.chat_request(chat(), served, [1, 2], None)
    with pytest.raises(ApiError) as completed:
        prepare.completion_request(completion(), served, [1, 2], None)
    assert (chatted.value.param, completed.value.param) == ("messages", "prompt")


def test_biases_of_tokens_reach_the_engine_beside_its_options(model: ScriptedModel) -> None:
    asked = prepare.chat_request(chat(logit_bias={"5": -100}), model.served, [1], None)
    assert asked.extra_args == {"logit_bias": {"5": -100}}
    plain = prepare.chat_request(chat(), model.served, [1], None)
    assert plain.extra_args is msgspec.UNSET


DEFAULTS = SamplingDefaults(
    temperature=0.6, top_p=0.95, top_k=0, repetition_penalty=1.05, max_new_tokens=7, do_sample=True
)


@pytest.mark.parametrize(
    ("fields", "change", "expected"),
    [
        ({}, {}, (0.6, 0.95, -1, 1.05)),
        ({"temperature": 1.0, "top_k": 5}, {}, (1.0, 0.95, 5, 1.05)),
        ({"temperature": 0.0}, {}, (0.0, None, None, 1.05)),
        ({}, {"do_sample": False}, (None, None, None, 1.05)),
        ({}, {"do_sample": None, "top_k": 20}, (0.6, 0.95, 20, 1.05)),
        ({"repetition_penalty": 1.2}, {"temperature": None}, (None, 0.95, -1, 1.2)),
    ],
)
def test_the_models_own_sampling_fills_what_is_not_named(
    model: ScriptedModel, fields: dict[str, Any], change: dict[str, Any], expected: Any
) -> None:
    defaults = msgspec.structs.replace(DEFAULTS, **change)
    served = dataclasses.replace(model.served, sampling=defaults)
    prepared = prepare.chat_request(chat(**fields), served, [1], None)
    found = prepared.sampling_options
    assert (found.temperature, found.top_p, found.top_k, found.repetition_penalty) == expected
    assert prepared.stop_conditions.max_tokens == 2047
