"""The smaller records of a card: media, tensors, indexer identity, LoRA."""

import json
from typing import Any, TypeVar

import pytest

from muster.errors import CardError
from muster.model.indexer_identity import INDEXER_IDENTITY, IndexerIdentity
from muster.model.lora import LORA_INFO, LoraInfo
from muster.model.media import (
    MEDIA_DECODER,
    MEDIA_FETCHER,
    Duration,
    ImageDecoder,
    ImageLimits,
    MediaDecoder,
    MediaFetcher,
)
from muster.model.strictjson.compound import Record
from muster.model.strictjson.reader import read
from muster.model.strictjson.writer import dump
from muster.model.tensor_config import TENSOR_MODEL_CONFIG, ParameterKind, TensorParameter

T = TypeVar("T")

FETCHER = {
    "user_agent": "dynamo-ai/dynamo",
    "allow_direct_ip": False,
    "allow_direct_port": False,
    "allow_private_ips": False,
    "allowed_media_domains": None,
    "timeout": {"secs": 30, "nanos": 0},
}


def parse(record: Record[T], content: Any) -> T:
    return record.read(read(json.dumps(content)), "it")


# --- media


def test_the_default_fetcher_is_written_as_dynamo_writes_it() -> None:
    assert json.loads(dump(MEDIA_FETCHER.write(MediaFetcher()))) == FETCHER
    assert parse(MEDIA_FETCHER, FETCHER) == MediaFetcher()


@pytest.mark.parametrize("name", list(FETCHER)[:4])
def test_a_fetcher_says_the_first_four(name: str) -> None:
    with pytest.raises(CardError, match=f"missing field `{name}`"):
        parse(MEDIA_FETCHER, {key: value for key, value in FETCHER.items() if key != name})


def test_an_array_says_all_of_a_fetcher() -> None:
    values: list[Any] = ["u", True, True, True, ["b", "a", "b"], None]
    assert parse(MEDIA_FETCHER, values).allowed_media_domains == ("b", "a")
    with pytest.raises(CardError, match="timeout"):
        parse(MEDIA_FETCHER, values[:-1])


@pytest.mark.parametrize(
    ("content", "duration"),
    [
        ({"secs": 1, "nanos": 1_500_000_000}, Duration(2, 500_000_000)),
        ([1, 4294967295], Duration(5, 294967295)),
        ({"secs": 2**64 - 1, "nanos": 999_999_999}, Duration(2**64 - 1, 999_999_999)),
    ],
)
def test_nanoseconds_carry_over(content: Any, duration: Duration) -> None:
    assert parse(MEDIA_FETCHER, FETCHER | {"timeout": content}).timeout == duration


@pytest.mark.parametrize(
    "content",
    [
        {"secs": 2**64 - 1, "nanos": 10**9},
        {"secs": 1},
        {"secs": 1, "nanos": 1, "x": 1},
        {"secs": 1, "nanos": 2**32},
        [1],
        30,
    ],
)
def test_what_is_no_duration(content: Any) -> None:
    with pytest.raises(CardError, match=r"it\.timeout"):
        parse(MEDIA_FETCHER, FETCHER | {"timeout": content})


@pytest.mark.parametrize(
    ("content", "decoder"),
    [
        ({}, MediaDecoder()),
        ({"video": {}}, MediaDecoder()),
        ({"image": {}}, MediaDecoder(image=ImageDecoder())),
        ({"image": {"limits": {}}}, MediaDecoder(image=ImageDecoder(limits=ImageLimits()))),
    ],
)
def test_decoders(content: Any, decoder: MediaDecoder) -> None:
    assert parse(MEDIA_DECODER, content) == decoder


def test_no_limits_said_is_128_mib() -> None:
    text = dump(MEDIA_DECODER.write(MediaDecoder(image=ImageDecoder())))
    assert json.loads(text)["image"]["limits"] == {
        "max_image_width": None,
        "max_image_height": None,
        "max_alloc": 134217728,
    }


@pytest.mark.parametrize("content", [{"x": 1}, {"limits": None}, {"limits": {"x": 1}}, 1])
def test_what_is_no_image_decoder(content: Any) -> None:
    with pytest.raises(CardError, match=r"it\.image"):
        parse(MEDIA_DECODER, {"image": content})


# --- tensors


def tensor(**fields: Any) -> dict[str, Any]:
    return {"name": "i", "data_type": "Int32", "shape": [1, -1]} | fields


def test_a_tensor_model_is_kept() -> None:
    content = {
        "name": "t",
        "inputs": [tensor(parameters={"a": {"int64": -1}, "b": {"double": 0.5}})],
        "outputs": [tensor()],
        "triton_model_config": [0, 255],
    }
    config = parse(TENSOR_MODEL_CONFIG, content)
    assert config.triton_model_config == b"\0\xff"
    assert config.inputs[0].parameters["a"] == TensorParameter(ParameterKind.INT64, -1)
    assert json.loads(dump(TENSOR_MODEL_CONFIG.write(config))) == content


@pytest.mark.parametrize(
    "fields",
    [
        {"x": 1},
        {"data_type": "INT32"},
        {"shape": [1.0]},
        {"shape": [2**63]},
        {"parameters": None},
        {"parameters": {"a": 1}},
        {"parameters": {"a": {"int64": 1.5}}},
        {"parameters": {"a": {"float": 1}}},
    ],
)
def test_what_is_no_tensor(fields: dict[str, Any]) -> None:
    with pytest.raises(CardError, match=r"it\.inputs\[0\]"):
        parse(TENSOR_MODEL_CONFIG, {"name": "t", "inputs": [tensor(**fields)], "outputs": []})


@pytest.mark.parametrize("content", [[256], [-1], "x", [1.0]])
def test_triton_bytes_are_numbers_of_8_bits(content: Any) -> None:
    with pytest.raises(CardError, match="triton_model_config"):
        parse(
            TENSOR_MODEL_CONFIG,
            {"name": "t", "inputs": [], "outputs": [], "triton_model_config": content},
        )


# --- indexer identity


def test_facts_are_sorted() -> None:
    identity = parse(INDEXER_IDENTITY, {"semantics": {"b": "1", "a": "2"}})
    assert dump(INDEXER_IDENTITY.write(identity)) == '{"semantics":{"a":"2","b":"1"}}'


def test_facts_made_here_are_written_sorted() -> None:
    identity = IndexerIdentity(routing_scope={"b": "1", "a": "2"})
    assert dump(INDEXER_IDENTITY.write(identity)) == '{"routing_scope":{"a":"2","b":"1"}}'


@pytest.mark.parametrize(
    "facts", [{"k": "v"}, {"k" * 128: "v" * 1024}, {str(n): "v" for n in range(32)}]
)
def test_facts_within_the_limits(facts: dict[str, str]) -> None:
    assert parse(INDEXER_IDENTITY, {"semantics": facts}).semantics == facts


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({}, "at least one entry"),
        ({str(n): "v" for n in range(33)}, "more than 32 entries"),
        ({"": "v"}, "key must not be empty"),
        ({"k": ""}, "value for `k` must not be empty"),
        ({"é" * 65: "v"}, "exceeds 128 UTF-8 bytes"),
        ({"k": "v" * 1025}, "exceeds 1024 UTF-8 bytes"),
        ({"k": 1}, "expected a string"),
        ([], "expected a map"),
    ],
)
def test_facts_beyond_the_limits(facts: Any, message: str) -> None:
    with pytest.raises(CardError, match=message):
        parse(INDEXER_IDENTITY, {"semantics": facts})


def test_facts_are_said_once() -> None:
    with pytest.raises(CardError, match="duplicate key `a`"):
        INDEXER_IDENTITY.read(read('{"semantics":{"a":"1","a":"1"}}'), "it")


# --- LoRA


@pytest.mark.parametrize(
    ("content", "lora"),
    [
        ({"name": "l"}, LoraInfo(name="l")),
        ({"name": "l", "max_gpu_lora_count": None, "path": "x"}, LoraInfo(name="l")),
        (["l", 4], LoraInfo(name="l", max_gpu_lora_count=4)),
    ],
)
def test_lora(content: Any, lora: LoraInfo) -> None:
    assert parse(LORA_INFO, content) == lora


def test_a_lora_has_a_name() -> None:
    with pytest.raises(CardError, match="missing field `name`"):
        parse(LORA_INFO, {})
