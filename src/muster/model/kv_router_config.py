"""How Dynamo's KV-aware router weighs workers, as a card carries it.

Muster does not route by it; it reads, checks and writes it, because a card's digest covers it.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from typing import Any

import msgspec

from muster.errors import CardError
from muster.model.strictjson.compound import Field, Maybe, Record, always, if_none
from muster.model.strictjson.shape import BOOL, F64, TEXT, U32, U64, Choice

__all__ = [
    "KV_ROUTER_CONFIG",
    "ConditionalDisaggPolicy",
    "KvRouterConfig",
    "PrefillLoadModel",
    "QueuePolicy",
    "SharedCacheType",
    "TrackingHash",
]


class TrackingHash(enum.StrEnum):
    """How tracked blocks are identified."""

    PUBLIC = "public-xxh3-v1"
    KEYED = "keyed-xxh3-v1"


class PrefillLoadModel(enum.StrEnum):
    """How the load of a prefill is estimated."""

    NONE = "none"
    AIC = "aic"
    AIS = "ais"


class QueuePolicy(enum.StrEnum):
    """In which order queued requests leave."""

    FCFS = "fcfs"
    LCFS = "lcfs"
    WSPT = "wspt"


class SharedCacheType(enum.StrEnum):
    """The cache that workers share."""

    NONE = "none"
    HICACHE = "hicache"


class ConditionalDisaggPolicy(enum.StrEnum):
    """When a prefill goes to another worker."""

    ISL_BOUNDING = "isl_bounding"
    PREFILL_LOAD = "prefill_load"
    ISL_OR_LOAD = "isl_or_load"


class KvRouterConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The router's configuration; built empty it has 1.6.1's defaults.

    Raises:
        CardError: On making one whose values 1.6.1 refuses, alone or together.
    """

    overlap_score_credit: float = 1.0
    overlap_score_credit_decay: float = 0.0
    prefill_load_scale: float = 1.0
    decode_active_request_weight: float = 0.0
    host_cache_hit_weight: float = 0.75
    disk_cache_hit_weight: float = 0.25
    router_temperature: float = 0.0
    use_kv_events: bool = True
    router_replica_sync: bool = False
    router_track_active_blocks: bool = True
    router_track_output_blocks: bool = False
    router_assume_kv_reuse: bool = True
    router_track_prefill_tokens: bool = True
    router_tracking_hash: TrackingHash = TrackingHash.PUBLIC
    router_tracking_key_file: str | None = None
    router_tracking_key_id: str | None = None
    router_prefill_load_model: PrefillLoadModel = PrefillLoadModel.NONE
    router_ttl_secs: float = 120.0
    router_queue_threshold: float | None = None
    router_policy_config: str | None = None
    router_event_threads: int = 4
    skip_initial_worker_wait: bool = False
    router_queue_policy: QueuePolicy = QueuePolicy.FCFS
    use_remote_indexer: bool = False
    serve_indexer: bool = False
    enable_session_prefix_index: bool = False
    shared_cache_multiplier: float | None = None
    shared_cache_type: SharedCacheType = SharedCacheType.NONE
    router_predicted_ttl_secs: float | None = None
    conditional_disagg_enabled: bool = False
    conditional_disagg_policy: ConditionalDisaggPolicy = ConditionalDisaggPolicy.ISL_BOUNDING
    conditional_disagg_eff_isl_threshold: int = 2048
    conditional_disagg_eff_isl_ratio_threshold: float = 0.7
    conditional_disagg_prefill_busy_threshold: float | None = None
    conditional_disagg_decode_busy_threshold: float | None = None

    def __post_init__(self) -> None:
        for name in _NOT_NEGATIVE:
            value: float | None = getattr(self, name)
            if value is not None and not 0.0 <= value < math.inf:
                raise CardError(f"{name} must be finite and non-negative")
        for name in _FRACTIONS:
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= 1.0:
                raise CardError(f"{name} must be between 0 and 1")
        for refuses, message in _RULES:
            if refuses(self):
                raise CardError(message)


_NOT_NEGATIVE = (
    "overlap_score_credit",
    "overlap_score_credit_decay",
    "prefill_load_scale",
    "decode_active_request_weight",
    "router_temperature",
    "router_ttl_secs",
    "router_queue_threshold",
    "router_predicted_ttl_secs",
    "conditional_disagg_prefill_busy_threshold",
    "conditional_disagg_decode_busy_threshold",
)
_FRACTIONS = (
    "host_cache_hit_weight",
    "disk_cache_hit_weight",
    "shared_cache_multiplier",
    "conditional_disagg_eff_isl_ratio_threshold",
)


def _keyed(config: KvRouterConfig) -> bool:
    return config.router_tracking_hash is TrackingHash.KEYED


def _has_key(config: KvRouterConfig) -> bool:
    return config.router_tracking_key_file is not None or config.router_tracking_key_id is not None


def _lacks_threshold(config: KvRouterConfig) -> bool:
    return (
        config.conditional_disagg_enabled
        and config.conditional_disagg_policy is not ConditionalDisaggPolicy.ISL_BOUNDING
        and config.conditional_disagg_prefill_busy_threshold is None
        and config.router_queue_threshold is None
    )


_RULES: tuple[tuple[Callable[[KvRouterConfig], bool], str], ...] = (
    (lambda c: c.router_event_threads < 1, "router_event_threads must be at least 1"),
    (
        lambda c: c.router_predicted_ttl_secs is not None and not c.use_kv_events,
        "router_predicted_ttl_secs requires use_kv_events=true",
    ),
    (
        lambda c: c.enable_session_prefix_index and not c.use_kv_events,
        "enable_session_prefix_index requires use_kv_events=true",
    ),
    (
        lambda c: c.enable_session_prefix_index and c.use_remote_indexer,
        "enable_session_prefix_index is not supported with use_remote_indexer=true",
    ),
    (
        lambda c: c.router_track_output_blocks and not c.router_track_active_blocks,
        "router_track_output_blocks requires router_track_active_blocks=true",
    ),
    (
        lambda c: (
            c.router_prefill_load_model is not PrefillLoadModel.NONE
            and not c.router_track_prefill_tokens
        ),
        "router_prefill_load_model requires router_track_prefill_tokens=true",
    ),
    (
        lambda c: c.use_remote_indexer and c.serve_indexer,
        "use_remote_indexer and serve_indexer are mutually exclusive",
    ),
    (
        lambda c: _has_key(c) and not _keyed(c),
        "router tracking key options require router_tracking_hash=keyed-xxh3-v1",
    ),
    (
        lambda c: _keyed(c) and c.router_tracking_key_file is None,
        "keyed-xxh3-v1 requires router_tracking_key_file",
    ),
    (
        lambda c: _keyed(c) and not c.router_tracking_key_id,
        "keyed-xxh3-v1 requires a nonempty router_tracking_key_id",
    ),
    (
        _lacks_threshold,
        "conditional_disagg_policy needs a prefill_busy_threshold or router_queue_threshold",
    ),
    # 1.6.1 opens the file this names, on whatever host reads the card, and refuses the card if
    # there is none. We open nothing a card names that carries no digest.
    (
        lambda c: c.router_policy_config is not None,
        "router_policy_config names a file that is not part of the card",
    ),
)


def _from_wire(
    overlap_score_weight: float | None,
    durable_kv_events: bool,
    router_snapshot_threshold: int | None,
    router_reset_states: bool,
    **others: Any,  # the fields the record has read, each of its own type
) -> KvRouterConfig:
    """Apply the fields that are only read: an old name for the load scale, and retired ones."""
    _ = router_snapshot_threshold, router_reset_states
    if durable_kv_events:
        raise CardError("durable_kv_events=true is not supported")
    if overlap_score_weight is not None:
        others["prefill_load_scale"] = overlap_score_weight
        if overlap_score_weight == 0.0:
            others["overlap_score_credit"] = 0.0
    return KvRouterConfig(**others)


def _unless(default: object) -> Callable[[object], bool]:
    """Leave a field out while it has its default."""
    return lambda value: value == default


_MAYBE_F64 = Maybe(F64)

KV_ROUTER_CONFIG = Record(
    "struct KvRouterConfigSerde",
    _from_wire,
    Field("overlap_score_credit", F64, 1.0),
    Field("overlap_score_credit_decay", F64, 0.0),
    Field("prefill_load_scale", F64, 1.0),
    Field("decode_active_request_weight", F64, 0.0, omit=_unless(0.0)),
    Field("overlap_score_weight", _MAYBE_F64, None, omit=always),
    Field("host_cache_hit_weight", F64, 0.75),
    Field("disk_cache_hit_weight", F64, 0.25),
    Field("router_temperature", F64, 0.0),
    Field("use_kv_events", BOOL, default=True),
    Field("durable_kv_events", BOOL, default=False, omit=always),
    Field("router_replica_sync", BOOL, default=False),
    Field("router_track_active_blocks", BOOL, default=True),
    Field("router_track_output_blocks", BOOL, default=False),
    Field("router_assume_kv_reuse", BOOL, default=True),
    Field("router_track_prefill_tokens", BOOL, default=True),
    Field(
        "router_tracking_hash",
        Choice(TrackingHash),
        TrackingHash.PUBLIC,
        omit=_unless(TrackingHash.PUBLIC),
    ),
    Field("router_tracking_key_file", Maybe(TEXT), None, omit=if_none),
    Field("router_tracking_key_id", Maybe(TEXT), None, omit=if_none),
    Field("router_prefill_load_model", Choice(PrefillLoadModel), PrefillLoadModel.NONE),
    Field("router_snapshot_threshold", Maybe(U32), None, omit=always),
    Field("router_reset_states", BOOL, default=False, omit=always),
    Field("router_ttl_secs", F64, 120.0),
    Field("router_queue_threshold", _MAYBE_F64, None),
    Field("router_policy_config", Maybe(TEXT), None),
    Field("router_event_threads", U32, 4),
    Field("skip_initial_worker_wait", BOOL, default=False),
    Field("router_queue_policy", Choice(QueuePolicy), QueuePolicy.FCFS),
    Field("use_remote_indexer", BOOL, default=False),
    Field("serve_indexer", BOOL, default=False),
    Field("enable_session_prefix_index", BOOL, default=False, omit=_unless(default=False)),
    Field("shared_cache_multiplier", _MAYBE_F64, None, omit=if_none),
    Field("shared_cache_type", Choice(SharedCacheType), SharedCacheType.NONE),
    Field("router_predicted_ttl_secs", _MAYBE_F64, None),
    Field("conditional_disagg_enabled", BOOL, default=False, omit=_unless(default=False)),
    Field(
        "conditional_disagg_policy",
        Choice(ConditionalDisaggPolicy),
        ConditionalDisaggPolicy.ISL_BOUNDING,
        omit=_unless(ConditionalDisaggPolicy.ISL_BOUNDING),
    ),
    Field("conditional_disagg_eff_isl_threshold", U64, 2048, omit=_unless(2048)),
    Field("conditional_disagg_eff_isl_ratio_threshold", F64, 0.7, omit=_unless(0.7)),
    Field("conditional_disagg_prefill_busy_threshold", _MAYBE_F64, None, omit=if_none),
    Field("conditional_disagg_decode_busy_threshold", _MAYBE_F64, None, omit=if_none),
    closed=True,
)
