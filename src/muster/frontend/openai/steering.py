"""What a client says of the way of its request: in headers, in ``nvext``, in fields beside it. Pure.

Headers win over ``nvext``, and that over fields. The result goes into the engine's request where
Dynamo 1.6.1 puts it: ``routing``, ``extra_args.nvext``, and the metadata of the request's context.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from muster.frontend.api_error import ApiError
from muster.frontend.group_route import INSTANCE_HEADER, INSTANCE_KEY
from muster.frontend.openai.nvext import Nvext
from muster.frontend.openai.requests import GenerationRequest
from muster.llm.protocol import EngineRequest

__all__ = ["Steering", "steer"]

_META = b"x-dynamo-meta-"
_TENANT = b"x-tenant-id"

_NUMBERS: dict[bytes, tuple[str, int, int]] = {
    INSTANCE_HEADER.encode(): (INSTANCE_KEY, 0, 2**64),
    b"x-worker-instance-id": (INSTANCE_KEY, 0, 2**64),
    b"x-dynamo-prefill-instance-id": ("prefill_worker_id", 0, 2**64),
    b"x-prefill-instance-id": ("prefill_worker_id", 0, 2**64),
    b"x-dynamo-dp-rank": ("dp_rank", 0, 2**32),
    b"x-dp-rank": ("dp_rank", 0, 2**32),
    b"x-dynamo-prefill-dp-rank": ("prefill_dp_rank", 0, 2**32),
    b"x-prefill-dp-rank": ("prefill_dp_rank", 0, 2**32),
    b"x-dynamo-request-priority": ("priority", -(2**31), 2**31),
    b"x-dynamo-request-strict-priority": ("strict_priority", 0, 2**32),
}
"""Headers with a number: where it goes, its least value, and the first one that is too large. Of two
names of one thing the first counts."""

_PRIORITIES = frozenset({"priority", "strict_priority"})


class Steering(msgspec.Struct, frozen=True, kw_only=True):
    """What has been said.

    Attributes:
        routing: What goes into ``routing``.
        passed_on: What engines are told in ``extra_args.nvext``.
        metadata: What travels in the context.
        nvext: The object itself.
    """

    routing: dict[str, Any]
    passed_on: dict[str, Any]
    metadata: dict[str, str]
    nvext: Nvext | None = None

    def applied(self, request: EngineRequest) -> EngineRequest:
        """The engine's request with it."""
        changes: dict[str, Any] = {}
        if self.routing:
            changes["routing"] = {**(request.routing or {}), **self.routing}
        if self.passed_on:
            changes["extra_args"] = {**(request.extra_args or {}), "nvext": self.passed_on}
        nvext = self.nvext
        if nvext is not None:
            changes["annotations"] = nvext.annotations or []
            if nvext.request_timestamp_ms is not None:
                changes["request_timestamp_ms"] = nvext.request_timestamp_ms
            if nvext.router is not None:
                changes["router"] = msgspec.to_builtins(nvext.router)
        return msgspec.structs.replace(request, **changes)


def steer(
    request: GenerationRequest, headers: Mapping[bytes, bytes], *, nvext: bool = True
) -> Steering | None:
    """What a request says; ``None`` if nothing, which is usual.

    Args:
        request: The request, checked.
        headers: Its headers, names in lower case.
        nvext: Whether ``nvext`` is on; without it only salts, metadata and named instances count.

    Raises:
        ApiError: 400 if a header's value is not what it must be, or a rank's instance is not named.
    """
    ours = _ours(headers)
    own = request.nvext if nvext else None
    said = (request.nvext, request.cache_salt, request.priority)
    if not ours and said == (None, None, None):
        return None
    routing = {} if own is None else _of_nvext(own)
    if request.priority is not None and nvext and "priority" not in routing:
        # vLLM's field: there a lower number is sooner.
        routing |= _priority(-request.priority)
    _add_numbers(routing, headers if ours else {}, nvext=nvext)
    if "dp_rank" in routing and INSTANCE_KEY not in routing:
        raise ApiError(
            400,
            "a data-parallel rank (dp_rank) was given without the instance whose it is",
            slug="invalid_argument",
        )
    salt = _salt(request, headers)
    if salt:
        routing["cache_salt"] = salt
    passed_on: dict[str, Any] = {}
    if own is not None and own.extra_fields:
        passed_on["extra_fields"] = own.extra_fields
    if own is not None and own.token_data is not None:
        passed_on["token_in"] = True
    if salt:
        passed_on["cache_salt"] = salt
    return Steering(routing=routing, passed_on=passed_on, metadata=_metadata(ours), nvext=own)


def _ours(headers: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """The headers that say something here."""
    found = {}
    for name in headers:
        if name[:2] == b"x-" and (name in _NUMBERS or name == _TENANT or name.startswith(_META)):
            found[name] = headers[name]
    return found


def _metadata(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """Of headers ``x-dynamo-meta-<key>``; a value beyond ASCII is left out, as in Dynamo 1.6.1."""
    return {
        name[len(_META) :].decode("latin-1"): value.decode("ascii")
        for name, value in headers.items()
        if name.startswith(_META) and value.isascii() and len(name) > len(_META)
    }


def _salt(request: GenerationRequest, headers: Mapping[bytes, bytes]) -> str:
    tenant = headers.get(_TENANT, b"").decode("latin-1")
    own = request.nvext.cache_salt if request.nvext is not None else None
    return tenant or own or request.cache_salt or ""


def _of_nvext(nvext: Nvext) -> dict[str, Any]:
    # A worker that decodes is what one that does both is called there, too.
    instance = (
        nvext.decode_worker_id if nvext.backend_instance_id is None else nvext.backend_instance_id
    )
    found: dict[str, Any] = {
        INSTANCE_KEY: instance,
        "prefill_worker_id": nvext.prefill_worker_id,
        "decode_worker_id": nvext.decode_worker_id,
        "dp_rank": nvext.dp_rank,
        "prefill_dp_rank": nvext.prefill_dp_rank,
    }
    hints = nvext.agent_hints
    if hints is not None:
        found["expected_output_tokens"] = hints.osl
        found["strict_priority"] = hints.strict_priority
        if hints.priority is not None:
            found |= _priority(hints.priority)
        else:
            found["priority_jump"] = hints.latency_sensitivity
    constraints = nvext.routing_constraints
    if constraints is not None and constraints.preferred_taints:
        found["routing_constraints"] = {"preferred_taints": constraints.preferred_taints}
    return {name: value for name, value in found.items() if value is not None}


def _priority(priority: int) -> dict[str, Any]:
    return {"priority": priority, "priority_jump": float(max(priority, 0))}


def _add_numbers(routing: dict[str, Any], headers: Mapping[bytes, bytes], *, nvext: bool) -> None:
    """Read the headers with a number into ``routing``."""
    seen = set()
    for name, (key, least, end) in _NUMBERS.items():
        text = headers.get(name)
        if not text or key in seen or (key in _PRIORITIES and not nvext):
            continue
        seen.add(key)
        number = _number(name, text, least, end)
        if key == "priority":
            routing |= _priority(number)
        else:
            routing[key] = number
        if key == INSTANCE_KEY:
            routing["decode_worker_id"] = number


def _number(name: bytes, text: bytes, least: int, end: int) -> int:
    digits = text.removeprefix(b"-") if least < 0 else text
    if digits.isdigit() and len(digits) <= 20 and least <= int(text) < end:
        return int(text)
    what = "an instance id" if end == 2**64 else "a number"
    raise ApiError(
        400,
        f"{name.decode()} is {text.decode('latin-1')!r}, and must be {what} from {least} "
        f"to {end - 1}, in decimal digits",
        slug="invalid_argument",
    )
