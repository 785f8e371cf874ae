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
import dataclasses
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import cast

import httptools

from muster.errors import TransportError
from muster.errors.error_class import ErrorClass
from muster.http.counts import HttpCounts
from muster.http.exchange import Exchange
from muster.log import facts

__all__ = ["Handler", "HttpConnection", "HttpLimits", "Knows", "Refuse", "SlowReaderError"]

logger = logging.getLogger(__name__)

Handler = Callable[[Exchange], Awaitable[None]]
"""Answers one exchange. What it raises is logged and answered with status 500."""

Refuse = Callable[[Exchange, int, str], None]
"""Answers an exchange that never reaches a handler: status and text."""

Knows = Callable[[bytes, Mapping[bytes, bytes]], bool]
"""Whether the sender of a head (target, headers) may send more than ``_STRANGER_BYTES`` of body."""

_STRANGER_BYTES = 64 << 10
_READ_BYTES = 256 << 10
"""What one read may bring at most."""
_LEAST_TAKEN = 48 << 10
"""What a client must take of a full buffer within ``write_s``: the way to where it counts as read."""
_ONCE = frozenset({b"content-length", b"host", b"transfer-encoding"})
"""Headers that servers and proxies would read differently if they came twice."""
_SCHEMES = (b"http://", b"https://")


class SlowReaderError(TransportError):
    """The client left its response unread for too long; its connection has been cut."""

    code = "slow_reader"
    error_class = ErrorClass.CANCELLED


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Bounds on what a client may send and how long it may take.

    Attributes:
        head_bytes: Largest request line and headers together.
        body_bytes: Largest body.
        request_s: Limit on a request's head, and longest silence within its body.
        idle_s: How long an idle connection is kept; longer than the usual proxy's own limit.
        body_bytes_per_s: A body must come this fast on average, ``request_s`` aside: a byte now and
            then, never silent for long, does not keep a connection.
        write_s: How long a client may leave its response unread once its buffer is full, or once
            the connection is to close.
        linger_s: How long the rest of a refused request is read, so that the refusal arrives.
    """

    head_bytes: int = 64 << 10
    body_bytes: int = 45 << 20
    request_s: float = 30.0
    idle_s: float = 620.0
    body_bytes_per_s: int = 8192
    write_s: float = 60.0
    linger_s: float = 5.0


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
        "_body",
        "_body_bytes",
        "_body_since",
        "_client",
        "_closed",
        "_counts",
        "_current",
        "_handler",
        "_head_bytes",
        "_head_done",
        "_headers",
        "_in_request",
        "_knows",
        "_limits",
        "_loop",
        "_opened",
        "_parser",
        "_paused",
        "_queue",
        "_read_bytes",
        "_refuse",
        "_refused",
        "_since",
        "_target",
        "_task",
        "_timer",
        "_transport",
        "_version",
        "_wakeup",
        "_wire_bytes",
        "_writable",
    )

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
        self._knows = knows
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._queue: deque[Exchange] = deque()
        self._current: Exchange | None = None
        self._wakeup: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._paused = False
        self._refused = False
        self._since = 0.0
        self._body_since = 0.0
        self._in_request = False
        self._head_done = False
        self._head_bytes = 0
        self._body_bytes = 0
        self._read_bytes = 0
        self._wire_bytes = 0
        self._version = "1.1"
        self._target = b""
        self._client = ""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start serving."""
        self._transport = cast("asyncio.Transport", transport)
        self._client = _address(transport.get_extra_info("peername"))
        self._since = self._loop.time()
        self._timer = self._loop.call_later(self._period_s, self._check_time)
        self._task = self._opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop whatever is being done for this client."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self.resume_writing()
        if self._task is not None:
            self._task.cancel()
        self._closed(self)

    def data_received(self, data: bytes) -> None:
        """Parse; what completes a request wakes the serving task."""
        if self._refused:
            return
        if self._head_done or not self._in_request:
            # A head's silence counts from its first byte: one byte now and then does not help.
            self._since = self._loop.time()
        self._read_bytes = len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._turn_away(400, f"The request is not valid HTTP: {error}")
        else:
            if self._in_request:
                self._limit_what_is_not_body(len(data))

    def pause_writing(self) -> None:
        """The client does not keep up; ``drained`` waits from now on."""
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """The client has caught up."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # The parser's side.

    def on_message_begin(self) -> None:
        """A request line follows."""
        self._in_request = True
        self._head_done = False
        self._head_bytes = 0
        self._body_bytes = 0
        self._wire_bytes = 0
        self._target = b""
        self._headers = {}
        self._body = []

    def on_url(self, url: bytes) -> None:
        """A part of the request's target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer after the body, which is dropped."""
        if not self._head_done:
            name = name.lower()
            if name in _ONCE and name in self._headers:
                self._turn_away(400, f"The header {name.decode()} comes twice")
            self._headers[name] = value

    def on_headers_complete(self) -> None:
        """Refuse early what is announced as too large; invite what waits to be invited."""
        self._head_done = True
        self._body_since = self._since
        self._version = version = self._parser.get_http_version()
        headers = self._headers
        length = headers.get(b"content-length")
        if version not in ("1.1", "1.0"):
            self._turn_away(505, f"HTTP/{version} is not spoken here")
        elif b"transfer-encoding" in headers and version == "1.0":
            self._turn_away(400, "HTTP/1.0 has no Transfer-Encoding")
        elif (
            self._head_bytes + self._read_bytes > self._limits.head_bytes
            and self._head_size() > self._limits.head_bytes
        ):
            self._refuse_head()
        elif length is not None and int(length) > self._limits.body_bytes:
            self._refuse_body()
        elif (
            self._current is None
            and headers.get(b"expect", b"").lower() == b"100-continue"
            and version == "1.1"
            and not self._refused
        ):
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        """A part of the body."""
        if self._refused:
            return
        before = self._body_bytes
        self._body_bytes = before + len(data)
        if self._body_bytes > self._limits.body_bytes:
            self._refuse_body()
        elif before <= _STRANGER_BYTES < self._body_bytes and not self._is_known():
            self._turn_away(401, "A valid API key is needed for this request")
        else:
            self._body.append(data)

    def on_message_complete(self) -> None:
        """The request is whole: queue it for the serving task."""
        if self._refused or self._parser.should_upgrade():
            return
        self._in_request = False
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        self._queue.append(self._exchange(body))
        if self._wakeup is not None:
            if not self._wakeup.done():
                self._wakeup.set_result(None)
        elif self._current is not None:
            # Only while another request waits: it is by reading that a client's leaving is noticed.
            self._pause()

    # The handler's side.

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
                    self._drop()
                    raise SlowReaderError(
                        f"the client left its response unread for {self._limits.write_s:g} s"
                    ) from None

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
                await self.drained()
            self._current = None
            self._since = self._body_since = self._loop.time()
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

    @property
    def _period_s(self) -> float:
        return min(self._limits.request_s, self._limits.idle_s)

    @property
    def idle(self) -> bool:
        """Whether no request is being handled, waited for in the queue, or arriving."""
        return self._current is None and not self._queue and not self._in_request

    def close_when_idle(self) -> None:
        """Close now if idle; otherwise after the response in progress."""
        for exchange in (self._current, *self._queue):
            if exchange is not None:
                exchange.close = True
        if self.idle:
            self.close()

    def close(self) -> None:
        """Close after what is buffered has been sent, as long as the client takes it."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.close()
        if self._timer is not None:
            self._timer.cancel()
        self._watch_closing(self._unsent() + _LEAST_TAKEN)

    def _watch_closing(self, before: int) -> None:
        left = self._unsent()
        if self._transport is None or not left:
            return
        if before - left < _LEAST_TAKEN:
            self._drop()
        else:
            self._timer = self._loop.call_later(self._limits.write_s, self._watch_closing, left)

    def _unsent(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def _drop(self) -> None:
        """Cut off a client that does not read."""
        self._counts.slow_readers += 1
        current = self._current
        logger.warning(
            "client left its response unread and is cut off",
            extra=facts(
                x_request_id=current.request_id if current is not None else None,
                path=current.path if current is not None else None,
                unsent_bytes=self._unsent(),
                waited_s=self._limits.write_s,
            ),
        )
        self.abort()

    # Refusing.

    def _is_known(self) -> bool:
        return self._knows is None or self._knows(self._target, self._headers)

    def _exchange(self, body: bytes) -> Exchange:
        target = self._target
        if target[:8].lower().startswith(_SCHEMES):
            # As sent to a proxy; servers have to take it, too.
            target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
        exchange = Exchange(
            self,
            method=self._parser.get_method().decode("ascii"),
            target=target,
            headers=self._headers,
            body=body,
            keep_alive=self._parser.should_keep_alive(),
            chunked=self._version != "1.0",
        )
        exchange.client = self._client
        return exchange

    def _limit_what_is_not_body(self, arrived: int) -> None:
        """Bound the head, and what goes with a body: sizes of chunks, their extensions, trailers."""
        limit = self._limits.head_bytes
        if not self._head_done:
            self._head_bytes += arrived
            if self._head_bytes > limit:
                self._refuse_head()
            return
        self._wire_bytes += arrived
        # A byte in a chunk of its own takes six.
        if self._wire_bytes > limit + _READ_BYTES + 8 * self._body_bytes:
            self._turn_away(400, "The body's chunks are nearly empty")

    def _head_size(self) -> int:
        lines = sum(len(name) + len(value) + 4 for name, value in self._headers.items())
        return len(self._target) + lines

    def _refuse_head(self) -> None:
        self._turn_away(431, f"Headers exceed {self._limits.head_bytes} bytes")

    def _refuse_body(self) -> None:
        limit = self._limits.body_bytes
        self._turn_away(413, f"The request body exceeds the limit of {limit} bytes")

    def _turn_away(self, status: int, message: str) -> None:
        """Answer what is not going to be parsed, then close once the client has heard of it.

        Behind a request still being answered there is no place for a second answer: the connection
        is closed after the first.
        """
        if self._refused:
            return
        self._refused = True
        if self._current is not None or self._queue:
            self.close_when_idle()
            return
        exchange = Exchange(
            self,
            method="GET",
            target=self._target or b"/",
            headers=self._headers,
            body=b"",
            keep_alive=False,
        )
        exchange.client = self._client
        self._refuse(exchange, status, message)
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(self._limits.linger_s, self.abort)

    def _decline_upgrade(self, rest: bytes) -> None:
        """Go on with HTTP/1.1 as if no upgrade had been offered.

        llhttp leaves the body of such a request unparsed, so the head is parsed again without the
        offer. Some clients (Java's) offer ``h2c`` with every first request.
        """
        if self._refused:
            return
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._turn_away(405, "CONNECT is not supported")
            return
        skip = (b"upgrade", b"connection", b"http2-settings")
        head = b"".join(
            b"%b: %b\r\n" % (name, value)
            for name, value in self._headers.items()
            if name not in skip
        )
        line = b"%b %b HTTP/%b\r\n" % (
            method,
            self._target,
            self._parser.get_http_version().encode(),
        )
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(line + head + b"\r\n" + rest)

    # Time.

    def _check_time(self) -> None:
        """One timer a connection: looks whether the client has been silent for too long."""
        limit = self._limits.request_s if self._in_request else self._limits.idle_s
        left = self._since + limit - self._loop.time()
        if self._in_request and self._head_done:
            limit += self._body_bytes / self._limits.body_bytes_per_s
            left = min(left, self._body_since + limit - self._loop.time())
        if self._current is not None or self._queue or left > 0:
            delay = min(left, self._period_s) if left > 0 else self._period_s
            self._timer = self._loop.call_later(delay, self._check_time)
        elif self._in_request:
            self._turn_away(408, f"The request did not arrive within {limit:g} s")
        else:
            self.close()

    def abort(self) -> None:
        """Cut the connection; what is buffered is lost."""
        if self._transport is not None:
            self._transport.abort()


def _address(peer: object) -> str:
    """Host and port of a socket's peer; empty for one that has none."""
    if not isinstance(peer, tuple):
        return ""
    host, port, *_ = peer
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
