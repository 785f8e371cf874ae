from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.discovery.etcd.messages import (
    KeepAliveReply,
    RangeReply,
    TimeToLiveReply,
    TxnReply,
    WatchResult,
    create_request,
    delete_request,
    prefix_end,
    range_request,
)


@given(prefix=st.binary(max_size=4), key=st.binary(max_size=6))
def test_the_range_of_a_prefix_has_its_keys_and_no_other(prefix: bytes, key: bytes) -> None:
    end = prefix_end(prefix)
    inside = key >= prefix and (end == b"\0" or key < end)
    assert inside == key.startswith(prefix)


def read(text: str, kind: type) -> object:
    return msgspec.json.decode(text, type=kind, strict=False)


def test_replies_as_etcd_3_4_writes_them() -> None:
    reply = read(
        '{"header":{"cluster_id":"3249","member_id":"33","revision":"2","raft_term":"2"},"kvs":[{'
        '"key":"YQ==","create_revision":"2","mod_revision":"2","version":"1","value":"Yg==",'
        '"lease":"1234567"}],"count":"1"}',
        RangeReply,
    )
    assert isinstance(reply, RangeReply)
    assert (reply.header.revision, reply.more) == (2, False)
    (kv,) = reply.kvs
    assert (kv.key, kv.value, kv.lease, kv.mod_revision) == (b"a", b"b", 1234567, 2)
    gone = read('{"result":{"header":{"revision":"1"},"ID":"12345678"}}', KeepAliveReply)
    assert isinstance(gone, KeepAliveReply)
    assert gone.result.ttl == 0
    keys = read('{"header":{"revision":"2"},"ID":"1","TTL":"7","keys":["YQ=="]}', TimeToLiveReply)
    assert isinstance(keys, TimeToLiveReply)
    assert (keys.ttl, keys.keys) == (7, [b"a"])


def test_a_failed_create_says_who_is_there() -> None:
    reply = read(
        '{"header":{"revision":"2"},"responses":[{"response_range":{"header":{"revision":"2"},'
        '"kvs":[{"key":"YQ==","value":"Yg==","lease":"7"}],"count":"1"}}]}',
        TxnReply,
    )
    assert isinstance(reply, TxnReply)
    assert not reply.succeeded
    found = reply.found()
    assert found is not None
    assert found.lease == 7
    assert TxnReply(succeeded=True).found() is None


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ('{"result":{"header":{"revision":"3"},"created":true}}', []),
        (
            (
                '{"result":{"header":{"revision":"3"},"events":[{"kv":{"key":"YQ==","value":"Yg=="}},'
                '{"type":"DELETE","kv":{"key":"YQ==","mod_revision":"3"}}]}}'
            ),
            ["PUT", "DELETE"],
        ),
    ],
)
def test_watch_messages(text: str, types: list[str]) -> None:
    told = read(text, WatchResult)
    assert isinstance(told, WatchResult)
    assert told.result is not None
    assert [event.type for event in told.result.events] == types


def test_requests_carry_bytes_as_base64_and_numbers_as_text() -> None:
    big = (1 << 63) - 1
    assert msgspec.json.decode(msgspec.json.encode(create_request(b"a", b"b", big))) == {
        "compare": [{"key": "YQ==", "target": "VERSION", "result": "EQUAL", "version": "0"}],
        "success": [{"request_put": {"key": "YQ==", "value": "Yg==", "lease": str(big)}}],
        "failure": [{"request_range": {"key": "YQ=="}}],
    }
    removed = msgspec.json.decode(msgspec.json.encode(delete_request(b"a", 7, not_after=3)))
    assert [each["target"] for each in removed["compare"]] == ["LEASE", "MOD"]
    assert removed["compare"][1]["mod_revision"] == "4"
    assert range_request(b"a", b"b", limit=5)["limit"] == "5"
