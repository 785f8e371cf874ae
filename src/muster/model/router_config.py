"""How a card asks frontends to route to its worker."""

from __future__ import annotations

import enum

import msgspec

from muster.model.kv_router_config import KV_ROUTER_CONFIG, KvRouterConfig
from muster.model.strictjson.compound import Field, Maybe, Record, if_none
from muster.model.strictjson.shape import BOOL, F64, U64, Choice

__all__ = [
    "ROUTER_CONFIG",
    "LoadThresholdConfig",
    "RouterConfig",
    "RouterMode",
    "SessionAffinityMode",
]


class RouterMode(enum.StrEnum):
    """How an instance is chosen."""

    ROUND_ROBIN = "round_robin"
    RANDOM = "random"
    POWER_OF_TWO_CHOICES = "power_of_two_choices"
    KV = "k_v"
    DIRECT = "direct"
    LEAST_LOADED = "least_loaded"
    DEVICE_AWARE_WEIGHTED = "device_aware_weighted"


class SessionAffinityMode(enum.StrEnum):
    """Whether a session may leave its worker."""

    HARD = "hard"
    SOFT = "soft"


class LoadThresholdConfig(msgspec.Struct, frozen=True, kw_only=True):
    """From what load on a worker counts as busy."""

    active_decode_blocks_threshold: float | None = None
    active_prefill_tokens_threshold: int | None = None
    active_prefill_tokens_threshold_frac: float | None = None


class RouterConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The routing a card asks for."""

    router_mode: RouterMode
    kv_router_config: KvRouterConfig = KvRouterConfig()
    load_threshold_config: LoadThresholdConfig = LoadThresholdConfig()
    enforce_disagg: bool = False
    session_affinity_ttl_secs: int | None = None
    session_affinity_mode: SessionAffinityMode = SessionAffinityMode.HARD


_LOAD_THRESHOLD_CONFIG = Record(
    "struct LoadThresholdConfig",
    LoadThresholdConfig,
    Field("active_decode_blocks_threshold", Maybe(F64), None, omit=if_none, in_array=False),
    Field("active_prefill_tokens_threshold", Maybe(U64), None, omit=if_none, in_array=False),
    Field("active_prefill_tokens_threshold_frac", Maybe(F64), None, omit=if_none, in_array=False),
)

ROUTER_CONFIG = Record(
    "struct RouterConfig",
    RouterConfig,
    Field("router_mode", Choice(RouterMode)),
    Field("kv_router_config", KV_ROUTER_CONFIG),
    Field("load_threshold_config", _LOAD_THRESHOLD_CONFIG),
    Field("enforce_disagg", BOOL, default=False),
    Field("session_affinity_ttl_secs", Maybe(U64), None),
    Field("session_affinity_mode", Choice(SessionAffinityMode), SessionAffinityMode.HARD),
)
"""A card says the first three even where they are defaults."""
