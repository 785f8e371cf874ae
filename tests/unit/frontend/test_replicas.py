from __future__ import annotations

import msgspec
import pytest

from muster.digest import Digest
from muster.discovery.records import Instance, Transport
from muster.frontend.replicas import instance_host, replicas_of
from muster.model.card import ModelDeploymentCard
from muster.model.catalog.group import Member

CARD = ModelDeploymentCard(display_name="M", slug="m")


def instance(number: int, address: str, kind: str = "tcp") -> Instance:
    return Instance(
        namespace="ns",
        component="c",
        endpoint="e",
        instance_id=number,
        transport=Transport(kind, address),
    )


def member(number: int) -> Member:
    return Member(
        key=f"ns/c/e/{number:x}",
        instance_id=number,
        mdcsum="",
        identity=Digest.of(b""),
        terms="",
        card=CARD,
    )


@pytest.mark.parametrize(
    ("kind", "address", "host"),
    [
        ("tcp", "10.0.0.1:5000/1f/ns/c/e", "10.0.0.1"),
        ("tcp", "[fd00::1]:5000/1f/ns", "fd00::1"),
        ("tcp", "worker-0.pods:5000/1f", "worker-0.pods"),
        ("tcp", "worker-0", "worker-0"),
        ("tcp", "", None),
        ("http", "http://10.0.0.1:80/x", "10.0.0.1"),
        ("nats_tcp", "ns.c.e-1f", None),
    ],
)
def test_the_host_in_an_instances_address(kind: str, address: str, host: str | None) -> None:
    assert instance_host(instance(1, address, kind)) == host


@pytest.mark.parametrize(
    ("kind", "address", "host"),
    [
        ("nats_tcp", "ns.c.e-1f", "10.9.9.9"),
        ("tcp", "10.0.0.1:5000/1f/ns/c/e", "10.0.0.1"),
        ("tcp", "", None),
    ],
)
def test_the_host_in_the_record_counts_where_the_address_has_none(
    kind: str, address: str, host: str | None
) -> None:
    told = msgspec.structs.replace(instance(1, address, kind), host="10.9.9.9")
    assert instance_host(told) == host


def test_members_are_replicas_where_their_instances_are() -> None:
    one, two, three = replicas_of(
        [member(1), member(2), member(3)],
        [instance(1, "10.0.0.1:1/x"), instance(2, "10.0.0.2:1/x")],
        {1},
    )
    assert (one.host, one.healthy) == ("10.0.0.1", True)
    assert (two.host, two.healthy) == ("10.0.0.2", False)
    assert (three.host, three.healthy) == (None, True)
    assert three.key == "ns/c/e/3"
