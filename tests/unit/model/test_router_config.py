import json
from typing import Any

import pytest

from muster.errors import CardError
from muster.model.kv_router_config import KV_ROUTER_CONFIG, KvRouterConfig
from muster.model.router_config import ROUTER_CONFIG, RouterConfig, RouterMode
from muster.model.strictjson.reader import read
from muster.model.strictjson.writer import dump
from muster.testing.rich_card import RICH_CARD

KV_DEFAULTS = (
    '{"overlap_score_credit":1.0,"overlap_score_credit_decay":0.0,"prefill_load_scale":1.0,'
    '"host_cache_hit_weight":0.75,"disk_cache_hit_weight":0.25,"router_temperature":0.0,'
    '"use_kv_events":true,"router_replica_sync":false,"router_track_active_blocks":true,'
    '"router_track_output_blocks":false,"router_assume_kv_reuse":true,'
    '"router_track_prefill_tokens":true,"router_prefill_load_model":"none",'
    '"router_ttl_secs":120.0,"router_queue_threshold":null,"router_policy_config":null,'
    '"router_event_threads":4,"skip_initial_worker_wait":false,"router_queue_policy":"fcfs",'
    '"use_remote_indexer":false,"serve_indexer":false,"shared_cache_type":"none",'
    '"router_predicted_ttl_secs":null}'
)
ROUTER: dict[str, Any] = {
    "router_mode": "k_v",
    "kv_router_config": {},
    "load_threshold_config": {},
}
KEYED = {
    "router_tracking_hash": "keyed-xxh3-v1",
    "router_tracking_key_file": "/k",
    "router_tracking_key_id": "id",
}


def parse_kv(content: Any) -> KvRouterConfig:
    return KV_ROUTER_CONFIG.read(read(json.dumps(content)), "kv")


def written_kv(config: KvRouterConfig) -> Any:
    return json.loads(dump(KV_ROUTER_CONFIG.write(config)))


def parse(content: Any) -> RouterConfig:
    return ROUTER_CONFIG.read(read(json.dumps(content)), "router_config")


def test_built_empty_the_kv_part_writes_what_dynamo_writes() -> None:
    assert dump(KV_ROUTER_CONFIG.write(KvRouterConfig())) == KV_DEFAULTS
    assert parse_kv({}) == parse_kv([]) == KvRouterConfig()


@pytest.mark.parametrize(
    "content",
    [
        {"decode_active_request_weight": 0.1},
        KEYED,
        {"enable_session_prefix_index": True},
        {"shared_cache_multiplier": 0.5},
        {"conditional_disagg_enabled": True},
        {"conditional_disagg_policy": "prefill_load"},
        {"conditional_disagg_eff_isl_threshold": 0},
        {"conditional_disagg_eff_isl_ratio_threshold": 0.5},
        {"conditional_disagg_prefill_busy_threshold": 2.0},
        {"conditional_disagg_decode_busy_threshold": 2.0},
    ],
)
def test_newer_fields_are_written_only_when_they_say_something(content: dict[str, Any]) -> None:
    assert written_kv(parse_kv(content)) == json.loads(KV_DEFAULTS) | content


@pytest.mark.parametrize(
    "content",
    [
        {"decode_active_request_weight": -0.0},
        {"router_tracking_hash": "public-xxh3-v1"},
        {"conditional_disagg_eff_isl_threshold": 2048},
        {"conditional_disagg_eff_isl_ratio_threshold": 0.7},
        {"conditional_disagg_policy": "isl_bounding"},
        {"router_snapshot_threshold": 5, "router_reset_states": True, "durable_kv_events": False},
    ],
)
def test_defaults_and_retired_fields_are_not_written(content: dict[str, Any]) -> None:
    assert written_kv(parse_kv(content)) == json.loads(KV_DEFAULTS)


def test_the_old_weight_sets_the_scale_and_zero_the_credit_too() -> None:
    assert parse_kv({"overlap_score_weight": 2}).prefill_load_scale == 2.0
    zero = parse_kv({"overlap_score_weight": 0, "overlap_score_credit": 0.5})
    assert (zero.prefill_load_scale, zero.overlap_score_credit) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"overlap_score_credit": -1}, "overlap_score_credit"),
        ({"overlap_score_weight": -1}, "prefill_load_scale"),
        ({"router_ttl_secs": -0.5}, "router_ttl_secs"),
        ({"host_cache_hit_weight": 1.5}, "host_cache_hit_weight"),
        ({"shared_cache_multiplier": 2}, "shared_cache_multiplier"),
        ({"router_event_threads": 0}, "at least 1"),
        ({"durable_kv_events": True}, "durable_kv_events"),
        ({"use_kv_events": False, "router_predicted_ttl_secs": 0}, "router_predicted_ttl_secs"),
        ({"use_kv_events": False, "enable_session_prefix_index": True}, "use_kv_events"),
        ({"use_remote_indexer": True, "enable_session_prefix_index": True}, "use_remote_indexer"),
        (
            {"router_track_active_blocks": False, "router_track_output_blocks": True},
            "router_track_output_blocks",
        ),
        (
            {"router_track_prefill_tokens": False, "router_prefill_load_model": "aic"},
            "router_prefill_load_model",
        ),
        ({"use_remote_indexer": True, "serve_indexer": True}, "mutually exclusive"),
        ({"router_tracking_key_id": "x"}, "require router_tracking_hash"),
        (KEYED | {"router_tracking_key_file": None}, "requires router_tracking_key_file"),
        (KEYED | {"router_tracking_key_id": ""}, "requires a nonempty router_tracking_key_id"),
        (
            {"conditional_disagg_enabled": True, "conditional_disagg_policy": "isl_or_load"},
            "router_queue_threshold",
        ),
        ({"router_policy_config": "/etc/passwd"}, "names a file"),
        ({"bogus": 1}, "unknown field `bogus`"),
        ({"router_queue_policy": "lifo"}, "unknown variant `lifo`"),
        ({"router_queue_policy": None}, "router_queue_policy"),
        ({"router_ttl_secs": None}, "invalid type: null"),
    ],
)
def test_what_dynamo_refuses_is_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(CardError, match=message):
        parse_kv(content)


@pytest.mark.parametrize("threshold", ["router_queue_threshold", "prefill"])
def test_a_load_policy_needs_one_threshold(threshold: str) -> None:
    name = threshold.replace("prefill", "conditional_disagg_prefill_busy_threshold")
    content = {"conditional_disagg_enabled": True, "conditional_disagg_policy": "prefill_load"}
    assert parse_kv(content | {name: 1}).conditional_disagg_enabled


def test_what_is_made_here_is_checked_too() -> None:
    with pytest.raises(CardError, match="router_temperature"):
        KvRouterConfig(router_temperature=float("nan"))


@pytest.mark.parametrize("name", ["router_mode", "kv_router_config", "load_threshold_config"])
def test_the_first_three_must_be_there(name: str) -> None:
    with pytest.raises(CardError, match=f"missing field `{name}`"):
        parse({key: value for key, value in ROUTER.items() if key != name})


@pytest.mark.parametrize(
    "mode",
    ["round_robin", "random", "power_of_two_choices", "k_v", "direct", "least_loaded"],
)
def test_modes(mode: str) -> None:
    assert parse(ROUTER | {"router_mode": mode}).router_mode is RouterMode(mode)


def test_a_full_configuration_is_kept() -> None:
    content = RICH_CARD["router_config"]
    fields = json.loads(dump(ROUTER_CONFIG.write(parse(content))))
    assert fields | {"kv_router_config": None} == content | {"kv_router_config": None}


def test_a_load_threshold_array_must_be_whole() -> None:
    assert parse(ROUTER | {"load_threshold_config": [None] * 3}) == parse(ROUTER)
    with pytest.raises(CardError, match="load_threshold_config"):
        parse(ROUTER | {"load_threshold_config": [None] * 2})
