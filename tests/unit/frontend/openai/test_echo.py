from __future__ import annotations

import json
from typing import Any

import pytest

from muster.frontend.openai.echo import Echo, EchoFrames, Preface, echo_of, prompt_logprobs
from muster.frontend.openai.frames import ChatFrames
from muster.frontend.openai.reply import CompletionLogprobs, Usage
from muster.frontend.openai.requests import ChatRequest, CompletionRequest
from muster.frontend.text_offsets import TextOffsets
from muster.testing.scripted import ScriptedModel


def scores(model: ScriptedModel, token_ids: list[int], known: Any, top: int) -> CompletionLogprobs:
    preprocessor = model.served.preprocessor
    token_bytes = preprocessor.tokenizer.token_bytes
    detokenizer = preprocessor.new_detokenizer(skip_special_tokens=False)
    offsets = TextOffsets(detokenizer, token_bytes)
    return prompt_logprobs(token_ids, known, top=top, token_bytes=token_bytes, offsets=offsets)


def events(data: bytes) -> list[Any]:
    return [json.loads(line[6:]) for line in data.decode().split("\n\n")[:-1]]


def test_only_completions_that_ask_for_it_are_echoed(model: ScriptedModel) -> None:
    served = model.served
    assert echo_of(CompletionRequest(model="m", prompt="a"), served, [[97]]) is None
    assert echo_of(ChatRequest(model="m", messages=[]), served, [[97]]) is None
    request = CompletionRequest(model="m", prompt="a", echo=True, max_tokens=3)
    assert echo_of(request, served, [[97]]) == Echo(texts=["a"], alone=False)


def test_prompts_of_ids_are_decoded_and_texts_are_kept_as_they_came(model: ScriptedModel) -> None:
    served = model.served
    ids = CompletionRequest(model="m", prompt=[[97, 98], [257]], echo=True, max_tokens=0)
    assert echo_of(ids, served, [[97, 98], [257]]) == Echo(texts=["ab", "<|eos|>"], alone=True)
    text = CompletionRequest(model="m", prompt=["x", "y"], echo=True)
    assert echo_of(text, served, [[1], [2]]) == Echo(texts=["x", "y"], alone=False)


def test_the_likeliest_tokens_are_named_and_the_first_has_none(model: ScriptedModel) -> None:
    known = [
        {"97": {"logprob": -9.0}},
        {"98": {"logprob": -2.0}, "99": {"logprob": -1.0, "decoded_token": "C"}},
        None,
    ]
    result = scores(model, [97, 98, 99, 100], known, 1)
    assert result.tokens == ["a", "b", "c", "d"]
    assert result.token_logprobs == [None, -2.0, None, None]
    assert result.top_logprobs == [None, {"C": -1.0}, None, None]
    assert result.text_offset == [0, 1, 2, 3]
    assert scores(model, [97, 98], known, 2).top_logprobs == [None, {"C": -1.0, "b": -2.0}]
    assert scores(model, [97, 98], known, 0).top_logprobs is None


@pytest.mark.parametrize("known", [None, 5, "x", {}, [{"a": {"logprob": 1}}], [None, {"98": 1}]])
def test_of_other_shapes_nothing_is_known(model: ScriptedModel, known: Any) -> None:
    assert scores(model, [97, 98], known, 1).token_logprobs == [None, None]


@pytest.mark.parametrize("alone", [False, True])
def test_each_choice_begins_with_its_prompt_once(alone: bool) -> None:
    def preface(index: int) -> Preface:
        return Preface(f"<{index}>", None)

    frames = EchoFrames("id", "m", 7, preface=preface, alone=alone)
    usage = Usage(1, 2, 3)
    data = frames.text(1, "x") + frames.opening(0, usage) + frames.opening(0)
    data += frames.chunk(1, "y", finish_reason="stop", logprobs=None, usage=usage)
    said = [
        (event["choices"][0]["index"], event["choices"][0]["text"], event["usage"] is not None)
        for event in events(data)
    ]
    if alone:
        assert said == [(1, "<1>", False), (0, "<0>", True), (1, "", True)]
        assert events(data)[-1]["choices"][0]["finish_reason"] == "length"
    else:
        assert said == [(1, "<1>", False), (1, "x", False), (0, "<0>", True), (1, "y", True)]


def test_a_chunk_that_only_says_who_speaks_can_have_usage() -> None:
    (event,) = events(ChatFrames("id", "m", 7).opening(0, Usage(1, 0, 1)))
    assert event["usage"] == {"prompt_tokens": 1, "completion_tokens": 0, "total_tokens": 1}
