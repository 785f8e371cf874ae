"""The digest, piece by piece. That the pieces are Dynamo's is for the vectors and the peer to say."""

import json
from typing import Any

import msgspec
import pytest
from blake3 import blake3

from muster.digest import Digest
from muster.model.card import ModelDeploymentCard
from muster.model.checked_file import CheckedFile

A = "a" * 64
B = "b" * 64


def parse(**fields: Any) -> ModelDeploymentCard:
    return ModelDeploymentCard.from_json_str(
        json.dumps(
            {
                "display_name": "x",
                "slug": "x",
                "kv_cache_block_size": 0,
                "migration_limit": 0,
                "model_type": "",
                "model_input": "Text",
            }
            | fields
        )
    )


def file(path: str, digest: str = A) -> dict[str, Any]:
    return {"path": path, "checksum": f"blake3:{digest}"}


def of(*pieces: bytes) -> str:
    return blake3(b"".join(pieces)).hexdigest()


ZEROS = bytes(4)
TAIL = ZEROS + ZEROS + b"\0" + ZEROS
"""Context length, block size, no worker type, no needs."""


def test_a_bare_card() -> None:
    assert parse().mdcsum() == of(b"x", TAIL)


def test_name_and_source_come_first() -> None:
    assert parse(display_name="é", source_path="/p").mdcsum() == of("é/p".encode(), TAIL)


def test_an_empty_source_adds_nothing() -> None:
    assert parse(source_path="").mdcsum() == parse().mdcsum()


def test_slots_enter_with_their_whole_checksum_text() -> None:
    card = parse(
        gen_config={"hf_generation_config_json": file("/g", B)},
        model_info={"hf_config_json": file("/c", A)},
    )
    assert card.mdcsum() == of(b"x", f"blake3:{A}blake3:{B}".encode(), TAIL)


def test_extra_files_enter_sorted_by_name_then_digest() -> None:
    extras = [file("/y", A), file("http://h/x%20y", B), file("/x", B), file("/d/x", A)]
    pieces = [f"{n}\0{d}".encode() for n, d in (("x", A), ("x", B), ("x%20y", B), ("y", A))]
    assert parse(extra_files=extras).mdcsum() == of(b"x", *pieces, TAIL)


def test_mdcsum_extras_stable_across_read_order() -> None:
    extras = [file("/y"), file("/x")]
    assert parse(extra_files=extras).mdcsum() == parse(extra_files=extras[::-1]).mdcsum()


def test_mdcsum_extras_distinguish_basename_at_equal_checksum() -> None:
    assert parse(extra_files=[file("/x")]).mdcsum() != parse(extra_files=[file("/y")]).mdcsum()


def test_an_extra_file_without_a_name_enters_with_none() -> None:
    assert parse(extra_files=[file("http://h/")]).mdcsum() == of(b"x", f"\0{A}".encode(), TAIL)


@pytest.mark.parametrize(
    ("context", "text"),
    [
        ([], "[]"),
        (["oai_chat"], "[OaiChat]"),
        (["oai_chat", "llama3_date_time"], "[OaiChat, Llama3DateTime]"),
    ],
)
def test_the_prompt_context_enters_as_rust_prints_it(context: list[str], text: str) -> None:
    assert parse(prompt_context=context).mdcsum() == of(b"x", text.encode(), TAIL)


def test_numbers_enter_big_endian() -> None:
    card = parse(architectural_max_context_length=258, kv_cache_block_size=16)
    assert card.mdcsum() == of(b"x", b"\0\0\1\2", b"\0\0\0\x10", b"\0", ZEROS)


@pytest.mark.parametrize(
    ("worker_type", "code"),
    [(None, 0), ("prefill", 1), ("decode", 2), ("encode", 3), ("aggregated", 4)],
)
def test_the_worker_type_enters_as_a_byte(worker_type: str | None, code: int) -> None:
    expected = of(b"x", ZEROS, ZEROS, bytes([code]), ZEROS)
    assert parse(worker_type=worker_type).mdcsum() == expected


def test_mdcsum_covers_worker_type_and_needs() -> None:
    card = parse(worker_type="decode", needs=[["prefill", "encode"], []])
    needs = b"\0\0\0\2" + b"\0\0\0\2\1\3" + ZEROS
    assert card.mdcsum() == of(b"x", ZEROS, ZEROS, b"\2", needs)


def test_the_router_configuration_enters_by_its_own_digest() -> None:
    router = {"router_mode": "random", "kv_router_config": {}, "load_threshold_config": {}}
    card = parse(router_config=router)
    text = card.to_json_str().partition('"router_config":')[2][:-1]
    assert '"router_ttl_secs":120.0,' in text
    assert card.mdcsum() == of(b"x", TAIL, blake3(text.encode()).digest())


def test_indexer_identity_changes_mdcsum_and_missing_field_is_backward_compatible() -> None:
    label = b"dynamo/model-card/indexer-identity/v1"
    assert parse(indexer_identity=None).mdcsum() == parse().mdcsum()
    assert parse(indexer_identity={}).mdcsum() == of(b"x", TAIL, label, b"\0\0")
    card = parse(indexer_identity={"routing_scope": {"b": "1", "a": "é"}})
    framed = b"".join(
        len(text).to_bytes(4, "little") + text for text in (b"a", "é".encode(), b"b", b"1")
    )
    assert card.mdcsum() == of(b"x", TAIL, label, b"\0", b"\1\2\0\0\0", framed)


def test_aliases_enter_counted_and_in_order() -> None:
    pieces = b"\0\0\0\2" + b"\0\0\0\1b" + b"\0\0\0\3" + "aé".encode()
    assert parse(aliases=["b", "aé"]).mdcsum() == of(b"x", TAIL, pieces)
    assert parse(aliases=[]).mdcsum() == parse().mdcsum()


TRUE_KEYS = ("vllm_enable_tower_connector_lora", "vllm_inference_v1_generate")


@pytest.mark.parametrize("key", TRUE_KEYS)
@pytest.mark.parametrize("value", [True, "true", "TRUE", " on ", "yes", "1"])
def test_engine_switches_that_are_on_enter(key: str, value: Any) -> None:
    card = parse(runtime_config={"runtime_data": {key: value}})
    assert card.mdcsum() == of(b"x", TAIL, b"\0", key.encode(), b"\0true")


@pytest.mark.parametrize("key", TRUE_KEYS)
@pytest.mark.parametrize("value", [False, None, 1, 1.0, "y", "false", "", [True], {}])
def test_engine_switches_that_are_off_do_not_enter(key: str, value: Any) -> None:
    assert parse(runtime_config={"runtime_data": {key: value}}).mdcsum() == parse().mdcsum()


def test_both_engine_switches_enter_in_a_fixed_order() -> None:
    data = dict.fromkeys(reversed(TRUE_KEYS), True)
    pieces = [b"\0" + key.encode() + b"\0true" for key in TRUE_KEYS]
    assert parse(runtime_config={"runtime_data": data}).mdcsum() == of(b"x", TAIL, *pieces)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), ({"b": {"d": 1.5, "c": "é"}, "a": []}, '{"a":[],"b":{"c":"é","d":1.5}}')],
)
def test_the_video_contract_enters_sorted(value: Any, text: str) -> None:
    key = b"vllm_nemotron_video_processor_contract"
    card = parse(runtime_config={"runtime_data": {key.decode(): value}})
    body = text.encode()
    assert card.mdcsum() == of(
        b"x",
        TAIL,
        b"\0dynamo/model-card/runtime-contract/v1\0",
        len(key).to_bytes(8, "big") + key,
        len(body).to_bytes(8, "big") + body,
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"slug": "other"},
        {"migration_limit": 5},
        {"model_type": "Chat"},
        {"model_input": "Tokens"},
        {"lora": {"name": "l"}},
        {"user_data": {"a": 1}},
        {"tensor_model_config": {"name": "t", "inputs": [], "outputs": []}},
        {"media_decoder": {}},
        {"runtime_config": {"tool_call_parser": "hermes", "data_parallel_size": 4}},
        {"context_length": 0},
        {"unknown": 1},
    ],
)
def test_what_may_differ_between_workers_does_not_enter(fields: dict[str, Any]) -> None:
    assert parse(**fields).mdcsum() == parse().mdcsum()


def test_runtime_kv_event_capability_does_not_change_mdcsum() -> None:
    assert parse(runtime_config={"kv_event_publishing_enabled": True}).mdcsum() == parse().mdcsum()


def test_sizes_and_places_of_files_do_not_enter() -> None:
    here = CheckedFile(path="/a/x", checksum=Digest(A), size=1)
    there = CheckedFile(url="http://h/b/x", checksum=Digest(A))
    card = parse()
    assert msgspec.structs.replace(card, extra_files=(here,)).mdcsum() == (
        msgspec.structs.replace(card, extra_files=(there,)).mdcsum()
    )
