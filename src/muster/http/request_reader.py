"""From bytes to whole requests, within limits: what the parser reports, put together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import httptools

from muster.http.handler import Knows
from muster.http.limits import HttpLimits

__all__ = ["Receiver", "RequestReader"]

_STRANGER_BYTES = 64 << 10
"""What is read of the body of a client that is not known."""
_READ_BYTES = 256 << 10
"""What one read may bring at most."""
_ONCE = frozenset({b"content-length", b"host", b"transfer-encoding"})
"""Headers that servers and proxies would read differently if they came twice."""
_SCHEMES = (b"http://", b"https://")
_OFFER = (b"upgrade", b"connection", b"http2-settings")
"""Headers in which a client offers another protocol."""


class Receiver(Protocol):
    """Whom requests are for: the connection."""

    def head_arrived(self, *, waits: bool) -> None:
        """A head is whole and was not refused; ``waits``: its client wants to be told to go on."""
        ...

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
        """A request is whole. ``chunked``: its client understands chunked responses."""
        ...

    def refuse_request(
        self, status: int, message: str, target: bytes, headers: Mapping[bytes, bytes]
    ) -> None:
        """What comes is not to be read on; nothing more is reported."""
        ...


class RequestReader:
    """Reads one connection's requests, one after the other.

    Its ``on_`` methods are the parser's.

    Args:
        receiver: Whom they are for.
        limits: On sizes.
        knows: Whose large bodies are read; everybody's, if left out. Others get 401.

    Attributes:
        arriving: Whether a request has begun and is not whole.
        head_done: Whether the head of the request that arrives, or arrived last, is whole.
        body_bytes: How much of its body has come.
        refused: Whether a request was refused: what still comes is dropped.
    """

    __slots__ = (
        "_body",
        "_head_bytes",
        "_headers",
        "_knows",
        "_limits",
        "_parser",
        "_read_bytes",
        "_receiver",
        "_target",
        "_version",
        "_wire_bytes",
        "arriving",
        "body_bytes",
        "head_done",
        "refused",
    )

    def __init__(self, receiver: Receiver, limits: HttpLimits, knows: Knows | None) -> None:
        self._receiver = receiver
        self._limits = limits
        self._knows = knows
        self._parser = httptools.HttpRequestParser(self)
        self.refused = False
        self.arriving = False
        self.head_done = False
        self.body_bytes = 0
        self._head_bytes = 0
        self._read_bytes = 0
        self._wire_bytes = 0
        self._version = "1.1"
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Read what has come."""
        self._read_bytes = len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self.refuse(400, f"The request is not valid HTTP: {error}")
        else:
            if self.arriving:
                self._limit_what_is_not_body(len(data))

    def refuse(self, status: int, message: str) -> None:
        """Read nothing more, and have the receiver say so once."""
        if not self.refused:
            self.refused = True
            self._receiver.refuse_request(status, message, self._target, self._headers)

    # The parser's side.

    def on_message_begin(self) -> None:
        """A request line follows."""
        self.arriving = True
        self.head_done = False
        self.body_bytes = 0
        self._head_bytes = 0
        self._wire_bytes = 0
        self._target = b""
        self._headers = {}
        self._body = []

    def on_url(self, url: bytes) -> None:
        """A part of the request's target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer after the body, which is dropped."""
        if not self.head_done:
            name = name.lower()
            if name in _ONCE and name in self._headers:
                self.refuse(400, f"The header {name.decode()} comes twice")
            self._headers[name] = value

    def on_headers_complete(self) -> None:
        """Refuse early what is announced as too large."""
        self.head_done = True
        self._version = version = self._parser.get_http_version()
        headers = self._headers
        length = headers.get(b"content-length")
        if version not in ("1.1", "1.0"):
            self.refuse(505, f"HTTP/{version} is not spoken here")
        elif b"transfer-encoding" in headers and version == "1.0":
            self.refuse(400, "HTTP/1.0 has no Transfer-Encoding")
        elif (
            self._head_bytes + self._read_bytes > self._limits.head_bytes
            and self._head_size() > self._limits.head_bytes
        ):
            self._refuse_head()
        elif length is not None and int(length) > self._limits.body_bytes:
            self._refuse_body()
        elif not self.refused:
            expects = b"expect" in headers and headers[b"expect"].lower() == b"100-continue"
            self._receiver.head_arrived(waits=expects and version == "1.1")

    def on_body(self, data: bytes) -> None:
        """A part of the body."""
        if self.refused:
            return
        before = self.body_bytes
        self.body_bytes = before + len(data)
        if self.body_bytes > self._limits.body_bytes:
            self._refuse_body()
        elif before <= _STRANGER_BYTES < self.body_bytes and not self._is_known():
            self.refuse(401, "A valid API key is needed for this request")
        else:
            self._body.append(data)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self.refused or self._parser.should_upgrade():
            return
        self.arriving = False
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        target = self._target
        if target[:8].lower().startswith(_SCHEMES):
            # As sent to a proxy; servers have to take it, too.
            target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
        self._receiver.request_arrived(
            self._parser.get_method().decode("ascii"),
            target,
            self._headers,
            body,
            keep_alive=self._parser.should_keep_alive(),
            chunked=self._version != "1.0",
        )

    # Limits.

    def _is_known(self) -> bool:
        return self._knows is None or self._knows(self._target, self._headers)

    def _limit_what_is_not_body(self, arrived: int) -> None:
        """Bound the head, and what goes with a body: sizes of chunks, their extensions, trailers."""
        limit = self._limits.head_bytes
        if not self.head_done:
            self._head_bytes += arrived
            if self._head_bytes > limit:
                self._refuse_head()
            return
        self._wire_bytes += arrived
        # A byte in a chunk of its own takes six.
        if self._wire_bytes > limit + _READ_BYTES + 8 * self.body_bytes:
            self.refuse(400, "The body's chunks are nearly empty")

    def _head_size(self) -> int:
        lines = sum(len(name) + len(value) + 4 for name, value in self._headers.items())
        return len(self._target) + lines

    def _refuse_head(self) -> None:
        self.refuse(431, f"Headers exceed {self._limits.head_bytes} bytes")

    def _refuse_body(self) -> None:
        limit = self._limits.body_bytes
        self.refuse(413, f"The request body exceeds the limit of {limit} bytes")

    def _decline_upgrade(self, rest: bytes) -> None:
        """Go on with HTTP/1.1 as if no upgrade had been offered.

        llhttp leaves the body of such a request unparsed, so the head is parsed again without the
        offer. Some clients (Java's) offer ``h2c`` with every first request.
        """
        if self.refused:
            return
        method = self._parser.get_method()
        if method == b"CONNECT":
            self.refuse(405, "CONNECT is not supported")
            return
        head = b"".join(
            b"%b: %b\r\n" % (name, value)
            for name, value in self._headers.items()
            if name not in _OFFER
        )
        version = self._parser.get_http_version().encode()
        line = b"%b %b HTTP/%b\r\n" % (method, self._target, version)
        self._parser = httptools.HttpRequestParser(self)
        self.feed(line + head + b"\r\n" + rest)
