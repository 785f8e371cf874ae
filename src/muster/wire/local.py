"""Requests from and to endpoints of one process, without a socket."""

from __future__ import annotations

import itertools
from typing import Any

from muster.errors import CannotConnect
from muster.wire.dispatch import Dispatcher
from muster.wire.targets import LoopbackTarget
from muster.wire.tcp.response_stream import ResponseStream

__all__ = ["LocalSender", "LocalServer"]

_numbers = itertools.count(1)
_servers: dict[str, Dispatcher] = {}


class LocalServer:
    """Makes a dispatcher's endpoints callable from this process, until it is closed."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.name = f"{next(_numbers)}"
        _servers[self.name] = dispatcher

    def close(self) -> None:
        """Take no more requests; idempotent."""
        _servers.pop(self.name, None)


class LocalSender:
    """Hands requests over."""

    async def send(
        self, target: LoopbackTarget, headers: bytes, payload: bytes, stream: ResponseStream[Any]
    ) -> None:
        """Hand one request over; its acknowledgement goes to ``stream``.

        Raises:
            CannotConnect: There is no such server in this process.
        """
        dispatcher = _servers.get(target.server)
        if dispatcher is None:
            raise CannotConnect(f"no server {target.server!r} in this process")
        stream.acknowledged(dispatcher.accept(target.path.encode(), headers, payload))

    async def close(self) -> None:
        """Nothing is open."""
