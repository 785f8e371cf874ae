"""One request and its response, as a handler sees them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus

from muster.http.sink import ResponseSink
from muster.http.sized_body import SizedBody

__all__ = ["Exchange"]

_REASONS = {status.value: status.phrase for status in HTTPStatus} | {529: "Overloaded"}
_STATUS_LINES = {
    status: f"HTTP/1.1 {status} {reason}\r\n".encode() for status, reason in _REASONS.items()
}


class _DateField:
    """The ``date`` header, formatted once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._field = ""

    def now(self) -> str:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._field = f"date: {formatdate(second, usegmt=True)}\r\n"
        return self._field


_date = _DateField()


def _framing(status: int, length: int, content_type: str) -> str:
    """The fields of a head that say what its body is."""
    if status == 304:
        return ""
    if not content_type:
        return f"content-length: {length}\r\n"
    return f"content-type: {content_type}\r\ncontent-length: {length}\r\n"


class Exchange:
    """A request that has arrived whole, and the means to answer it once.

    Either ``respond`` once, or ``start_stream``, any number of ``write`` and ``end``, or
    ``start_sized`` and what it returns, until its length has been sent. Header names
    in ``headers`` are lower case; of a repeated header the last value counts.

    Attributes:
        method: In upper case.
        path: Path as sent, percent-encoding kept, without the query.
        query: What followed ``?``, or empty.
        headers: Request headers.
        body: The whole body.
        request_id: Answered as ``x-request-id``; whoever routes the request sets it.
        fields: Further headers of whatever is answered, each a line with its line break.
        caller: Name of who asks, if keys are on; for logs.
        tokens: Tokens that answering has used so far, prompts included; whoever generates sets it.
        client: Address of who asks, as the connection has it.
        status: Status that has been answered; 0 before.
        error: Code of the error that is answered, or that ends a stream; empty if there is none.
        details: Gives further facts for the request's log line; ``None`` if there are none.
        started: Whether a status line has been sent.
        finished: Whether the response is complete.
    """

    __slots__ = (
        "_chunked",
        "_sink",
        "body",
        "caller",
        "client",
        "close",
        "details",
        "error",
        "fields",
        "finished",
        "headers",
        "method",
        "path",
        "query",
        "request_id",
        "started",
        "status",
        "tokens",
    )

    def __init__(
        self,
        sink: ResponseSink,
        *,
        method: str,
        target: bytes,
        headers: Mapping[bytes, bytes],
        body: bytes,
        keep_alive: bool = True,
        chunked: bool = True,
    ) -> None:
        path, _, query = target.partition(b"?")
        self._sink = sink
        self._chunked = chunked
        self.method = method
        self.path = path.decode("latin-1")
        self.query = query.decode("latin-1")
        self.headers = headers
        self.body = body
        self.close = not keep_alive
        self.request_id = ""
        self.fields = ""
        self.caller = ""
        self.client = ""
        self.status = 0
        self.error = ""
        self.details: Callable[[], Mapping[str, object]] | None = None
        self.tokens = 0
        self.started = False
        self.finished = False

    def header(self, name: bytes) -> str:
        """A request header's value, or empty if it was not sent."""
        return self.headers.get(name, b"").decode("latin-1")

    def respond(
        self,
        status: int,
        body: bytes,
        *,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send the whole response. To HEAD, only its head.

        An empty ``content_type`` is left out, and so is the length of a 304, which has no body.
        """
        head = self._head(status, _framing(status, len(body), content_type), headers)
        self.finished = True
        self._sink.send(head if self.method == "HEAD" else head + body)

    def start_sized(
        self,
        status: int,
        length: int,
        *,
        content_type: str = "application/octet-stream",
        headers: Mapping[str, str] | None = None,
    ) -> SizedBody:
        """Send the head of a response of ``length`` bytes; the body is sent by what is returned.

        To HEAD that is the whole response, and nothing is left to send.
        """
        self._sink.send(self._head(status, _framing(status, length, content_type), headers))
        left = 0 if self.method == "HEAD" else length
        return SizedBody(self._sink, left, self._finish)

    def start_stream(self, data: bytes = b"", *, content_type: str = "text/event-stream") -> None:
        """Send the head, with status 200, of a response of unknown length, and a first part."""
        framing = "transfer-encoding: chunked\r\n" if self._chunked else ""
        if not self._chunked:
            self.close = True
        head = self._head(
            200, f"content-type: {content_type}\r\ncache-control: no-cache\r\n{framing}", None
        )
        self._sink.send(head + self._chunk(data))

    def write(self, data: bytes) -> None:
        """Send a part of a streamed response at once; empty parts are left out."""
        if data:
            self._sink.send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self, data: bytes = b"") -> None:
        """Send a last part, if any, and the end of a streamed response, in one write."""
        self.finished = True
        self._sink.send(self._chunk(data) + b"0\r\n\r\n" if self._chunked else data)

    @property
    def congested(self) -> bool:
        """Whether the client is too far behind: then await ``drained`` before writing more."""
        return self._sink.congested

    async def drained(self) -> None:
        """Wait while the client is too far behind."""
        await self._sink.drained()

    def _finish(self) -> None:
        self.finished = True

    def _chunk(self, data: bytes) -> bytes:
        if not self._chunked or not data:
            return data
        return b"%x\r\n%b\r\n" % (len(data), data)

    def _head(self, status: int, fields: str, headers: Mapping[str, str] | None) -> bytes:
        self.started = True
        self.status = status
        fields += _date.now()
        if self.request_id:
            fields += f"x-request-id: {self.request_id}\r\n"
        fields += self.fields
        if headers:
            fields += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        if self.close:
            fields += "connection: close\r\n"
        elif not self._chunked:
            fields += "connection: keep-alive\r\n"  # HTTP/1.0 closes unless told so
        line = _STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n".encode()
        return b"%b%b\r\n" % (line, fields.encode("latin-1", "replace"))
