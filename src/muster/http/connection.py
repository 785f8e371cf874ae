"""A client's connection: from bytes to exchanges, one after the other.

One task lives as long as the connection and runs the handler for each request in turn, so that a
request costs one wake-up and no task. When the client goes away the task is cancelled: the handler
sees ``CancelledError`` at whatever it awaits.

Invariants: a handler runs only for a request that has arrived whole and within the limits; while
one runs, at most what one read brought is queued behind it; after a response that says
``connection: close``, or a refusal from here, nothing more is parsed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import cast

from muster.http.counts import HttpCounts
from muster.http.exchange import Exchange
from muster.http.handler import Handler, Knows, Refuse
from muster.http.limits import HttpLimits
from muster.http.patience import Patience
from muster.http.request_reader import RequestReader
from muster.http.writer import ResponseWriter, SlowReaderError
from muster.log import facts

__all__ = ["HttpConnection"]

logger = logging.getLogger(__name__)


class HttpConnection(asyncio.Protocol):
    """Protocol of one accepted connection.

    Args:
        handler: Answers requests.
        refuse: Answers what is refused here (malformed, too large, too slow).
        limits: Bounds.
        opened: Called with the connection once it is there; starts ``serve`` as a task.
        closed: Called when it has gone.
        knows: Whose large bodies are read; everybody's, if left out. Others get 401.
        counts: Where what happens to it is counted.
    """

    __slots__ = (
        "_client",
        "_closed",
        "_counts",
        "_current",
        "_handler",
        "_limits",
        "_lingering",
        "_loop",
        "_opened",
        "_patience",
        "_paused",
        "_queue",
        "_reader",
        "_refuse",
        "_task",
        "_transport",
        "_wakeup",
        "_writer",
    )

    _writer: ResponseWriter
    _patience: Patience

    def __init__(
        self,
        handler: Handler,
        refuse: Refuse,
        limits: HttpLimits,
        *,
        opened: Callable[[HttpConnection], asyncio.Task[None]],
        closed: Callable[[HttpConnection], None],
        knows: Knows | None = None,
        counts: HttpCounts | None = None,
    ) -> None:
        self._counts = counts if counts is not None else HttpCounts()
        self._handler = handler
        self._refuse = refuse
        self._limits = limits
        self._opened = opened
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._reader = RequestReader(self, limits, knows)
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._queue: deque[Exchange] = deque()
        self._current: Exchange | None = None
        self._wakeup: asyncio.Future[None] | None = None
        self._paused = False
        self._client = ""

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start serving."""
        self._transport = made = cast("asyncio.Transport", transport)
        self._client = _address(transport.get_extra_info("peername"))
        self._writer = ResponseWriter(made, self._limits, self._counts, self._describe)
        self._patience = Patience(self._limits, self._reader, self)
        self._task = self._opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop whatever is being done for this client."""
        self._transport = None
        self._patience.end()
        if self._lingering is not None:
            self._lingering.cancel()
        self._writer.lost()
        if self._task is not None:
            self._task.cancel()
        self._closed(self)

    def data_received(self, data: bytes) -> None:
        """Parse; what completes a request wakes the serving task."""
        if not self._reader.refused:
            self._patience.heard()
            self._reader.feed(data)

    def pause_writing(self) -> None:
        """The client does not keep up."""
        self._writer.pause()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._writer.resume()

    # The reader's side.

    def head_arrived(self, *, waits: bool) -> None:
        """Invite what waits to be invited."""
        self._patience.body_begins()
        if waits and self._current is None:
            self._writer.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def request_arrived(
        self,
        method: str,
        target: bytes,
        headers: Mapping[bytes, bytes],
        body: bytes,
        *,
        keep_alive: bool,
        chunked: bool,
    ) -> None:
        """Queue a request for the serving task."""
        exchange = Exchange(
            self._writer,
            method=method,
            target=target,
            headers=headers,
            body=body,
            keep_alive=keep_alive,
            chunked=chunked,
        )
        exchange.client = self._client
        self._queue.append(exchange)
        if self._wakeup is not None:
            if not self._wakeup.done():
                self._wakeup.set_result(None)
        elif self._current is not None:
            # Only while another request waits: it is by reading that a client's leaving is noticed.
            self._pause()

    def refuse_request(
        self, status: int, message: str, target: bytes, headers: Mapping[bytes, bytes]
    ) -> None:
        """Answer what is not going to be parsed, then close once the client has heard of it.

        Behind a request still being answered there is no place for a second answer: the connection
        is closed after the first.
        """
        if self.busy:
            self.close_when_idle()
            return
        exchange = Exchange(
            self._writer,
            method="GET",
            target=target or b"/",
            headers=headers,
            body=b"",
            keep_alive=False,
        )
        exchange.client = self._client
        self._refuse(exchange, status, message)
        self._writer.close_half()
        self._patience.end()
        self._lingering = self._loop.call_later(self._limits.linger_s, self.abort)

    # Serving.

    async def serve(self) -> None:
        """Run the handler for each request until the connection is to close."""
        while self._transport is not None:
            if not self._queue:
                self._wakeup = self._loop.create_future()
                await self._wakeup
                self._wakeup = None
            exchange = self._current = self._queue.popleft()
            if self._paused and not self._queue:
                self._resume()
            await self._handle(exchange)
            # No answer is begun for a client that leaves those before it unread.
            with contextlib.suppress(SlowReaderError):
                await self._writer.drained()
            self._current = None
            self._patience.begin_anew()
            if exchange.close:
                break
        self.close()

    async def _handle(self, exchange: Exchange) -> None:
        try:
            await self._handler(exchange)
        except Exception as error:
            # The last line of defence: a bug in a handler must not take the process's other
            # clients down, and its client must not hang.
            logger.exception(
                "request handler failed", extra=facts(path=exchange.path, error=repr(error))
            )
            if not exchange.started:
                exchange.close = True
                self._refuse(exchange, 500, "Internal error; see the server's log")
        if not exchange.finished:
            exchange.close = True
            self.abort()

    def _pause(self) -> None:
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        self._paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # Ending.

    @property
    def busy(self) -> bool:
        """Whether a request is being handled or waits in the queue."""
        return self._current is not None or bool(self._queue)

    @property
    def idle(self) -> bool:
        """Whether no request is being handled, waited for in the queue, or arriving."""
        return not self.busy and not self._reader.arriving

    def give_up(self, limit_s: float | None) -> None:
        """The client was silent for too long."""
        if limit_s is None:
            self.close()
        else:
            self._reader.refuse(408, f"The request did not arrive within {limit_s:g} s")

    def close_when_idle(self) -> None:
        """Close now if idle; otherwise after the response in progress."""
        for exchange in (self._current, *self._queue):
            if exchange is not None:
                exchange.close = True
        if self.idle:
            self.close()

    def close(self) -> None:
        """Close after what is buffered has been sent, as long as the client takes it."""
        if self._transport is not None and self._writer.close():
            self._patience.end()

    def abort(self) -> None:
        """Cut the connection; what is buffered is lost."""
        if self._transport is not None:
            self._writer.abort()

    def _describe(self) -> Mapping[str, object]:
        current = self._current
        return {
            "x_request_id": current.request_id if current is not None else None,
            "path": current.path if current is not None else None,
        }


def _address(peer: object) -> str:
    """Host and port of a socket's peer; empty for one that has none."""
    if not isinstance(peer, tuple):
        return ""
    host, port, *_ = peer
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
