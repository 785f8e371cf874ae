from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tokenizers import Tokenizer, processors

from muster.frontend.api_error import ApiError
from muster.frontend.embeddings.prepare import for_text, for_tokens
from muster.frontend.embeddings.requests import (
    MAX_INPUTS,
    EmbeddingsRequest,
    Input,
    check,
    inputs_of,
)
from muster.frontend.served_model import ServedModel
from muster.llm.embedding import EmbeddingRequest
from muster.testing.scripted import ScriptedModel
from muster.testing.tiny_model import BOS, EOS, token_ids, write_tiny_model

CONTEXT = 16


def request(**fields: Any) -> EmbeddingsRequest:
    return msgspec.convert({"model": "m", "input": "hi"} | fields, EmbeddingsRequest)


@pytest.fixture
def model(tmp_path: Path) -> ServedModel:
    """One whose tokenizer begins and ends texts with a token."""
    write_tiny_model(tmp_path)
    path = str(tmp_path / "tokenizer.json")
    tokenizer = Tokenizer.from_file(path)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A <|eos|>", special_tokens=[("<|bos|>", BOS), ("<|eos|>", EOS)]
    )
    tokenizer.save(path)
    return ScriptedModel(tmp_path, "m", context_length=CONTEXT).served


def tokens_of(model: ServedModel, *, adding: bool = True, **fields: Any) -> EmbeddingRequest:
    body = request(**fields)
    return for_tokens(body, inputs_of(body), model, add_special_tokens=adding)


def refusal(model: ServedModel, **fields: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        tokens_of(model, **fields)
    return caught.value


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1, 2], [3]], [[1, 2], [3]]),
    ],
)
def test_an_input_has_one_of_four_forms(given: Any, expected: list[Input]) -> None:
    assert inputs_of(request(input=given)) == expected


@pytest.mark.parametrize(
    "bad", ["", [], [""], ["a", ""], [[]], [[1], []], [1, "a"], [[1], "a"], [[1], 2]]
)
def test_an_empty_or_mixed_input_is_refused(bad: Any) -> None:
    with pytest.raises(ApiError) as caught:
        inputs_of(request(input=bad))
    assert (caught.value.status, caught.value.param) == (400, "input")


def test_so_many_inputs_and_no_more() -> None:
    assert len(inputs_of(request(input=["a"] * MAX_INPUTS))) == MAX_INPUTS
    with pytest.raises(ApiError, match="2048 inputs"):
        inputs_of(request(input=["a"] * (MAX_INPUTS + 1)))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("dimensions", 0), ("dimensions", -1), ("dimensions", 1 << 32), ("user", "")),
        *(("truncate_prompt_tokens", 0), ("truncate_prompt_tokens", -2), ("model", "")),
    ],
)
def test_values_out_of_bounds_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ApiError) as caught:
        check(request(**{field: value}))
    assert (caught.value.status, caught.value.param) == (400, field)


def test_texts_are_tokenized_with_the_tokens_around_them(model: ServedModel) -> None:
    asked = tokens_of(model, input=["hi", "yo"])
    around = [[BOS, *token_ids(text), EOS] for text in ("hi", "yo")]
    assert asked.inputs == around
    assert tokens_of(model, adding=False).inputs == [token_ids("hi")]
    assert tokens_of(model, add_special_tokens=False).inputs == [token_ids("hi")]
    assert tokens_of(model, adding=False, add_special_tokens=True).inputs == around[:1]
    assert asked.model == "m"
    assert asked.mdc_sum == model.mdc_sum


def test_ids_are_taken_as_they_are(model: ServedModel) -> None:
    asked = tokens_of(model, input=[[1, 2, 3], [4]], truncate_prompt_tokens=2)
    assert asked.inputs == [[1, 2, 3], [4]]
    assert asked.truncate_prompt_tokens == 2


def test_a_text_is_cut_where_that_is_asked_for(model: ServedModel) -> None:
    long = "x" * 40
    cut = [BOS, *token_ids(long)]
    assert tokens_of(model, input=long, truncate_prompt_tokens=3).inputs == [cut[:3]]
    assert tokens_of(model, input=long, truncate_prompt_tokens=-1).inputs == [cut[:CONTEXT]]
    assert tokens_of(model, input=long, truncate_prompt_tokens=CONTEXT).inputs == [cut[:CONTEXT]]
    error = refusal(model, input=long, truncate_prompt_tokens=CONTEXT + 1)
    assert error.param == "truncate_prompt_tokens"


def test_an_input_may_fill_the_context_and_no_more(model: ServedModel) -> None:
    assert len(tokens_of(model, input="x" * (CONTEXT - 2)).inputs[0]) == CONTEXT
    error = refusal(model, input=["a", "x" * (CONTEXT - 1)])
    assert (error.slug, error.param) == ("context_length_exceeded", "input")
    assert "Input 1 has 17 tokens" in error.message
    assert "16 tokens" in error.message
    assert refusal(model, input=[1] * 17).slug == "context_length_exceeded"


def test_ids_outside_the_vocabulary_are_refused(model: ServedModel) -> None:
    assert tokens_of(model, input=[259]).inputs == [[259]]
    error = refusal(model, input=[1, 260])
    assert "ends at 259" in error.message


def test_a_worker_that_takes_text_gets_what_the_client_sent() -> None:
    model = ServedModel.__new__(ServedModel)
    object.__setattr__(model, "name", "real")
    body = request(input=["hi"], dimensions=3, nvext={"annotations": ["x"], "other": 1})
    assert msgspec.to_builtins(for_text(body, model)) == {
        "model": "real",
        "input": ["hi"],
        "dimensions": 3,
        "nvext": {"annotations": ["x"]},
    }
