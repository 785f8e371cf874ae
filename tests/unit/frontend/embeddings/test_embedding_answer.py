from __future__ import annotations

import base64
import json
import struct
from typing import Any

import msgspec
import pytest

from muster.errors import EngineError
from muster.frontend.embeddings.answer import render, size_of, vectors_of
from muster.frontend.embeddings.requests import EmbeddingsReply, EmbeddingsRequest
from muster.llm.embedding import EmbeddingOutput, EmbeddingUsage, Vector, pack_floats

USAGE = EmbeddingUsage(prompt_tokens=5, total_tokens=5)
HALVES = [0.5, -0.25]


def answer(vectors: list[Vector], **fields: Any) -> dict[str, Any]:
    request = EmbeddingsRequest(model="m", input="x", **fields)
    body = render(request, 'a "name"', vectors, USAGE)
    msgspec.json.decode(body, type=EmbeddingsReply)  # as the document says
    found: dict[str, Any] = json.loads(body)
    return found


@pytest.mark.parametrize("form", ["base64", "numbers"])
def test_the_client_gets_the_form_it_asked_for_whatever_the_worker_sent(form: str) -> None:
    vector: Vector = pack_floats(HALVES) if form == "base64" else HALVES
    assert answer([vector, vector]) == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": HALVES},
            {"object": "embedding", "index": 1, "embedding": HALVES},
        ],
        "model": 'a "name"',
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    }
    reply = answer([vector], encoding_format="base64")
    data = base64.b64decode(reply["data"][0]["embedding"])
    assert [*struct.unpack("<2f", data)] == HALVES


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
@pytest.mark.parametrize("vector", ["AAA", "AAAA", "", "....", []])
def test_a_vector_that_is_none_is_never_passed_on(vector: Vector, encoding_format: str) -> None:
    with pytest.raises(EngineError, match="the engine's vector"):
        answer([vector], encoding_format=encoding_format)


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
@pytest.mark.parametrize("vector", [pack_floats([1.0] * 3), [1.0] * 3])
def test_vectors_of_another_length_than_asked_for_are_not_passed_on(
    vector: Vector, encoding_format: Any
) -> None:
    assert answer([vector], dimensions=3, encoding_format=encoding_format)
    with pytest.raises(EngineError, match="3 dimensions where 2"):
        answer([vector], dimensions=2, encoding_format=encoding_format)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_json_has_not_are_not_passed_on(number: float) -> None:
    with pytest.raises(EngineError, match="not finite"):
        answer([pack_floats([number])])


def test_items_are_joined_and_counted() -> None:
    outputs = [EmbeddingOutput(embeddings=["a"]), EmbeddingOutput(embeddings=["b", "c"])]
    assert vectors_of(outputs, 3) == ["a", "b", "c"]
    with pytest.raises(EngineError, match="3 embeddings for 2 inputs"):
        vectors_of(outputs, 2)


def test_the_size_of_an_answer_is_about_its_numbers() -> None:
    assert size_of([[1.0] * 100]) == 100
    assert abs(size_of([pack_floats([1.0] * 300)] * 2) - 600) <= 2
