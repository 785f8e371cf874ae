"""Which address to listen on, and which one to tell others.

``choose`` decides from values alone; ``bind_and_advertise`` feeds it with the machine's interfaces
and the system's name lookup. The rules are those of Dynamo 1.6.1 (first usable IPv4, else IPv6; an
interface may be named), except that host names work too and that nothing fails for want of a
network: then it is the loopback address, with a warning.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import ifaddr
import msgspec

from muster.errors import ConfigError
from muster.log import facts

__all__ = [
    "Addresses",
    "Interface",
    "bind_and_advertise",
    "choose",
    "format_authority",
    "is_up",
    "list_interfaces",
    "prefer",
]

logger = logging.getLogger(__name__)

_LOOPBACK = {4: "127.0.0.1", 6: "::1"}
_WILDCARD = {"0.0.0.0": 4, "::": 6}  # noqa: S104 - recognised here, bound only where asked for
_SYS_NET = Path("/sys/class/net")
_IFF_UP = 0x1


class Addresses(NamedTuple):
    """The host to bind a listening socket to, and the host to put into addresses for others.

    IPv6 hosts are without brackets.
    """

    bind_host: str
    advertise_host: str


class Interface(msgspec.Struct, frozen=True):
    """A network interface: its name, its addresses in the system's order, whether it carries."""

    name: str
    addresses: tuple[str, ...]
    up: bool = True


def format_authority(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 host (brackets already there are kept)."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def choose(host: str | None, interfaces: Sequence[Interface]) -> Addresses | None:
    """Decide what ``host`` means on a machine with these interfaces.

    Args:
        host: ``None`` or empty for the first routable address; ``0.0.0.0`` or ``::`` for all of a
            family; an IP address (IPv6 with or without brackets); or an interface's name.
        interfaces: The machine's interfaces.

    Returns:
        The two addresses, or ``None`` if ``host`` is none of these: a name to look up. Without a
        routable address the advertised one is loopback.

    Raises:
        ConfigError: If ``host`` names an interface without a usable address, or is an address
            nothing can listen on.
    """
    host = _without_brackets((host or "").strip())
    if not host:
        found = prefer(_routable(interfaces)) or _LOOPBACK[4]
        return Addresses(found, found)
    family = _WILDCARD.get(host)
    if family:
        return Addresses(host, prefer(_routable(interfaces), family=family) or _LOOPBACK[family])
    address = _parse(host)
    if address:
        if address.is_multicast or host == "255.255.255.255":
            raise ConfigError(f"cannot listen on {host}: it is not the address of one machine")
        return Addresses(host, host)
    for interface in interfaces:
        if interface.name == host:
            return _on_interface(interface)
    return None


def prefer(addresses: Iterable[str], *, family: int | None = None) -> str | None:
    """The first IPv4 address, else the first IPv6 one; of ``family`` (4 or 6) alone if given."""
    candidates = [*addresses]
    for version in (family,) if family else (4, 6):
        for text in candidates:
            address = _parse(text)
            if address and address.version == version:
                return text
    return None


def _on_interface(interface: Interface) -> Addresses:
    found = prefer(text for text in interface.addresses if _usable(text))
    if not found:
        raise ConfigError(
            f"interface {interface.name} has no address to listen on",
            hint="give it one, or name another interface, an address, or a host name",
        )
    return Addresses(found, found)


def _routable(interfaces: Iterable[Interface]) -> Iterator[str]:
    for interface in interfaces:
        if interface.up:
            for text in interface.addresses:
                if _usable(text) and not ipaddress.ip_address(text).is_loopback:
                    yield text


def _usable(text: str) -> bool:
    """Whether others could reach this address: no link-local IPv6 (it needs a zone), no group."""
    address = _parse(text)
    if not address or address.is_multicast or address.is_unspecified:
        return False
    return not (address.version == 6 and address.is_link_local) and text != "255.255.255.255"


def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _without_brackets(host: str) -> str:
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def bind_and_advertise(host: str | None, *, advertise: str | None = None) -> Addresses:
    """Resolve ``host`` on this machine. May block on a name lookup: call it in a thread.

    Warns in the log when only loopback is left to advertise though more was asked for.

    Args:
        host: As for ``choose``; anything else is looked up as a host name, IPv4 preferred.
        advertise: Host to advertise whatever ``host`` is; taken as it is.

    Raises:
        ConfigError: If ``host`` is unknown or unusable, or ``advertise`` is not one host.
    """
    chosen = choose(host, list_interfaces()) or _look_up((host or "").strip())
    if advertise is not None:
        return Addresses(chosen.bind_host, _check_advertised(advertise))
    address = _parse(chosen.advertise_host)
    if address and address.is_loopback and not _means_loopback(host):
        logger.warning(
            "only this machine can connect: no routable address found",
            extra=facts(
                host=host or "(unset)",
                advertised=chosen.advertise_host,
                hint="listen on :: where there is only IPv6, or name the address to advertise",
            ),
        )
    return chosen


def _means_loopback(host: str | None) -> bool:
    """Whether who wrote ``host`` wanted loopback."""
    text = _without_brackets((host or "").strip())
    address = _parse(text)
    return text in {"localhost", "lo", "lo0"} or bool(address and address.is_loopback)


def _check_advertised(advertise: str) -> str:
    host = _without_brackets(advertise.strip())
    address = _parse(host)
    if (
        not host
        or any(character in host for character in "/@?#[] ")
        or (":" in host) > bool(address)
    ):
        raise ConfigError(f"{advertise!r} cannot be advertised: it is not a host name or address")
    if address and (address.is_unspecified or address.is_multicast):
        raise ConfigError(f"{advertise!r} cannot be advertised: nobody can connect to it")
    return host


def _look_up(name: str) -> Addresses:
    try:
        infos = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"no interface, address or host is called {name!r}: {error}",
            hint="use an IP address, an interface of this machine, or a name it can resolve",
        ) from error
    found = prefer(str(info[4][0]) for info in infos)
    if not found:
        raise ConfigError(f"host {name!r} has no IP address")
    return Addresses(found, found)


def list_interfaces() -> list[Interface]:
    """The machine's interfaces, in the system's order.

    Raises:
        ConfigError: If the system does not tell.
    """
    try:
        adapters = [*ifaddr.get_adapters()]
    except OSError as error:
        raise ConfigError(f"cannot list the network interfaces: {error}") from error
    return [
        Interface(
            adapter.nice_name,
            tuple(ip.ip if isinstance(ip.ip, str) else ip.ip[0] for ip in adapter.ips),
            is_up(adapter.nice_name),
        )
        for adapter in adapters
    ]


def is_up(name: str, *, root: Path = _SYS_NET) -> bool:
    """Whether the interface is switched on and has a carrier; ``True`` where nobody can tell.

    Linux says so under ``/sys/class/net``; other systems are taken at their word that an interface
    with an address is in use.
    """
    try:
        flags = int((root / name / "flags").read_text("ascii"), 16)
        state = (root / name / "operstate").read_text("ascii").strip()
    except (OSError, ValueError):
        return True
    return bool(flags & _IFF_UP) and state != "down"
