"""The wire form of embeddings: what was seen of Dynamo 1.6.1, byte for byte where it matters."""

from __future__ import annotations

import base64
import struct

import msgspec
import pytest

from muster.errors import EngineError, InvalidArgument
from muster.llm.embedding import (
    EmbeddingOutput,
    EmbeddingRequest,
    TextEmbeddingRequest,
    floats_of,
    pack_floats,
    read_embedding_request,
)


def on_the_wire(value: object) -> object:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value))


def output(body: object) -> EmbeddingOutput:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(body), type=EmbeddingOutput)


def test_a_request_for_tokens_has_the_peers_keys_and_no_others() -> None:
    request = EmbeddingRequest(inputs=[[1, 2], [3]], model="m", mdc_sum="a8")
    assert on_the_wire(request) == {
        "token_ids": [[1, 2], [3]],
        "model": "m",
        "dimensions": None,
        "mdc_sum": "a8",
        "annotations": [],
    }
    full = msgspec.structs.replace(request, encoding_format="base64", truncate_prompt_tokens=5)
    assert on_the_wire(full) == on_the_wire(request) | {  # type: ignore[operator]
        "encoding_format": "base64",
        "truncate_prompt_tokens": 5,
    }


def test_a_request_for_text_has_only_what_is_set() -> None:
    assert on_the_wire(TextEmbeddingRequest(model="m", input=["a"])) == {
        "model": "m",
        "input": ["a"],
    }
    request = TextEmbeddingRequest(model="m", input=[1], dimensions=2, user="bob")
    assert on_the_wire(request) == {"model": "m", "input": [1], "user": "bob", "dimensions": 2}


def test_requests_are_measured_by_the_tokens_of_all_inputs() -> None:
    assert len(EmbeddingRequest(inputs=[[1, 2], [3]]).token_ids) == 3
    assert len(TextEmbeddingRequest(model="m", input="abc").token_ids) == 0


def test_both_forms_of_an_answer_are_read() -> None:
    tokens = output({"embeddings": ["AAAA", [1.0]], "prompt_tokens": 3, "total_tokens": 3})
    assert tokens.vectors() == ["AAAA", [1.0]]
    assert tokens.counted_tokens == 3
    item = {"object": "embedding", "embedding": "AAAA", "index": 1}
    data = [item, item | {"index": 0, "embedding": "BBBB"}]
    usage = {"prompt_tokens": 7, "total_tokens": 7}
    text = output({"object": "list", "data": data, "model": "x", "usage": usage})
    assert text.vectors() == ["BBBB", "AAAA"]
    assert text.counted_tokens == 7
    with pytest.raises(EngineError, match="no embeddings"):
        output({"token_ids": [1]}).vectors()


def test_floats_are_little_endian_and_come_back_exactly() -> None:
    packed = pack_floats([0.5, -0.25, 1e-3])
    assert packed == "AAAAPwAAgL5vEoM6"  # what the peer gives its clients for these
    assert base64.b64decode(packed) == struct.pack("<3f", 0.5, -0.25, 1e-3)
    assert floats_of(packed) == [*struct.unpack("<3f", base64.b64decode(packed))]
    assert floats_of([1.0, 2.0]) == [1.0, 2.0]


@pytest.mark.parametrize("bad", ["AAA", "AAAAAAA=", "!!!!", "é"])
def test_what_is_no_base64_of_floats_is_the_engines_mistake(bad: str) -> None:
    with pytest.raises(EngineError, match="base64"):
        floats_of(bad)


def test_what_is_no_vector_is_the_engines_mistake() -> None:
    with pytest.raises(EngineError, match="vector"):
        pack_floats(["a"])  # type: ignore[list-item]


def test_another_request_is_told_what_is_wrong() -> None:
    with pytest.raises(InvalidArgument, match="token_ids") as caught:
        read_embedding_request({"token_ids": [1, 2]})
    assert "ModelType.Embedding" in (caught.value.hint or "")
    request = EmbeddingRequest(inputs=[[1]])
    assert read_embedding_request(request) is request
    probe = read_embedding_request({"token_ids": [[1]], "_HEALTH_CHECK": True, "unknown": 1})
    assert probe.health_check is True
