"""A card that uses every field there is: where mutations and comparisons begin."""

from __future__ import annotations

from typing import Any

__all__ = ["RICH_CARD"]

_DIGEST = "blake3:" + "0123456789abcdef" * 4


def _file(path: str, size: int | None = 7) -> dict[str, Any]:
    return {"path": path, "checksum": _DIGEST} | ({} if size is None else {"size": size})


RICH_CARD: dict[str, Any] = {
    "display_name": "Org/M-ö",
    "slug": "org_m",
    "source_path": "/models/m",
    "model_info": {"hf_config_json": _file("/models/m/config.json")},
    "tokenizer": {"tik_token_model": _file("http://H:80/a/../tiktoken.model")},
    "prompt_formatter": {"hf_tokenizer_config_json": _file("hf://Org/M/tokenizer_config.json")},
    "chat_template_file": {
        "hf_chat_template_jinja": {"is_custom": True, "file": _file("file:///t/x.jinja", None)}
    },
    "gen_config": {"hf_generation_config_json": _file("/m/generation_config.json")},
    "prompt_context": ["oai_chat", "llama3_date_time"],
    "architectural_max_context_length": 4096,
    "context_length": 17,
    "kv_cache_block_size": 16,
    "migration_limit": 3,
    "model_type": "Chat | Completions",
    "model_input": "Tokens",
    "worker_type": "decode",
    "needs": [["prefill", "encode"], ["aggregated"], []],
    "lora": {"name": "L", "max_gpu_lora_count": 4},
    "aliases": ["a", "bé"],
    "user_data": {"k": [1, 2.5, None, True, "s", {"z": 1, "a": -0.5}]},
    "runtime_config": {
        "context_length": 99,
        "total_kv_blocks": 10,
        "max_num_seqs": 2,
        "max_num_batched_tokens": 8,
        "tool_call_parser": "hermes",
        "reasoning_parser": "qwen3",
        "tool_call_arguments_format": "json_object",
        "tokenizer_backend": "fastokens",
        "tokenizer_fallback_enabled": True,
        "structural_tag": {
            "scope": "always",
            "schema": "strict",
            "allow_tool_calls_with_structured_output": True,
            "exclude_special_tokens": False,
            "reasoning_boundary": "backend",
            "tool_arguments_any_order": True,
        },
        "structural_tag_mode": "on",
        "structural_tag_scope": "always",
        "structural_tag_schema": "strict",
        "exclude_tools_when_tool_choice_none": False,
        "data_parallel_start_rank": 1,
        "data_parallel_size": 2,
        "enable_local_indexer": False,
        "kv_event_publishing_enabled": True,
        "kv_event_source_mode": "m",
        "kv_state_endpoint": {"namespace": "n", "component": "c", "name": "e"},
        "runtime_data": {
            "vllm_enable_tower_connector_lora": True,
            "vllm_inference_v1_generate": True,
            "vllm_nemotron_video_processor_contract": {"b": [1.5e300, 1e-9], "a": "é"},
        },
        "disaggregated_endpoint": {"bootstrap_host": "h", "bootstrap_port": 1},
        "enable_eagle": True,
        "taints": ["t1", "t2"],
        "stable_routing_id": "s",
        "topology_domains": {"zone": "z", "rack": "r"},
        "kv_transfer_domain": "zone",
        "kv_transfer_enforcement": "preferred",
        "kv_transfer_preferred_weight": 0.3,
        "max_gpu_lora_count": 4,
    },
    "tensor_model_config": {
        "name": "t",
        "inputs": [
            {
                "name": "i",
                "data_type": "BFloat16",
                "shape": [1, -1],
                "parameters": {"p": {"int64": -1}, "q": {"double": 1}, "r": {"string": "s"}},
            }
        ],
        "outputs": [{"name": "o", "data_type": "Bytes", "shape": []}],
        "triton_model_config": [0, 255],
    },
    "media_decoder": {"image": {"limits": {"max_image_width": 1, "max_alloc": 5}}},
    "media_fetcher": {
        "user_agent": "u",
        "allow_direct_ip": True,
        "allow_direct_port": True,
        "allow_private_ips": False,
        "allowed_media_domains": ["b", "a"],
        "timeout": {"secs": 1, "nanos": 1500000000},
    },
    "router_config": {
        "router_mode": "k_v",
        "kv_router_config": {
            "overlap_score_credit": 0.5,
            "overlap_score_weight": 2,
            "router_tracking_hash": "keyed-xxh3-v1",
            "router_tracking_key_file": "/k",
            "router_tracking_key_id": "id",
            "router_queue_threshold": 1,
            "router_queue_policy": "wspt",
            "shared_cache_type": "hicache",
            "shared_cache_multiplier": 0.25,
            "conditional_disagg_enabled": True,
            "conditional_disagg_policy": "isl_or_load",
            "conditional_disagg_eff_isl_threshold": 100,
            "decode_active_request_weight": 0.1,
            "enable_session_prefix_index": True,
        },
        "load_threshold_config": {
            "active_decode_blocks_threshold": 0.9,
            "active_prefill_tokens_threshold": 5,
        },
        "enforce_disagg": True,
        "session_affinity_ttl_secs": 60,
        "session_affinity_mode": "soft",
    },
    "indexer_identity": {"semantics": {"b": "1", "a": "é"}, "routing_scope": {"x": "y"}},
    "extra_files": [_file("http://h/a%20b.json"), _file("/x/y z.json"), _file("rel/LICENSE")],
}
"""A card that uses every field there is."""
