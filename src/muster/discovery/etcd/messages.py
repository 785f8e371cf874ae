"""etcd's v3 API as JSON: what is sent and what comes back; no I/O.

The gateway's mapping (etcd's ``rpc.proto``): ``bytes`` are base64, 64-bit integers are decimal
text, defaults are left out. Leases are signed 64-bit, so a lease that is to be an instance id is a
number from 1 to 2^63 - 1.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = [
    "AuthReply",
    "GrantReply",
    "KeepAliveReply",
    "KeyValue",
    "RangeReply",
    "TimeToLiveReply",
    "TxnReply",
    "WatchEvent",
    "WatchReply",
    "WatchResult",
    "create_request",
    "delete_request",
    "prefix_end",
    "put_request",
    "range_request",
    "watch_request",
]

_EVERYTHING = b"\0"


class Header(msgspec.Struct, frozen=True):
    """Of every reply: the store's revision at that moment."""

    revision: int = 0


class KeyValue(msgspec.Struct, frozen=True, gc=False):
    """A key, its value, and the lease it lives by."""

    key: bytes
    value: bytes = b""
    lease: int = 0
    mod_revision: int = 0


class RangeReply(msgspec.Struct, frozen=True):
    """Keys in their order; ``more`` says that the limit cut them off."""

    header: Header = Header()
    kvs: list[KeyValue] = []
    more: bool = False


class _RangeResponse(msgspec.Struct, frozen=True):
    response_range: RangeReply | None = None


class TxnReply(msgspec.Struct, frozen=True):
    """Whether the comparison held, and what the requests of that branch gave."""

    header: Header = Header()
    succeeded: bool = False
    responses: list[_RangeResponse] = []

    def found(self) -> KeyValue | None:
        """The first key a range of the branch that ran has found."""
        for response in self.responses:
            if response.response_range is not None and response.response_range.kvs:
                return response.response_range.kvs[0]
        return None


class GrantReply(msgspec.Struct, frozen=True):
    """A lease was granted."""

    ttl: int = msgspec.field(name="TTL", default=0)


class _KeepAlive(msgspec.Struct, frozen=True):
    ttl: int = msgspec.field(name="TTL", default=0)


class KeepAliveReply(msgspec.Struct, frozen=True):
    """A lease was refreshed, unless its time to live is 0: then there is no such lease."""

    result: _KeepAlive = _KeepAlive()


class TimeToLiveReply(msgspec.Struct, frozen=True):
    """What lives by a lease; a negative time to live means there is no such lease."""

    header: Header = Header()
    ttl: int = msgspec.field(name="TTL", default=0)
    keys: list[bytes] = []


class AuthReply(msgspec.Struct, frozen=True):
    """Logged in."""

    token: str


class WatchEvent(msgspec.Struct, frozen=True, gc=False):
    """A key was written (``PUT``, the default) or removed (``DELETE``)."""

    kv: KeyValue
    type: str = "PUT"


class WatchReply(msgspec.Struct, frozen=True):
    """One message of a watch."""

    header: Header = Header()
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    cancel_reason: str = ""
    events: list[WatchEvent] = []


class Failure(msgspec.Struct, frozen=True):
    """What went wrong, with gRPC's code for it."""

    message: str = ""
    code: int = msgspec.field(name="grpc_code", default=0)


class WatchResult(msgspec.Struct, frozen=True):
    """A line of a watch's stream."""

    result: WatchReply | None = None
    error: Failure | None = None


def prefix_end(prefix: bytes) -> bytes:
    """The end of the range of keys that start with ``prefix``."""
    for position in range(len(prefix) - 1, -1, -1):
        if prefix[position] < 0xFF:
            return prefix[:position] + bytes([prefix[position] + 1])
    return _EVERYTHING


def range_request(start: bytes, end: bytes, *, limit: int = 0, revision: int = 0) -> dict[str, Any]:
    """Keys from ``start`` to before ``end``, at most ``limit``, as they were at ``revision``."""
    return {"key": start, "range_end": end, "limit": str(limit), "revision": str(revision)}


def put_request(key: bytes, value: bytes, lease: int) -> dict[str, Any]:
    """Write a key that lives by ``lease``."""
    return {"key": key, "value": value, "lease": str(lease)}


def create_request(key: bytes, value: bytes, lease: int) -> dict[str, Any]:
    """Write a key unless it is there; then tell what is there."""
    absent = {"key": key, "target": "VERSION", "result": "EQUAL", "version": "0"}
    return {
        "compare": [absent],
        "success": [{"request_put": put_request(key, value, lease)}],
        "failure": [{"request_range": {"key": key}}],
    }


def delete_request(key: bytes, lease: int, *, not_after: int | None = None) -> dict[str, Any]:
    """Remove a key if it lives by ``lease`` (and was last written no later than ``not_after``)."""
    compare = [{"key": key, "target": "LEASE", "result": "EQUAL", "lease": str(lease)}]
    if not_after is not None:
        later = str(not_after + 1)
        compare.append({"key": key, "target": "MOD", "result": "LESS", "mod_revision": later})
    return {"compare": compare, "success": [{"request_delete_range": {"key": key}}]}


def watch_request(start: bytes, end: bytes, revision: int) -> dict[str, Any]:
    """Every change of the keys from ``start`` to before ``end``, from ``revision`` on."""
    return {
        "create_request": {
            "key": start,
            "range_end": end,
            "start_revision": str(revision),
        }
    }
