"""Who may get a request, and why the others may not."""

from __future__ import annotations

from muster.discovery.records import Instance, Transport
from muster.runtime.instances import InstanceSet


def instance(number: int, address: str = "127.0.0.1:80/1/n/c/e", kind: str = "tcp") -> Instance:
    return Instance(
        namespace="n",
        component="c",
        endpoint="e",
        instance_id=number,
        transport=Transport(kind, address),
        request_plane_codec="msgpack",
    )


def members(*instances: Instance, inhibit_s: float = 5.0) -> InstanceSet:
    found = InstanceSet(inhibit_s)
    for each in instances:
        found.put(each)
    return found


def test_all_that_can_be_reached_are_free_in_order_of_id() -> None:
    assert members(instance(2**64 - 1), instance(3), instance(20)).free(0) == (3, 20, 2**64 - 1)


def test_an_instance_that_failed_is_left_out_for_a_while_then_comes_back() -> None:
    found = members(instance(1), instance(2))
    found.avoid(1, now=100.0)
    assert found.free(100.0) == (2,)
    assert found.exclusions(101.0) == {1: "avoided for 4.0 s after a failure"}
    assert found.free(104.9) == (2,)
    assert found.free(105.0) == (1, 2)
    assert found.exclusions(105.0) == {}


def test_with_no_time_to_avoid_nobody_is_avoided() -> None:
    found = members(instance(1), inhibit_s=0)
    found.avoid(1, now=0)
    assert found.free(0) == (1,)


def test_avoiding_somebody_unknown_changes_nothing() -> None:
    found = members(instance(1))
    found.avoid(9, now=0)
    assert found.free(0) == (1,)
    assert found.exclusions(0) == {}


def test_a_new_record_of_an_instance_is_followed_and_clears_its_failure() -> None:
    found = members(instance(1))
    found.avoid(1, now=0)
    found.put(instance(1, "127.0.0.1:81/1/n/c/e"))
    assert found.free(0) == (1,)
    target = found.members[1].target
    assert target is not None
    assert target.port == 81


def test_a_transport_or_address_or_codec_we_cannot_use_has_its_reason() -> None:
    unknown_codec = Instance(
        namespace="n",
        component="c",
        endpoint="e",
        instance_id=3,
        transport=Transport("tcp", "h:1/p"),
        request_plane_codec="cbor",
    )
    found = members(instance(1, "subject", kind="nats_tcp"), instance(2, "nonsense"), unknown_codec)
    assert found.free(0) == ()
    reasons = found.exclusions(0)
    assert "'nats_tcp' is not spoken here" in reasons[1]
    assert "not an address of the form host:port/path" in reasons[2]
    assert "unknown codec 'cbor'" in reasons[3]


def test_one_that_left_is_gone_and_leaving_twice_is_fine() -> None:
    found = members(instance(1), instance(2))
    found.remove(1)
    found.remove(1)
    assert found.free(0) == (2,)


def test_the_codec_is_json_where_the_record_has_none() -> None:
    found = members(msgspec_without_codec())
    target = found.members[5].target
    assert target is not None
    assert (target.host, target.port, target.path, target.codec) == ("::1", 80, "5/n/c/e", "json")


def msgspec_without_codec() -> Instance:
    return Instance.from_json(
        b'{"component":"c","endpoint":"e","namespace":"n","instance_id":5,'
        b'"transport":{"tcp":"[::1]:80/5/n/c/e"}}'
    )
