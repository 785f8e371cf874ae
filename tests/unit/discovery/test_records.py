from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.discovery.records import Instance, ModelRecord, Transport
from muster.errors import DiscoveryError
from muster.names import EndpointId

# The record of section 1.4 of dynamo-runtime.md, as one line.
DYNAMO_INSTANCE = (
    b'{"type":"Endpoint","component":"backend","endpoint":"generate","namespace":"exp-ns",'
    b'"instance_id":672002502540067400,'
    b'"transport":{"tcp":"192.0.2.2:32779/9536eb734130248/exp-ns/backend/generate"},'
    b'"device_type":"cuda","request_plane_codec":"msgpack"}'
)
INSTANCE = Instance(
    namespace="exp-ns",
    component="backend",
    endpoint="generate",
    instance_id=0x9536EB734130248,
    transport=Transport("tcp", "192.0.2.2:32779/9536eb734130248/exp-ns/backend/generate"),
    device_type="cuda",
    request_plane_codec="msgpack",
)


def test_an_instance_is_written_byte_for_byte_as_dynamo_writes_it() -> None:
    assert INSTANCE.to_json() == DYNAMO_INSTANCE


def test_an_instance_is_read_from_dynamos_bytes() -> None:
    assert Instance.from_json(DYNAMO_INSTANCE) == INSTANCE


def test_the_key_has_the_id_in_hexadecimal_without_padding() -> None:
    assert INSTANCE.key == "exp-ns/backend/generate/9536eb734130248"
    assert str(INSTANCE) == "exp-ns/backend/generate/672002502540067400"
    assert INSTANCE.endpoint_id == EndpointId("exp-ns", "backend", "generate")


@pytest.mark.parametrize("instance_id", [1, (1 << 53) + 1, 17418569344383752811, (1 << 64) - 1])
def test_ids_keep_all_64_bits(instance_id: int) -> None:
    instance = msgspec.structs.replace(INSTANCE, instance_id=instance_id)
    assert Instance.from_json(instance.to_json()).instance_id == instance_id
    assert f'"instance_id":{instance_id},'.encode() in instance.to_json()
    assert int(instance.key.rpartition("/")[2], 16) == instance_id


def test_optional_fields_are_left_out_when_unknown() -> None:
    bare = msgspec.structs.replace(INSTANCE, device_type=None, request_plane_codec=None)
    fields = json.loads(bare.to_json())
    assert fields.keys() == {
        "type",
        "component",
        "endpoint",
        "namespace",
        "instance_id",
        "transport",
    }
    assert Instance.from_json(bare.to_json()) == bare


def test_unknown_fields_and_a_missing_type_are_accepted() -> None:
    fields = json.loads(DYNAMO_INSTANCE)
    del fields["type"]
    fields |= {"muster": {"version": "1"}, "shard": [1, 2]}
    assert Instance.from_json(json.dumps(fields).encode()) == INSTANCE


NAMES = st.text(min_size=1, max_size=20)


@given(
    host=st.none() | NAMES,
    kind=st.sampled_from(["tcp", "nats_tcp", "http"]),
    instance_id=st.integers(0, (1 << 64) - 1),
    device_type=st.none() | st.sampled_from(["cpu", "cuda"]),
    names=st.tuples(NAMES, NAMES, NAMES),
)
def test_every_instance_is_read_as_it_was_written(
    host: str | None,
    kind: str,
    instance_id: int,
    device_type: str | None,
    names: tuple[str, str, str],
) -> None:
    instance = Instance(
        namespace=names[0],
        component=names[1],
        endpoint=names[2],
        instance_id=instance_id,
        transport=Transport(kind, "ns_c.e-1f"),
        device_type=device_type,
        host=host,
    )
    written = instance.to_json()
    assert Instance.from_json(written) == instance
    fields = json.loads(written)
    assert fields.get("muster") == (None if host is None else {"host": host})
    assert "host" not in fields
    fields.pop("muster", None)
    as_dynamo_writes_it = msgspec.structs.replace(instance, host=None)
    assert Instance.from_json(json.dumps(fields).encode()) == as_dynamo_writes_it


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 60), 1 << 60) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(extension=st.dictionaries(st.text(max_size=8), JSON, max_size=4), host=NAMES)
def test_unknown_keys_beside_the_host_are_ignored(extension: dict[str, Any], host: str) -> None:
    fields = json.loads(DYNAMO_INSTANCE) | {"muster": extension | {"host": host}}
    told = Instance.from_json(json.dumps(fields).encode())
    assert told == msgspec.structs.replace(INSTANCE, host=host)


@given(extension=JSON)
def test_what_is_no_host_costs_no_instance(extension: Any) -> None:
    fields = json.loads(DYNAMO_INSTANCE) | {"muster": extension}
    told = Instance.from_json(json.dumps(fields).encode())
    assert msgspec.structs.replace(told, host=None) == INSTANCE
    told = Instance.from_json(
        json.dumps(fields | {"muster": {"host": ["10.0.0.1"], "more": extension}}).encode()
    )
    assert told == INSTANCE


def test_the_host_is_not_among_the_fields_that_health_pages_show() -> None:
    told = msgspec.structs.replace(INSTANCE, host="10.0.0.1")
    assert told.to_builtins() == INSTANCE.to_builtins()
    assert told.to_json().startswith(DYNAMO_INSTANCE[:-1])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff\xfe",
        b"{}",
        DYNAMO_INSTANCE[:-1],
        DYNAMO_INSTANCE.replace(b'"Endpoint"', b'"Model"'),
        DYNAMO_INSTANCE.replace(b"672002502540067400", b'"672002502540067400"'),
        DYNAMO_INSTANCE.replace(b'{"tcp":', b'{"quic":"x","tcp":'),
    ],
)
def test_what_is_no_instance_is_an_error_of_ours(data: bytes) -> None:
    with pytest.raises(DiscoveryError, match="not an instance record"):
        Instance.from_json(data)


def test_a_model_record_keeps_its_card_as_it_came() -> None:
    card = b'{"display_name": "m",  "unknown": 1.50}'
    record = ModelRecord(
        namespace="ns",
        component="c",
        endpoint="e",
        instance_id=255,
        card_json=msgspec.Raw(card),
    )
    text = record.to_json()
    assert text == (
        b'{"type":"Model","namespace":"ns","component":"c","endpoint":"e","instance_id":255,'
        b'"card_json":' + card + b"}"
    )
    assert bytes(ModelRecord.from_json(text).card_json) == card
    assert record.key == "ns/c/e/ff"


def test_a_lora_record_has_its_slug_in_record_and_key() -> None:
    record = ModelRecord(
        namespace="ns",
        component="c",
        endpoint="e",
        instance_id=255,
        card_json=msgspec.Raw(b"{}"),
        model_suffix="my-lora",
    )
    assert record.key == "ns/c/e/ff/my-lora"
    again = ModelRecord.from_json(record.to_json())
    assert (again.model_suffix, again.endpoint_id) == ("my-lora", EndpointId("ns", "c", "e"))


@pytest.mark.parametrize("data", [b"", b"{}", b"null", b"\xff", DYNAMO_INSTANCE])
def test_what_is_no_model_record_is_an_error_of_ours(data: bytes) -> None:
    with pytest.raises(DiscoveryError, match="not a model record"):
        ModelRecord.from_json(data)
