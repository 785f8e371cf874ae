"""The worker's end of one response: the connection back to the caller."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from muster.config.settings import RequestPlaneSettings
from muster.errors import CannotConnect, ConnectionTimeout
from muster.wire.context import Context
from muster.wire.control import KILL, STOP, ItemEncoder, StreamInfo, encode_handshake
from muster.wire.errors import WireError
from muster.wire.frames import TwoPartReader
from muster.wire.tcp.sweep import Sweep

__all__ = ["Responder", "connect_back"]

_LINGER_S = 10.0
"""How long a finished response waits for the caller to close first, as the peer's workers do."""


class Responder(asyncio.Protocol):
    """Writes one response; what one wake-up of the loop produces leaves in one write.

    The caller's stop and kill, and the loss of the connection, reach ``context``.
    """

    __slots__ = (
        "_context",
        "_drained",
        "_encoder",
        "_finished",
        "_limits",
        "_loop",
        "_out",
        "_reader",
        "_sweep",
        "_transport",
        "deadline",
        "full",
    )

    def __init__(
        self, context: Context, encoder: ItemEncoder, limits: RequestPlaneSettings, sweep: Sweep
    ) -> None:
        self._context = context
        self._encoder = encoder
        self._limits = limits
        self._sweep = sweep
        self._loop = asyncio.get_running_loop()
        self._reader = TwoPartReader(4096)
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._drained: asyncio.Future[None] | None = None
        self._finished = False
        self.full = False
        self.deadline = 0.0

    # -- writing -----------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Queue bytes for this wake-up's write; dropped once the connection is gone."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def item(self, value: Any) -> None:
        """Send a value the handler yielded. Raises ``TypeError`` if it has no encoding."""
        data = self._encoder.item(value)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def failure(self, error: WireError) -> None:
        """Send an error item."""
        self.write(self._encoder.failure(error))

    def finish(self) -> None:
        """End the response well and wait, in the background, for the caller to close."""
        self.write(self._encoder.final)
        self._finished = True
        self.deadline = self._loop.time() + _LINGER_S
        self._sweep.add(self)

    def close(self) -> None:
        """Close with what is written and no final frame: the caller sees an incomplete stream."""
        self._finished = True
        self._flush()
        if self._transport is not None:
            self._transport.close()

    async def drained(self) -> None:
        """Wait until the caller has read enough to go on, or the connection is gone."""
        while self.full and self._transport is not None:
            self._drained = self._loop.create_future()
            await self._drained

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(out))

    # -- callbacks ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        for message in self._reader.feed(data):
            if message.header == STOP:
                self._context.stop_generating()
            elif message.header == KILL:
                self._context.kill()

    def pause_writing(self) -> None:
        self.full = True
        self.deadline = self._loop.time() + self._limits.idle_timeout_s
        self._sweep.add(self)

    def resume_writing(self) -> None:
        self.full = False
        if not self._finished:
            self._sweep.discard(self)
        self._wake()

    def expire(self) -> None:
        """The caller has not read, or not closed, in time."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._sweep.discard(self)
        self._wake()
        if not self._finished:
            self._context.kill()

    def _wake(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)


async def connect_back(
    info: StreamInfo,
    context: Context,
    encoder: ItemEncoder,
    limits: RequestPlaneSettings,
    sweep: Sweep,
) -> Responder:
    """Connect to the caller and say for which response.

    Raises:
        CannotConnect: The caller's address is wrong, or nobody listens there.
        ConnectionTimeout: No answer within the limit.
    """
    host, _, port = info.address.rpartition(":")
    loop = asyncio.get_running_loop()
    limit = limits.connect_timeout_s
    try:
        async with asyncio.timeout(limit):
            _, responder = await loop.create_connection(
                lambda: Responder(context, encoder, limits, sweep),
                host.removeprefix("[").removesuffix("]"),
                int(port),
            )
    except TimeoutError as error:
        raise ConnectionTimeout(f"{info.address} did not answer within {limit:g} s") from error
    except (OSError, ValueError, OverflowError) as error:
        raise CannotConnect(f"cannot connect back to {info.address!r}: {error}") from error
    responder.write(encode_handshake(info.subject))
    return responder
