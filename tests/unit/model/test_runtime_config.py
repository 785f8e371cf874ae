import json
from typing import Any

import pytest

from muster.errors import CardError
from muster.model.runtime_config import RUNTIME_CONFIG, ModelRuntimeConfig
from muster.model.strictjson.reader import read
from muster.model.strictjson.writer import dump
from muster.model.structural_tag import StructuralTag, StructuralTagSchema, StructuralTagScope
from muster.names import EndpointId
from muster.testing.rich_card import RICH_CARD

DEFAULTS = (
    '{"total_kv_blocks":null,"max_num_seqs":null,"max_num_batched_tokens":null,'
    '"tool_call_parser":null,"reasoning_parser":null,"tool_call_arguments_format":"json_string",'
    '"structural_tag_mode":"off","structural_tag_scope":"auto","structural_tag_schema":"auto",'
    '"exclude_tools_when_tool_choice_none":true,"data_parallel_start_rank":0,'
    '"data_parallel_size":1,"enable_local_indexer":true,"enable_eagle":false}'
)
RICH: dict[str, Any] = RICH_CARD["runtime_config"]
TAG = StructuralTag()
STRICT = StructuralTag(scope=StructuralTagScope.ALWAYS, schema=StructuralTagSchema.STRICT)


def parse(content: Any) -> ModelRuntimeConfig:
    return RUNTIME_CONFIG.read(read(json.dumps(content)), "runtime_config")


def written(config: ModelRuntimeConfig) -> Any:
    return json.loads(dump(RUNTIME_CONFIG.write(config)))


def test_built_empty_it_writes_what_dynamo_writes() -> None:
    assert dump(RUNTIME_CONFIG.write(ModelRuntimeConfig())) == DEFAULTS
    assert parse({}) == ModelRuntimeConfig()


def test_all_30_fields_are_kept() -> None:
    assert written(parse(RICH)) == RICH
    assert len(RICH) == 30


@pytest.mark.parametrize("name", RICH)
def test_a_wrong_value_is_named(name: str) -> None:
    with pytest.raises(CardError, match=rf"^runtime_config\.{name}[.:\[]"):
        parse(RICH | {name: [{}]})


@pytest.mark.parametrize("value", ["null", "1", "true"])
@pytest.mark.parametrize("name", ["taints", "runtime_data", "topology_domains"])
def test_collections_may_not_be_null(name: str, value: str) -> None:
    with pytest.raises(CardError, match=name):
        parse({name: json.loads(value)})


@pytest.mark.parametrize(
    ("content", "tag"),
    [
        ({}, None),
        ({"structural_tag": None}, None),
        ({"structural_tag_mode": "off", "structural_tag_scope": "always"}, None),
        ({"structural_tag_scope": "always", "structural_tag_schema": "strict"}, None),
        ({"structural_tag_mode": "on"}, TAG),
        (
            {
                "structural_tag_mode": "on",
                "structural_tag_scope": "always",
                "structural_tag_schema": "strict",
            },
            STRICT,
        ),
        ({"structural_tag": {}}, TAG),
        ({"structural_tag": {}, "structural_tag_mode": "off"}, TAG),
        ({"structural_tag": {}, "structural_tag_scope": "always"}, TAG),
        ({"structural_tag": {"scope": "always", "schema": "strict"}}, STRICT),
    ],
)
def test_the_newer_tag_field_decides_over_the_older_three(
    content: dict[str, Any], tag: StructuralTag | None
) -> None:
    config = parse(content)
    assert config.structural_tag == tag
    fields = written(config)
    assert fields["structural_tag_mode"] == ("off" if tag is None else "on")
    assert fields["structural_tag_scope"] == (tag or TAG).scope
    assert fields["structural_tag_schema"] == (tag or TAG).schema


def test_a_set_has_each_member_once() -> None:
    assert parse({"taints": ["b", "a", "b"]}).taints == ("b", "a")


def test_of_a_repeated_key_in_runtime_data_the_last_counts() -> None:
    config = RUNTIME_CONFIG.read(read('{"runtime_data":{"a":1,"b":2,"a":3}}'), "")
    assert config.runtime_data == {"a": 3, "b": 2}


def test_a_weight_has_32_bits_and_may_overflow_to_nothing() -> None:
    assert written(parse({"kv_transfer_preferred_weight": 0.30000001}))[
        "kv_transfer_preferred_weight"
    ] == pytest.approx(0.3, abs=0)
    assert (
        written(parse({"kv_transfer_preferred_weight": 1e300}))["kv_transfer_preferred_weight"]
        is None
    )


def test_a_state_endpoint_is_an_endpoint() -> None:
    config = parse({"kv_state_endpoint": ["a", "b/..", ""]})
    assert config.kv_state_endpoint == EndpointId("a", "b/..", "")


@pytest.mark.parametrize("content", ["a.b.c", {"namespace": "a"}, ["a", "b"], 1])
def test_a_state_endpoint_has_three_parts(content: Any) -> None:
    with pytest.raises(CardError, match="kv_state_endpoint"):
        parse({"kv_state_endpoint": content})


@pytest.mark.parametrize("port", [65536, -1, 1.0, "1"])
def test_a_port_has_16_bits(port: Any) -> None:
    with pytest.raises(CardError, match="bootstrap_port"):
        parse({"disaggregated_endpoint": {"bootstrap_port": port}})


def test_an_array_must_say_the_five_fields_without_a_default() -> None:
    assert parse([None] * 6) == ModelRuntimeConfig()
    with pytest.raises(CardError, match="reasoning_parser"):
        parse([None] * 5)
