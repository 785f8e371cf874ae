"""Cards that are wrong in many ways, or only odd: mutations of good ones, the same for a seed.

A card is held as a tree that can say what a ``dict`` cannot: repeated keys, and every leaf as the
JSON text it is to be written as.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["RICH_CARD", "CardMutator"]

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

_NUMBERS = (
    *("0", "-0", "1", "-1", "2", "0.5", "1.0", "-0.0", "1e3", "1E-7", "0.1", "1e-5", "1e16"),
    *("255", "256", "65535", "65536", "4294967295", "4294967296", "9223372036854775807"),
    *("9223372036854775808", "-9223372036854775808", "-9223372036854775809"),
    *("18446744073709551615", "18446744073709551616", "123456789012345680000", "1e308"),
    *("1e309", "1e-400", "0e999999999999", "3.4028236e38", "16777217", "0.30000001192092896"),
)
_TEXTS = (
    *("", "x", "a/b", "A", "é", "模型", "😀", "\x00", "\x7f", "\u2028", "a.b", "..", ".", "/", "-"),
    *("Chat", "Text", "prefill", "Prefill", "auto", "on", "off", "k_v", "none", "fcfs", "hard"),
    *("0x1", "Chat|Rerank", " Chat ", "Chat |", "|", "0x1000", "0x10000", "Chat\xa0|Images"),
    *("blake3:" + "a" * 64, "blake3:" + "A" * 64, "sha256:" + "a" * 64, "a:b:c", "a" * 64),
    *("k" * 128, "é" * 65, "v" * 1025, "n" * 70000, " x ", "x\ny", "/etc/passwd"),
    *("true", " ON ", "yes", "1", "0", "\x1cChat", "%s"),
    *("public-xxh3-v1", "keyed-xxh3-v1", "isl_or_load", "aggregated", "Int32", "strict"),
)
_WORDS = ("null", "true", "false", "[]", "{}", "[[]]", '{"a":1}', '{"x":null}', '["a","b","c"]')
_ODD = (
    *(r'"\ud800"', r'"\udc00\ud800"', r'"\ud83d\ude00"', r'"\u0041"', '"\\/"', '{"\\ud800":1}'),
    *("NaN", "Infinity", "01", "1.", ".5", "+1", "-", "1e", "'x'", "tru", '"\t"', '"\\x"', ""),
    *("[1,]", "[,1]", '{"a":1,}', "{a:1}", "[" * 130 + "]" * 130, "[" * 124 + "]" * 124),
    *('{"a":1,"b":2,"a":3}', '{"Text":null}', '{"prefill":null}', "[1 2]", "/*c*/1", '"\\u12"'),
)
_SCHEMES = ("http", "HTTPS", "file", "hf", "mx", "s3", "c", "ws", "data", "a+b", "1a", "")
_SEPARATORS = ("://", ":", ":/", ":///", "/", "//", ":\\", "")
_HOSTS = (
    *("h", "H.example", "HÖST", "xn--nxa", "127.0.0.1", "0x7f.1", "[::1]", "[FD00::2]", "h:80"),
    *("h:443", "h:0", "h:99999", "u:p@h", "u@h", "a b", "h%41", "", "1.2.3", "256.1.1.1", "日本"),
    *("a_b", "h<", "h^", "u^:p^@h", "ß.de", "localhost", "C:", "h.", "xn--", "a..b"),
    *("xn--a", "xn--hst-sna", "xn--u-ccb", "xn--tda-x", "1.xn--4db", "xn--4db.a", "a1\u05d0"),
    *(":@", "@", ":@h", "u\\:p@h:1\\a", "%41", "xn--1ug", "\u05d0.\u65e5"),
)
_PATHS = (
    *("", "/", "/a.json", "/a b.json", "/é.json", "/..", "/x/../..", "/%2e%2e/x", "/a//", "/a/"),
    *("\\a\\b", "/a\\b", "/..%2fetc", "/a?q=é#f", "/a#f/g", '/"<>`{}|', "/a^b", "/%5E^", "/%zz"),
    *("/a\tb", "/a\n", "/C:/x", "/c|/y", "/~;,=:@&'()*!$+", "/\x7f", "/a%00", "?a/b", "#a/b"),
    *("/[x]", "/./a", "/a/.", "/a;b", "//x//y", "/a?", "/a#", "/a?^#^", "\u3000/z"),
)
_SEGMENTS = (
    *("a", "C:", "C|", "..", "..", "..", ".", "%2e%2E", ".%2e", "%2e", "", "", "C:\\a", "a\\b"),
    *("C|\\a\\b", "\\..", "x^y", "CC:", "C:^", "%43:", "é", " ", "\t..", "\ue000"),
)

_Object = list[list[Any]]
"""Members as ``[key, node]``; an array is a tuple-free ``_Array``, a leaf is a ``str``."""


class _Array(list[Any]):
    pass


class CardMutator:
    """Makes odd cards of good ones.

    Args:
        seed: Two mutators with one seed make the same cards.
        cards: The cards to begin with.
    """

    def __init__(self, seed: int, cards: list[dict[str, Any]]) -> None:
        self._random = random.Random(seed)
        self._cards = [json.dumps(card) for card in cards]

    def cards(self, count: int) -> Iterator[str]:
        """The text of ``count`` odd cards."""
        for _ in range(count):
            yield self.card()

    def card(self) -> str:
        """The text of one odd card."""
        tree = _plant(json.loads(self._random.choice(self._cards)))
        changes = (
            *(self._replace,) * 6,
            *(self._remove,) * 3,
            *(self._repeat, self._rename, self._add, self._shuffle, self._to_array),
            *(self._relocate,) * 3,
        )
        for _ in range(self._random.choice((1, 1, 1, 2, 3))):
            self._random.choice(changes)(tree)
        text = _write(tree)
        return self._garble(text) if self._random.random() < 0.04 else text

    def url(self) -> str:
        """A location as some card might have it: a URL, nearly one, or a path."""
        pick = self._random.choice
        text = pick(_SCHEMES) + pick(_SEPARATORS) + pick(_HOSTS) + pick(_PATHS)
        if self._random.random() < 0.2:
            text += "".join(f"/{pick(_SEGMENTS)}" for _ in range(self._random.randrange(7)))
        if self._random.random() < 0.3:
            text += pick(_PATHS)
        edge = self._random.random()
        return f" {text}" if edge < 0.03 else f"{text}\n" if edge < 0.06 else text

    def _value(self) -> str:
        kind = self._random.random()
        if kind < 0.35:
            return self._random.choice(_NUMBERS)
        if kind < 0.65:
            return json.dumps(self._random.choice(_TEXTS))
        if kind < 0.9:
            return self._random.choice(_WORDS)
        return self._random.choice(_ODD)

    def _containers(self, tree: Any, want: Callable[[Any], bool]) -> list[Any]:
        found, stack = [], [tree]
        while stack:
            node = stack.pop()
            if isinstance(node, str):
                continue
            if want(node) and len(node):
                found.append(node)
            stack += node if isinstance(node, _Array) else [value for _, value in node]
        return found

    def _place(self, tree: Any) -> tuple[Any, int] | None:
        found = self._containers(tree, lambda _: True)
        if not found:
            return None
        container = self._random.choice(found)
        return container, self._random.randrange(len(container))

    def _object(self, tree: Any) -> _Object | None:
        found = self._containers(tree, lambda node: not isinstance(node, _Array))
        chosen: _Object | None = self._random.choice(found) if found else None
        return chosen

    def _replace(self, tree: Any) -> None:
        place = self._place(tree)
        if place is not None:
            _put(*place, self._value())

    def _remove(self, tree: Any) -> None:
        place = self._place(tree)
        if place is not None:
            container, index = place
            del container[index]

    def _repeat(self, tree: Any) -> None:
        place = self._place(tree)
        if place is not None:
            container, index = place
            container.insert(self._random.randrange(len(container) + 1), container[index])

    def _rename(self, tree: Any) -> None:
        members = self._object(tree)
        if members is not None:
            self._random.choice(members)[0] = self._random.choice((*_TEXTS, "name", "file"))

    def _add(self, tree: Any) -> None:
        members = self._object(tree)
        if members is not None:
            key = self._random.choice(("unknown", "é", "", "checksum", "size", "slug"))
            members.insert(self._random.randrange(len(members) + 1), [key, self._value()])

    def _shuffle(self, tree: Any) -> None:
        place = self._place(tree)
        if place is not None:
            self._random.shuffle(place[0])

    def _to_array(self, tree: Any) -> None:
        """Write an object as the array of its values, as serde accepts for a record."""
        place = self._place(tree)
        if place is not None:
            container, index = place
            node = container[index] if isinstance(container, _Array) else container[index][1]
            if isinstance(node, list) and not isinstance(node, _Array):
                _put(container, index, _Array(value for _, value in node))

    def _relocate(self, tree: Any) -> None:
        def has_path(node: Any) -> bool:
            return not isinstance(node, _Array) and any(key == "path" for key, _ in node)

        found = self._containers(tree, has_path)
        if found:
            member = next(pair for pair in self._random.choice(found) if pair[0] == "path")
            member[1] = json.dumps(self.url(), ensure_ascii=self._random.random() < 0.5)

    def _garble(self, text: str) -> str:
        position = self._random.randrange(len(text) + 1)
        extra = self._random.choice(
            ("", ",", "{", "]", '"', "\\", "\ufeff", "\x0b", "\n", "0", "x")
        )
        if self._random.random() < 0.3:
            return self._random.choice((text + extra, extra + text, text[:position]))
        return text[:position] + extra + text[position + self._random.randrange(2) :]


def _plant(value: Any) -> Any:
    if isinstance(value, dict):
        return [[key, _plant(item)] for key, item in value.items()]
    if isinstance(value, list):
        return _Array(_plant(item) for item in value)
    return json.dumps(value)


def _put(container: Any, index: int, value: Any) -> None:
    if isinstance(container, _Array):
        container[index] = value
    else:
        container[index] = [container[index][0], value]


def _write(node: Any) -> str:
    if isinstance(node, str):
        return node
    if isinstance(node, _Array):
        return "[" + ",".join(map(_write, node)) + "]"
    return "{" + ",".join(f"{json.dumps(key)}:{_write(value)}" for key, value in node) + "}"
