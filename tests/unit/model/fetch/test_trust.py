from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.errors import ConfigError
from muster.model.fetch.trust import Address, HostPolicy, is_under, parse_address

NOBODY = HostPolicy()


def ip(text: str) -> Address:
    address = parse_address(text)
    assert address is not None
    return address


def test_only_the_instances_own_address_is_asked_by_default() -> None:
    instance, own = {ip("10.0.0.1")}, {ip("10.9.9.9")}
    assert NOBODY.allows_address(ip("10.0.0.1"), instance, own)
    for other in ("10.0.0.2", "127.0.0.1", "169.254.169.254", "::1", "10.9.9.9"):
        assert not NOBODY.allows_address(ip(other), instance, own)
    assert not NOBODY.allows_address(ip("10.0.0.1"), set(), own)


def test_an_instance_of_this_machine_may_use_any_address_of_it() -> None:
    own = {ip("10.9.9.9"), ip("fd00::9")}
    for instance in ("127.0.0.1", "10.9.9.9", "::1"):
        for address in ("127.0.0.1", "127.3.2.1", "10.9.9.9", "fd00::9", "::1"):
            assert NOBODY.allows_address(ip(address), {ip(instance)}, own)
        assert not NOBODY.allows_address(ip("10.0.0.1"), {ip(instance)}, own)


def test_a_name_is_believed_if_the_instance_gave_it_or_a_setting_does() -> None:
    policy = HostPolicy.parse(["Files.Example.org", "10.0.0.0/8", "[fd00::1]"])
    assert policy.allows_name("files.example.ORG", None)
    assert policy.allows_name("worker-0.pods", "Worker-0.pods")
    assert not policy.allows_name("other.example.org", "worker-0.pods")
    assert policy.allows_address(ip("10.1.2.3"), set(), set())
    assert policy.allows_address(ip("fd00::1"), set(), set())
    assert not policy.allows_address(ip("11.1.2.3"), set(), set())


def test_any_means_any() -> None:
    policy = HostPolicy.parse(["any"])
    assert policy.allows_name("whoever", None)
    assert policy.allows_address(ip("8.8.8.8"), set(), set())


@pytest.mark.parametrize("word", ["10.0.0.0/99", "http://h", "a b", "", "1::2::3"])
def test_a_word_that_is_no_host_is_an_error(word: str) -> None:
    with pytest.raises(ConfigError, match="MUSTER_FETCH_ALLOW"):
        HostPolicy.parse([word])


def test_an_ipv4_address_in_ipv6_clothes_is_itself() -> None:
    assert ip("::ffff:10.0.0.1") == ip("10.0.0.1") == ip("[::ffff:a00:1]")
    assert parse_address("worker") is None
    assert parse_address("fe80::1%eth0") == ip("fe80::1")


_addresses = st.ip_addresses()


@given(_addresses, st.sets(_addresses, max_size=3), st.sets(_addresses, max_size=3))
def test_without_a_setting_nothing_is_asked_but_the_instance_and_its_machine(
    address: Address, instance: set[Address], own: set[Address]
) -> None:
    if NOBODY.allows_address(address, instance, own):
        here = {each for each in instance if each.is_loopback or each in own}
        assert address in instance or (here and (address.is_loopback or address in own))


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_a_network_is_the_addresses_in_it(address: ipaddress.IPv4Address, bits: int) -> None:
    policy = HostPolicy.parse([f"{address}/{bits}"])
    assert policy.allows_address(address, set(), set())
    outside = ipaddress.IPv4Address(int(address) ^ (1 << 31))
    assert policy.allows_address(outside, set(), set()) is (bits == 0)


def test_a_path_is_under_a_directory_by_whole_names() -> None:
    roots = [Path("/models"), Path("/hub")]
    assert is_under(Path("/models/a/b"), roots)
    assert is_under(Path("/hub"), roots)
    for path in ("/models2/a", "/", "/etc/passwd", "/model"):
        assert not is_under(Path(path), roots)
