"""The worker's end of one response: the connection back to the caller."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any, cast

from muster.config.settings import RequestPlaneSettings
from muster.wire.context import Context
from muster.wire.control import KILL, STOP
from muster.wire.errors import WireError
from muster.wire.frames import TwoPartReader
from muster.wire.items import ItemEncoder
from muster.wire.tcp.shared import SharedEnd
from muster.wire.tcp.sweep import Sweep
from muster.wire.tcp.tls import is_tls_record

__all__ = ["Responder"]

logger = logging.getLogger(__name__)

_LINGER_S = 10.0
"""How long a finished response waits for the caller to close first, as the peer's workers do."""


class Responder(asyncio.Protocol):
    """Writes one response; what one wake-up of the loop produces leaves in one write.

    The caller's stop and kill, and the loss of the connection, reach ``context``.

    Attributes:
        full: Whether the caller has to read before more is sent.
        sent_bytes: Bytes written so far.
        on_write: Called after each write, if anybody wants to know.
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
        "_soon",
        "_sweep",
        "_transport",
        "deadline",
        "full",
        "on_write",
        "sent_bytes",
    )

    def __init__(
        self, context: Context, encoder: ItemEncoder, limits: RequestPlaneSettings, sweep: Sweep
    ) -> None:
        self._context = context
        self._encoder = encoder
        self._limits = limits
        self._sweep = sweep
        self._loop = asyncio.get_running_loop()
        self._soon: Callable[[Callable[[], None]], object] = self._loop.call_soon
        self._reader = TwoPartReader(4096)
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._drained: asyncio.Future[None] | None = None
        self._finished = False
        self.full = False
        self.deadline = 0.0
        self.sent_bytes = 0
        self.on_write: Callable[[], None] | None = None

    # -- writing -----------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Queue bytes for this wake-up's write; dropped once the connection is gone."""
        if not self._out:
            self._soon(self._flush)
        self._out.append(data)

    def item(self, value: Any) -> None:
        """Send a value the handler yielded. Raises ``Unknown`` if it has no encoding."""
        data = self._encoder.item(value)
        if not self._out:
            self._soon(self._flush)
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
            data = b"".join(out)
            self.sent_bytes += len(data)
            self._transport.write(data)
            if self.on_write is not None:
                self.on_write()

    # -- callbacks ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if isinstance(transport, SharedEnd):
            self._soon = transport.before_writing

    def data_received(self, data: bytes) -> None:
        for message in self._reader.feed(data):
            if message.header == STOP:
                self._context.stop_generating()
            elif message.header == KILL:
                self._context.kill()
        if self._reader.error is not None:
            what = "TLS" if is_tls_record(data) else str(self._reader.error)
            logger.warning("a caller does not speak the protocol: %s", what)
            self.expire()

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
        """The caller has not read, or not closed, in time, or is no such caller."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if isinstance(exc, ssl.SSLError):
            logger.warning("a caller broke off TLS: %s", exc)
        self._sweep.discard(self)
        self._wake()
        if not self._finished:
            self._context.kill()

    def _wake(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
