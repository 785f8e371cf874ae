"""What a worker says in its card about how its engine runs (30 wire fields)."""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from muster.model.strictjson.compound import (
    Distinct,
    Field,
    MapOf,
    Maybe,
    Record,
    if_empty,
    if_none,
)
from muster.model.strictjson.node import Json
from muster.model.strictjson.shape import ANY, BOOL, F32, TEXT, U16, U32, U64, Choice
from muster.model.structural_tag import (
    STRUCTURAL_TAG,
    StructuralTag,
    StructuralTagMode,
    StructuralTagSchema,
    StructuralTagScope,
)
from muster.names import EndpointId

__all__ = [
    "RUNTIME_CONFIG",
    "DisaggregatedEndpoint",
    "KvTransferEnforcement",
    "ModelRuntimeConfig",
    "TokenizerBackend",
    "ToolCallArgumentsFormat",
]


class ToolCallArgumentsFormat(enum.StrEnum):
    """How a chat template gets a tool call's arguments."""

    JSON_STRING = "json_string"
    JSON_OBJECT = "json_object"


class TokenizerBackend(enum.StrEnum):
    """Which tokenizer library the frontend shall use."""

    DEFAULT = "default"
    FASTOKENS = "fastokens"
    BASETENKENIZER = "basetenkenizer"


class KvTransferEnforcement(enum.StrEnum):
    """Whether KV blocks may only move within their domain."""

    REQUIRED = "required"
    PREFERRED = "preferred"


class DisaggregatedEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a prefill worker is met by decode workers."""

    bootstrap_host: str | None = None
    bootstrap_port: int | None = None


class ModelRuntimeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The runtime configuration; built empty it is what 1.6.1 writes for one that says nothing.

    ``taints``, ``topology_domains`` and ``runtime_data`` have no order of their own: 1.6.1 writes
    them in random order, and their order here is kept but means nothing.
    """

    context_length: int | None = None
    total_kv_blocks: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None
    tool_call_arguments_format: ToolCallArgumentsFormat = ToolCallArgumentsFormat.JSON_STRING
    tokenizer_backend: TokenizerBackend | None = None
    tokenizer_fallback_enabled: bool | None = None
    structural_tag: StructuralTag | None = None
    exclude_tools_when_tool_choice_none: bool = True
    data_parallel_start_rank: int = 0
    data_parallel_size: int = 1
    enable_local_indexer: bool = True
    kv_event_publishing_enabled: bool | None = None
    kv_event_source_mode: str | None = None
    kv_state_endpoint: EndpointId | None = None
    runtime_data: dict[str, Json] = {}
    disaggregated_endpoint: DisaggregatedEndpoint | None = None
    enable_eagle: bool = False
    taints: tuple[str, ...] = ()
    stable_routing_id: str | None = None
    topology_domains: dict[str, str] = {}
    kv_transfer_domain: str | None = None
    kv_transfer_enforcement: KvTransferEnforcement | None = None
    kv_transfer_preferred_weight: float | None = None
    max_gpu_lora_count: int | None = None

    @property
    def structural_tag_mode(self) -> StructuralTagMode:
        """The older field: whether there is a structural tag."""
        return StructuralTagMode.OFF if self.structural_tag is None else StructuralTagMode.ON

    @property
    def structural_tag_scope(self) -> StructuralTagScope:
        """The older field: the structural tag's scope."""
        return (self.structural_tag or StructuralTag()).scope

    @property
    def structural_tag_schema(self) -> StructuralTagSchema:
        """The older field: the structural tag's schema."""
        return (self.structural_tag or StructuralTag()).schema


def _from_wire(
    structural_tag: StructuralTag | None,
    structural_tag_mode: StructuralTagMode,
    structural_tag_scope: StructuralTagScope,
    structural_tag_schema: StructuralTagSchema,
    **others: Any,  # the fields the record has read, each of its own type
) -> ModelRuntimeConfig:
    """The three older fields only count where the newer one is missing and the mode is on."""
    if structural_tag is None and structural_tag_mode is StructuralTagMode.ON:
        structural_tag = StructuralTag(scope=structural_tag_scope, schema=structural_tag_schema)
    return ModelRuntimeConfig(structural_tag=structural_tag, **others)


_ENDPOINT = Record(
    "struct EndpointId",
    EndpointId,
    Field("namespace", TEXT),
    Field("component", TEXT),
    Field("name", TEXT),
)

_DISAGGREGATED_ENDPOINT = Record(
    "struct DisaggregatedEndpoint",
    DisaggregatedEndpoint,
    Field("bootstrap_host", Maybe(TEXT), None, omit=if_none),
    Field("bootstrap_port", Maybe(U16), None, omit=if_none),
)

RUNTIME_CONFIG = Record(
    "struct ModelRuntimeConfig",
    _from_wire,
    Field("context_length", Maybe(U32), None, omit=if_none),
    Field("total_kv_blocks", Maybe(U64), None, in_array=False),
    Field("max_num_seqs", Maybe(U64), None, in_array=False),
    Field("max_num_batched_tokens", Maybe(U64), None, in_array=False),
    Field("tool_call_parser", Maybe(TEXT), None, in_array=False),
    Field("reasoning_parser", Maybe(TEXT), None, in_array=False),
    Field(
        "tool_call_arguments_format",
        Choice(ToolCallArgumentsFormat),
        ToolCallArgumentsFormat.JSON_STRING,
    ),
    Field("tokenizer_backend", Maybe(Choice(TokenizerBackend)), None, omit=if_none),
    Field("tokenizer_fallback_enabled", Maybe(BOOL), None, omit=if_none),
    Field("structural_tag", Maybe(STRUCTURAL_TAG), None, omit=if_none),
    Field("structural_tag_mode", Choice(StructuralTagMode), StructuralTagMode.OFF),
    Field("structural_tag_scope", Choice(StructuralTagScope), StructuralTagScope.AUTO),
    Field("structural_tag_schema", Choice(StructuralTagSchema), StructuralTagSchema.AUTO),
    Field("exclude_tools_when_tool_choice_none", BOOL, default=True),
    Field("data_parallel_start_rank", U32, 0),
    Field("data_parallel_size", U32, 1),
    Field("enable_local_indexer", BOOL, default=True),
    Field("kv_event_publishing_enabled", Maybe(BOOL), None, omit=if_none),
    Field("kv_event_source_mode", Maybe(TEXT), None, omit=if_none),
    Field("kv_state_endpoint", Maybe(_ENDPOINT), None, omit=if_none),
    Field("runtime_data", MapOf(ANY), {}, omit=if_empty),
    Field("disaggregated_endpoint", Maybe(_DISAGGREGATED_ENDPOINT), None, omit=if_none),
    Field("enable_eagle", BOOL, default=False),
    Field("taints", Distinct(TEXT), (), omit=if_empty),
    Field("stable_routing_id", Maybe(TEXT), None, omit=if_none),
    Field("topology_domains", MapOf(TEXT), {}, omit=if_empty),
    Field("kv_transfer_domain", Maybe(TEXT), None, omit=if_none),
    Field("kv_transfer_enforcement", Maybe(Choice(KvTransferEnforcement)), None, omit=if_none),
    Field("kv_transfer_preferred_weight", Maybe(F32), None, omit=if_none),
    Field("max_gpu_lora_count", Maybe(U32), None, omit=if_none),
)
