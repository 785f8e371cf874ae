from __future__ import annotations

import ipaddress
import logging
import socket
from pathlib import Path

import pytest

from muster.errors import ConfigError
from muster.wire.address import (
    Addresses,
    Interface,
    bind_and_advertise,
    choose,
    format_authority,
    is_up,
    list_interfaces,
    prefer,
)

LO = Interface("lo", ("127.0.0.1", "::1"))
ETH = Interface("eth0", ("192.0.2.7", "fe80::1", "2001:db8::7"))
WIFI = Interface("wlan0", ("198.51.100.9",))
V6 = Interface("eth0", ("fe80::1", "2001:db8::7"))
DOWN = Interface("eth9", ("203.0.113.1", "2001:db8::9"), up=False)


@pytest.mark.parametrize(
    ("host", "interfaces", "expected"),
    [
        pytest.param(None, [LO, ETH, WIFI], ("192.0.2.7", "192.0.2.7"), id="first routable IPv4"),
        pytest.param("", [LO, ETH], ("192.0.2.7", "192.0.2.7"), id="empty is unset"),
        pytest.param(None, [LO, DOWN, WIFI], ("198.51.100.9",) * 2, id="down interfaces are out"),
        pytest.param(None, [LO, V6, WIFI], ("198.51.100.9",) * 2, id="IPv4 before IPv6"),
        pytest.param(None, [LO, V6], ("2001:db8::7", "2001:db8::7"), id="IPv6 if nothing else"),
        pytest.param(None, [LO], ("127.0.0.1", "127.0.0.1"), id="loopback when alone"),
        pytest.param(None, [], ("127.0.0.1", "127.0.0.1"), id="no interface at all"),
        pytest.param(
            None, [Interface("ll", ("fe80::2",)), LO], ("127.0.0.1",) * 2, id="no link-local IPv6"
        ),
        pytest.param(
            None, [Interface("ll", ("169.254.1.2",))], ("169.254.1.2",) * 2, id="link-local IPv4 is"
        ),
        pytest.param(
            None,
            [Interface("odd", ("0.0.0.0", "224.0.0.1", "255.255.255.255", "ff02::1", "::"))],
            ("127.0.0.1", "127.0.0.1"),
            id="groups and wildcards are not addresses",
        ),
        pytest.param("0.0.0.0", [LO, ETH], ("0.0.0.0", "192.0.2.7"), id="all IPv4"),
        pytest.param("0.0.0.0", [LO, V6], ("0.0.0.0", "127.0.0.1"), id="all IPv4, none routable"),
        pytest.param("::", [LO, ETH], ("::", "2001:db8::7"), id="all IPv6"),
        pytest.param("[::]", [LO, ETH], ("::", "2001:db8::7"), id="all IPv6 in brackets"),
        pytest.param("::", [LO, WIFI], ("::", "::1"), id="all IPv6, none routable"),
        pytest.param("10.1.2.3", [LO, ETH], ("10.1.2.3", "10.1.2.3"), id="an address is itself"),
        pytest.param("127.0.0.1", [LO, ETH], ("127.0.0.1",) * 2, id="also loopback"),
        pytest.param("::1", [LO], ("::1", "::1"), id="IPv6"),
        pytest.param("[::1]", [LO], ("::1", "::1"), id="IPv6 in brackets"),
        pytest.param(" 10.1.2.3 ", [LO], ("10.1.2.3", "10.1.2.3"), id="spaces around"),
        pytest.param("lo", [LO, ETH], ("127.0.0.1", "127.0.0.1"), id="loopback interface"),
        pytest.param("eth0", [LO, ETH], ("192.0.2.7", "192.0.2.7"), id="interface, IPv4 first"),
        pytest.param("eth0", [LO, V6], ("2001:db8::7", "2001:db8::7"), id="interface, IPv6"),
        pytest.param("localhost", [LO, ETH], None, id="a name is looked up"),
        pytest.param("host.example", [], None, id="so is any other"),
    ],
)
def test_what_a_host_means(
    host: str | None, interfaces: list[Interface], expected: tuple[str, str] | None
) -> None:
    assert choose(host, interfaces) == expected


@pytest.mark.parametrize(
    ("host", "interfaces"),
    [
        ("eth1", [Interface("eth1", ())]),
        ("eth1", [Interface("eth1", ("fe80::1",))]),
        ("224.0.0.1", [ETH]),
        ("ff02::1", [ETH]),
        ("255.255.255.255", [ETH]),
    ],
)
def test_what_nothing_can_listen_on_is_refused(host: str, interfaces: list[Interface]) -> None:
    with pytest.raises(ConfigError, match=host.replace(".", r"\.")):
        choose(host, interfaces)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1:80"),
        ("::1", "[::1]:80"),
        ("[::1]", "[::1]:80"),
        ("host.example", "host.example:80"),
    ],
)
def test_only_ipv6_hosts_get_brackets(host: str, expected: str) -> None:
    assert format_authority(host, 80) == expected


def test_prefer_takes_ipv4_and_skips_what_is_no_address() -> None:
    assert prefer(["x", "::1", "127.0.0.1"]) == "127.0.0.1"
    assert prefer(["x", "::1", "127.0.0.1"], family=6) == "::1"
    assert prefer(["x"]) is None


def test_host_names_work_unlike_in_dynamo() -> None:
    found = bind_and_advertise("localhost")
    assert found.bind_host == found.advertise_host
    assert ipaddress.ip_address(found.bind_host).is_loopback


def test_a_name_that_cannot_be_resolved_is_a_config_error_that_says_the_name() -> None:
    with pytest.raises(ConfigError, match="called 'aaaa"):
        bind_and_advertise("a" * 300)


def test_an_explicit_advertised_host_wins() -> None:
    assert bind_and_advertise("0.0.0.0", advertise="gw.example") == ("0.0.0.0", "gw.example")
    assert bind_and_advertise("127.0.0.1", advertise="[2001:db8::1]") == (
        "127.0.0.1",
        "2001:db8::1",
    )


@pytest.mark.parametrize(
    "advertise", ["", "0.0.0.0", "::", "http://x", "x:80", "u@x", "a b", "224.0.0.1"]
)
def test_what_nobody_could_connect_to_is_not_advertised(advertise: str) -> None:
    with pytest.raises(ConfigError, match="advertised"):
        bind_and_advertise("127.0.0.1", advertise=advertise)


def test_asking_for_loopback_is_no_reason_to_warn(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        bind_and_advertise("127.0.0.1")
        bind_and_advertise("localhost")
        bind_and_advertise("lo")
        bind_and_advertise("::1")
    assert not caplog.records


def test_this_machine_has_an_interface_that_can_be_bound() -> None:
    found = bind_and_advertise(None)
    assert any(found.bind_host in interface.addresses for interface in list_interfaces())
    family = socket.AF_INET6 if ":" in found.bind_host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.bind((found.bind_host, 0))


def test_addresses_are_a_pair() -> None:
    bind, advertise = Addresses("0.0.0.0", "192.0.2.1")
    assert (bind, advertise) == ("0.0.0.0", "192.0.2.1")


@pytest.mark.parametrize(
    ("flags", "state", "expected"),
    [
        ("0x1003\n", "up\n", True),
        ("0x9\n", "unknown\n", True),
        ("0x1002\n", "down\n", False),
        ("0x1003\n", "down\n", False),
        ("0x1002\n", "unknown\n", False),
        ("nonsense", "up", True),
    ],
)
def test_up_means_switched_on_with_a_carrier(
    tmp_path: Path, flags: str, state: str, expected: bool
) -> None:
    (tmp_path / "eth0").mkdir()
    (tmp_path / "eth0" / "flags").write_text(flags)
    (tmp_path / "eth0" / "operstate").write_text(state)
    assert is_up("eth0", root=tmp_path) is expected


def test_an_interface_the_system_says_nothing_about_counts_as_up(tmp_path: Path) -> None:
    assert is_up("eth0", root=tmp_path)
