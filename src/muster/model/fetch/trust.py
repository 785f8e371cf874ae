"""Whom a card may send us to: decisions over addresses and paths, no I/O.

A card is anybody's word. What is fetched over HTTP must come from the instance that published the
card, or from a host the settings name; what is read from this host's disk must lie under a directory
the settings name. The digest proves that bytes are the card's, not that asking for them was harmless.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import msgspec

from muster.errors import ConfigError

__all__ = ["Address", "HostPolicy", "is_under", "parse_address"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_ANY = "any"


class HostPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Which hosts may be asked; made with ``parse``.

    Attributes:
        anybody: Every host.
        names: Host names, in lower case.
        networks: Networks; a single address is one of its own.
    """

    anybody: bool = False
    names: frozenset[str] = frozenset()
    networks: tuple[_Network, ...] = ()

    @classmethod
    def parse(cls, words: Iterable[str]) -> HostPolicy:
        """Read ``MUSTER_FETCH_ALLOW``: names, addresses, networks such as ``10.0.0.0/8``, ``any``.

        Raises:
            ConfigError: A word is none of these.
        """
        names: set[str] = set()
        networks: list[_Network] = []
        anybody = False
        for word in words:
            text = word.strip().lower().removeprefix("[").removesuffix("]")
            if text == _ANY:
                anybody = True
                continue
            try:
                networks.append(ipaddress.ip_network(text, strict=False))
            except ValueError:
                if "/" in text or ":" in text or not text or any(map(str.isspace, text)):
                    raise ConfigError(
                        f"{word!r} in MUSTER_FETCH_ALLOW is no host, address or network",
                        hint="such as files.example.org, 10.1.2.3, 10.0.0.0/8, or any",
                    ) from None
                names.add(text)
        return cls(anybody=anybody, names=frozenset(names), networks=tuple(networks))

    def allows_name(self, host: str, instance_host: str | None) -> bool:
        """Whether a host may be asked for its name alone, whatever address it has.

        It may if the settings name it, or if the instance itself gave this name as its own.
        """
        if self.anybody or host.lower() in self.names:
            return True
        return instance_host is not None and host.lower() == instance_host.lower()

    def allows_address(
        self, address: Address, instance: Collection[Address], own: Collection[Address]
    ) -> bool:
        """Whether an address may be connected to.

        Args:
            address: Where we would connect.
            instance: The addresses of the instance that published the card.
            own: This machine's addresses. If the instance is on this machine, all of them are the
                instance's: it may listen on one and advertise another.
        """
        if self.anybody or any(address in network for network in self.networks):
            return True
        if address in instance:
            return True

        def is_here(each: Address) -> bool:
            return each.is_loopback or each in own

        return is_here(address) and any(map(is_here, instance))


def parse_address(text: str) -> Address | None:
    """An IP address, with or without brackets; an IPv4 address in IPv6 clothes is an IPv4 address."""
    try:
        address = ipaddress.ip_address(text.removeprefix("[").removesuffix("]").partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def is_under(path: Path, roots: Sequence[Path]) -> bool:
    """Whether ``path`` is in one of ``roots``. Both must be resolved: links are not followed here."""
    return any(path.is_relative_to(root) for root in roots)
