"""``nvext``: what Dynamo's clients say beyond OpenAI's fields.

Names, types and where each ends up in the engine's request are those of Dynamo 1.6.1. A name that
nobody knows is refused, and so is what is known and could not be kept to here.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from muster.frontend.api_error import ApiError

__all__ = ["AgentHints", "Nvext", "RouterTargets", "RoutingConstraints", "check_nvext"]

_U32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
_I32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
_Id = Annotated[int, msgspec.Meta(ge=0)]
_IDS = ("backend_instance_id", "prefill_worker_id", "decode_worker_id")


class AgentHints(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an agent knows of its request.

    Attributes:
        priority: Higher is sooner.
        strict_priority: Queues serve a higher one first, whatever else.
        osl: How many tokens it expects.
        speculative_prefill: Taken and without effect: it changes no answer.
        latency_sensitivity: The older word for a priority; counts if there is none.
    """

    priority: _I32 | None = None
    strict_priority: _U32 | None = None
    osl: _U32 | None = None
    speculative_prefill: bool | None = None
    latency_sensitivity: float | None = None


class RoutingConstraints(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which workers may, or should, have the request, by their taints."""

    required_taints: list[str] | None = None
    preferred_taints: dict[str, float] | None = None


class RouterTargets(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Latencies the client hopes for, in milliseconds; engines are told, nothing here is steered."""

    ttft_target: float | None = None
    itl_target: float | None = None


class Nvext(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The object as clients send it."""

    greed_sampling: bool | None = None
    use_raw_prompt: bool | None = None
    annotations: list[str] | None = None
    backend_instance_id: _Id | None = None
    token_data: list[_U32] | None = None
    max_thinking_tokens: _U32 | None = None
    cache_salt: str | None = None
    extra_fields: list[str] | None = None
    metadata_upload: Any = None
    prefill_worker_id: _Id | None = None
    decode_worker_id: _Id | None = None
    dp_rank: _U32 | None = None
    prefill_dp_rank: _U32 | None = None
    agent_hints: AgentHints | None = None
    request_timestamp_ms: float | None = None
    routing_constraints: RoutingConstraints | None = None
    router: RouterTargets | None = None


def check_nvext(nvext: Nvext, *, choices: int) -> None:
    """Check what the types do not.

    Args:
        nvext: The object.
        choices: How many answers the request has in all.

    Raises:
        ApiError: 400; ``param`` names the field.
    """
    for field in _IDS:
        if (getattr(nvext, field) or 0) >= 2**64:
            raise _fail(field, f"nvext.{field}: instance ids are below 2^64")
    if nvext.metadata_upload is not None:
        raise _unsupported("metadata_upload")
    constraints = nvext.routing_constraints
    if constraints is not None and constraints.required_taints:
        raise _unsupported("routing_constraints.required_taints")
    if nvext.token_data is not None and not nvext.token_data:
        raise _fail("token_data", "nvext.token_data is empty, and a prompt has at least one token")
    if nvext.token_data and nvext.use_raw_prompt:
        raise _fail("use_raw_prompt", "nvext.use_raw_prompt: the prompt is nvext.token_data")
    extra = nvext.extra_fields or ()
    if choices != 1 and "completion_token_ids" in extra:
        raise _fail(
            "extra_fields",
            '`nvext.extra_fields=["completion_token_ids"]` requires exactly one generated choice',
        )


def _fail(field: str, message: str) -> ApiError:
    return ApiError(400, message, param=f"nvext.{field}", slug="invalid_value")


def _unsupported(field: str) -> ApiError:
    return ApiError(
        400,
        f"`nvext.{field}` is not supported here",
        param=f"nvext.{field}",
        slug="unsupported_parameter",
    )
