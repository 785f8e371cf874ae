"""A port that several processes of one supervisor listen on, and nobody else.

Every process binds the port itself with ``SO_REUSEPORT``, and Linux gives each new connection to one
of those that listen, by a hash of both addresses. A process that ends takes its listening socket
along, so that no connection waits for one that is not there.

With ``SO_REUSEPORT`` alone a second frontend of the same user would share the port unasked. So the
port is first bound without it, which fails if anybody has it, and then held by a socket that never
listens: it gets no connections, and keeps everybody else from the port.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from muster.errors import ConfigError

__all__ = ["PortReservation"]

_Address = tuple[socket.AddressFamily, tuple[Any, ...]]


class PortReservation:
    """Holds a port on all addresses of a host until it is closed.

    Args:
        host: As for ``create_server``: a name or an address; empty for all.
        port: The port; 0 picks one.
        flag: Option of the command line that chooses the port, for the hint.

    Attributes:
        port: The port.

    Raises:
        ConfigError: It cannot be bound, or this system cannot share ports.
    """

    def __init__(self, host: str, port: int, *, flag: str) -> None:
        if sys.platform != "linux":
            raise ConfigError(
                "several processes on one port need Linux",
                hint="start one frontend a port, with a proxy before them",
            )
        self._held: list[socket.socket] = []
        self.port = port
        try:
            for family, address in _resolve(host, port):
                self._hold(family, address)
        except OSError as error:
            self.close()
            raise ConfigError(
                f"cannot listen on {host} port {port}: {error}",
                hint=f"another process may have the port; choose one with {flag}",
            ) from error

    def _hold(self, family: socket.AddressFamily, address: Sequence[str | int]) -> None:
        with _bound(family, (address[0], self.port, *address[2:]), shared=False) as probe:
            probe.listen(1)
            self.port = int(probe.getsockname()[1])
        where = (address[0], self.port, *address[2:])
        self._held.append(_bound(family, where, shared=True))

    def close(self) -> None:
        """Let go of it. Idempotent."""
        while self._held:
            self._held.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _resolve(host: str, port: int) -> list[_Address]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _bound(
    family: socket.AddressFamily, address: tuple[str | int, ...], *, shared: bool
) -> socket.socket:
    with contextlib.ExitStack() as stack:
        bound = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
        stack.pop_all()
        return bound
