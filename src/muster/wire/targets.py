"""Where an instance is reached, by what its record says of its transport."""

from __future__ import annotations

import re
from collections.abc import Collection

import msgspec

from muster.errors import CannotConnect
from muster.wire.codec import Codec

__all__ = ["LoopbackTarget", "NatsTarget", "Target", "TcpTarget", "read_target"]

_PORT = re.compile(r"[0-9]{1,5}")
_SUBJECT = re.compile(r"[^\s*>.]+(\.[^\s*>.]+)*")


class TcpTarget(msgspec.Struct, frozen=True):
    """Host, port, the endpoint's path there, and its codec."""

    host: str
    port: int
    path: str
    codec: Codec

    @property
    def peer(self) -> str:
        """For messages."""
        return f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, address: str, codec: str | None) -> TcpTarget:
        """Read the address text of an instance record: ``host:port/path``, IPv6 in brackets.

        Without a codec in the record the peer expects JSON.

        Raises:
            CannotConnect: If the text is not such an address, or the codec is not one we speak.
        """
        authority, slash, path = address.partition("/")
        host, colon, port = authority.rpartition(":")
        if not (slash and colon and path and host and _PORT.fullmatch(port) and int(port) < 65536):
            raise CannotConnect(f"{address!r} is not an address of the form host:port/path")
        host = host.removeprefix("[").removesuffix("]")
        return cls(host, int(port), path, _codec(codec))


class NatsTarget(msgspec.Struct, frozen=True):
    """The subject an instance listens on, and its codec."""

    path: str
    codec: Codec

    @property
    def peer(self) -> str:
        """For messages."""
        return f"nats:{self.path}"

    @classmethod
    def parse(cls, address: str, codec: str | None) -> NatsTarget:
        """Read the address text of an instance record: a subject without wildcards.

        Raises:
            CannotConnect: If it is no such subject, or the codec is not one we speak.
        """
        if not _SUBJECT.fullmatch(address):
            raise CannotConnect(f"{address!r} is not a NATS subject to publish to")
        return cls(address, _codec(codec))


class LoopbackTarget(msgspec.Struct, frozen=True):
    """A server in this process, the endpoint's path there, and its codec."""

    server: str
    path: str
    codec: Codec

    @property
    def peer(self) -> str:
        """For messages."""
        return f"loopback:{self.server}"

    @classmethod
    def parse(cls, address: str, codec: str | None) -> LoopbackTarget:
        """Read the address text of an instance record: ``server/path``.

        Raises:
            CannotConnect: If it is not of that form, or the codec is not one we speak.
        """
        server, slash, path = address.partition("/")
        if not (slash and server and path):
            raise CannotConnect(f"{address!r} is not an address of the form server/path")
        return cls(server, path, _codec(codec))


Target = TcpTarget | NatsTarget | LoopbackTarget
"""Where a request goes. ``path`` is the endpoint's there, ``codec`` what its worker asks for."""

_KINDS: dict[str, type[TcpTarget] | type[NatsTarget] | type[LoopbackTarget]] = {
    "tcp": TcpTarget,
    "nats_tcp": NatsTarget,
    "loopback": LoopbackTarget,
}
_HINTS = {
    "nats_tcp": "; NATS_SERVER lets it, whatever its own request plane",
    "loopback": "; it is for callers in the worker's own process",
}


def read_target(kind: str, address: str, codec: str | None, *, spoken: Collection[str]) -> Target:
    """Where an instance with this transport is reached.

    Args:
        kind: ``tcp``, ``nats_tcp`` or ``loopback``.
        address: The transport's address text.
        codec: What the record says of its codec.
        spoken: The kinds this process can call.

    Raises:
        CannotConnect: It cannot be reached from here; says why.
    """
    if kind not in spoken or kind not in _KINDS:
        hint = _HINTS.get(kind, "")
        raise CannotConnect(f"transport {kind!r} is not spoken here{hint}")
    return _KINDS[kind].parse(address, codec)


def _codec(name: str | None) -> Codec:
    if name not in (None, "msgpack", "json"):
        raise CannotConnect(f"the instance asks for the unknown codec {name!r}")
    return "msgpack" if name == "msgpack" else "json"
