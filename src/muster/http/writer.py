"""The way to a client: bytes out, and what is done about one that does not take them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from muster.errors import TransportError
from muster.errors.error_class import ErrorClass
from muster.http.counts import HttpCounts
from muster.http.file_transfer import FileTransfer, can_send_files
from muster.http.limits import HttpLimits
from muster.log import facts

__all__ = ["ResponseWriter", "SlowReaderError"]

logger = logging.getLogger(__name__)

_LEAST_TAKEN = 48 << 10
"""What a client must take of a full buffer within ``write_s``: the way to where it counts as read."""


class SlowReaderError(TransportError):
    """The client left its response unread for too long; its connection has been cut."""

    code = "slow_reader"
    error_class = ErrorClass.CANCELLED


class ResponseWriter:
    """Writes to one connection's transport.

    Args:
        transport: The connection's.
        limits: How long a client may leave its response unread.
        counts: Where clients that are cut off are counted.
        describe: What a log line says of the response under way.
    """

    __slots__ = (
        "_counts",
        "_describe",
        "_limits",
        "_loop",
        "_timer",
        "_transport",
        "_writable",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        limits: HttpLimits,
        counts: HttpCounts,
        describe: Callable[[], Mapping[str, object]],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = transport
        self._limits = limits
        self._counts = counts
        self._describe = describe
        self._timer: asyncio.TimerHandle | None = None
        self._writable: asyncio.Future[None] | None = None

    def lost(self) -> None:
        """The client has gone: what is sent from now on is dropped."""
        self._transport = None
        self.resume()
        if self._timer is not None:
            self._timer.cancel()

    def pause(self) -> None:
        """The client does not keep up; ``drained`` waits from now on."""
        self._writable = self._loop.create_future()

    def resume(self) -> None:
        """The client has caught up."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def send(self, data: bytes) -> None:
        """Write to the client; dropped once it has gone."""
        if self._transport is not None:
            self._transport.write(data)

    @property
    def congested(self) -> bool:
        """Whether the client's buffer is full."""
        return self._writable is not None

    async def drained(self) -> None:
        """Wait while the client's buffer is full.

        Raises:
            SlowReaderError: If the client takes next to nothing for ``write_s``; the connection is cut.
        """
        while (writable := self._writable) is not None:
            before = self._unsent()
            try:
                async with asyncio.timeout(self._limits.write_s):
                    await asyncio.shield(writable)
            except TimeoutError:
                if before - self._unsent() < _LEAST_TAKEN:
                    self.drop()
                    raise self._slow_reader() from None

    async def send_file(
        self, descriptor: int, start: int, stop: int, on_sent: Callable[[int], None]
    ) -> None:
        """Send a part of a file; see ``SizedBody.send_file``."""
        transport = self._transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        transfer = FileTransfer(descriptor, start, stop, on_sent)
        if not (can_send_files(transport) and await self._send_by_system(transport, transfer)):
            await transfer.by_pieces(self.send, self.drained)

    async def _send_by_system(self, transport: asyncio.Transport, transfer: FileTransfer) -> bool:
        transport.set_write_buffer_limits(high=0)
        try:
            # The system sends past the transport, so nothing may be left in there.
            await self.drained()
            return await transfer.by_system(transport, self._limits.write_s)
        except TimeoutError:
            self.drop()
            raise self._slow_reader() from None
        finally:
            transport.set_write_buffer_limits()

    def close(self) -> bool:
        """Close after what is buffered has been sent, as long as the client takes it.

        Returns:
            ``False`` if the connection is closed, or closing, already.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        transport.close()
        self._watch_closing(self._unsent() + _LEAST_TAKEN)
        return True

    def close_half(self) -> None:
        """Say that nothing more follows, and go on listening."""
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()

    def drop(self) -> None:
        """Cut off a client that does not read."""
        self._counts.slow_readers += 1
        logger.warning(
            "client left its response unread and is cut off",
            extra=facts(
                **self._describe(), unsent_bytes=self._unsent(), waited_s=self._limits.write_s
            ),
        )
        self.abort()

    def abort(self) -> None:
        """Cut the connection; what is buffered is lost."""
        if self._transport is not None:
            self._transport.abort()

    def _watch_closing(self, before: int) -> None:
        left = self._unsent()
        if self._transport is None or not left:
            return
        if before - left < _LEAST_TAKEN:
            self.drop()
        else:
            self._timer = self._loop.call_later(self._limits.write_s, self._watch_closing, left)

    def _slow_reader(self) -> SlowReaderError:
        return SlowReaderError(
            f"the client left its response unread for {self._limits.write_s:g} s"
        )

    def _unsent(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0
