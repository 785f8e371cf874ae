"""The worker's connections back to callers: one for each response, or one for all to a caller."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from muster.config.settings import RequestPlaneSettings
from muster.errors import CannotConnect, ConnectionTimeout, MusterError
from muster.tasks import TaskOwner
from muster.wire.context import Context
from muster.wire.control import StreamInfo, encode_handshake
from muster.wire.items import ItemEncoder
from muster.wire.loopback import connect_loopback, is_loopback
from muster.wire.tcp.attempt import SharedAttempt
from muster.wire.tcp.chunks import PREFIX_CHARACTERS, encode_greeting
from muster.wire.tcp.responder import Responder
from muster.wire.tcp.shared import SharedLink
from muster.wire.tcp.sweep import Sweep
from muster.wire.tcp.tls import ClientTls

__all__ = ["Dialer"]

P = TypeVar("P", bound=asyncio.Protocol)


class _Caller:
    """The shared connection to one caller, if there is one, and the attempt to open it."""

    __slots__ = ("link", "opening")

    def __init__(self, tasks: TaskOwner, address: str) -> None:
        self.link: SharedLink | None = None
        self.opening: SharedAttempt[SharedLink] = SharedAttempt(tasks, address)


class Dialer:
    """Connects back to callers; one a process.

    Callers are told apart by address and by what their subjects begin with: a process that comes
    after another at the same address is another caller, and gets a connection of its own.

    Args:
        limits: Deadlines.
        tls: How callers that listen with TLS are checked; ``None`` for plain connections.
    """

    def __init__(self, limits: RequestPlaneSettings, tls: ClientTls | None = None) -> None:
        self._limits = limits
        self._tls = tls
        self._how = "" if tls is None else " with TLS"
        self._sweep = Sweep()
        self._tasks = TaskOwner("connections back")
        self._callers: dict[tuple[str, str], _Caller] = {}

    async def connect_back(
        self, info: StreamInfo, context: Context, encoder: ItemEncoder
    ) -> Responder:
        """A way back to the caller; says for which response first.

        Raises:
            CannotConnect: The caller's address is wrong, nobody listens there, or it is not who it
                should be.
            ConnectionTimeout: No answer within the limit.
            Disconnected: This process is shutting down.
        """
        make = partial(Responder, context, encoder, self._limits, self._sweep)
        if info.shared and self._limits.shared_responses and not is_loopback(info.address):
            link = await self._link(info.address, info.subject[:PREFIX_CHARACTERS])
            responder = make()
            link.open(responder)
        else:
            responder = await self._connect(info.address, make)
        responder.write(encode_handshake(info.subject))
        return responder

    async def _link(self, address: str, prefix: str) -> SharedLink:
        key = (address, prefix)
        caller = self._callers.get(key)
        if caller is None:
            caller = self._callers[key] = _Caller(self._tasks, address)
        if caller.link is not None and caller.link.usable:
            return caller.link
        return await caller.opening.join(partial(self._open, key, caller))

    async def _open(self, key: tuple[str, str], caller: _Caller) -> SharedLink | MusterError:
        address, prefix = key
        try:
            link = await self._connect(
                address, partial(SharedLink, on_lost=partial(self._lost, key))
            )
        except MusterError as error:
            if caller.link is None:
                self._callers.pop(key, None)
            return error
        link.transport.write(encode_greeting(prefix))
        caller.link = link
        return link

    def _lost(self, key: tuple[str, str], link: SharedLink) -> None:
        caller = self._callers.get(key)
        if caller is not None and caller.link is link:
            del self._callers[key]

    async def _connect(self, address: str, make: Callable[[], P]) -> P:
        if is_loopback(address):
            try:
                return connect_loopback(address, make)
            except OSError as error:
                raise self._cannot(address, error) from error
        limit = self._limits.connect_timeout_s
        loop = asyncio.get_running_loop()
        try:
            host, _, port = address.rpartition(":")
            host = host.removeprefix("[").removesuffix("]")
            tls = {} if self._tls is None else self._tls.options(host)
            async with asyncio.timeout(limit):
                _, protocol = await loop.create_connection(make, host, int(port), **tls)
        except TimeoutError as error:
            message = f"{address} did not answer{self._how} within {limit:g} s"
            raise ConnectionTimeout(message) from error
        except (OSError, ValueError, OverflowError) as error:
            raise self._cannot(address, error) from error
        return protocol

    def _cannot(self, address: str, error: Exception) -> CannotConnect:
        reason = str(error) or type(error).__name__
        return CannotConnect(f"cannot connect back{self._how} to {address!r}: {reason}")

    async def close(self) -> None:
        """Close the shared connections, and stop looking after deadlines."""
        await self._tasks.close()
        for caller in [*self._callers.values()]:
            if caller.link is not None:
                caller.link.close()
        self._callers.clear()
        self._sweep.close()
