"""The other end of the request plane, by hand: for sending and answering what no library would.

Written against the format description alone, not with Muster's own framing, so that a mistake
there does not cancel itself out here.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

__all__ = ["Message", "RawCaller", "RawRequest", "RawWorker", "read_message", "two_part"]

_TIMEOUT_S = 10.0


class Message(NamedTuple):
    """A two-part message as it arrived."""

    header: bytes
    body: bytes


def two_part(header: bytes, body: bytes = b"", checksum: int = 0) -> bytes:
    """A two-part message."""
    return struct.pack(">QQQ", len(header), len(body), checksum) + header + body


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """The next two-part message; ``None`` at the end of the stream."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            prefix = await reader.readexactly(24)
            header_length, body_length, _ = struct.unpack(">QQQ", prefix)
            return Message(
                await reader.readexactly(header_length), await reader.readexactly(body_length)
            )
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


class RawCaller:
    """A caller: one connection to a worker, and a listener for responses."""

    def __init__(self, address: str) -> None:
        authority, _, self.path = address.partition("/")
        self._host, _, port = authority.rpartition(":")
        self._port = int(port)
        self.home = ""
        self._arrivals: list[asyncio.StreamWriter] = []
        self.responses: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = (
            asyncio.Queue()
        )

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._arrived, "127.0.0.1", 0)
        self.home = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self.reader, self.writer = await asyncio.open_connection(self._host, self._port)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._server.close()
        await _close([self.writer, *self._arrivals])

    async def _arrived(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._arrivals.append(writer)
        self.responses.put_nowait((reader, writer))

    def control(
        self, subject: str, *, codec: str = "msgpack", shared: bool = False, **more: Any
    ) -> bytes:
        """A control header that asks for the response to come here, on a shared connection or not."""
        info: dict[str, Any] = {
            "address": self.home,
            "subject": subject,
            "context": "request-1",
            "stream_type": "response",
        }
        if shared:
            info["muster"] = {"shared": True}
        fields: dict[str, Any] = {
            "id": "request-1",
            "request_type": "single_in",
            "response_type": "many_out",
            "payload_codec": codec,
            "connection_info": {"transport": "tcp_server", "info": json.dumps(info)},
        }
        return json.dumps(fields | more).encode()

    def send(self, payload: bytes, *, path: str | None = None, headers: bytes = b"{}") -> None:
        """Send a request frame with this payload."""
        name = (self.path if path is None else path).encode()
        self.writer.write(
            struct.pack(">H", len(name))
            + name
            + struct.pack(">H", len(headers))
            + headers
            + struct.pack(">I", len(payload))
            + payload
        )

    def ask(
        self,
        request: Any,
        *,
        subject: str = "subject-1",
        codec: str = "msgpack",
        shared: bool = False,
    ) -> None:
        """Send a well-formed request."""
        encode = msgspec.msgpack.encode if codec == "msgpack" else msgspec.json.encode
        control = self.control(subject, codec=codec, shared=shared)
        self.send(two_part(control, encode(request)))

    async def ack(self) -> bytes | None:
        """The next acknowledgement; ``None`` if the worker closed."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                (length,) = struct.unpack(">I", await self.reader.readexactly(4))
                return await self.reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def response(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The next connection back."""
        async with asyncio.timeout(_TIMEOUT_S):
            return await self.responses.get()

    async def messages(self) -> list[Message]:
        """All messages of the next response, until the worker has closed or said it is done."""
        reader, writer = await self.response()
        found: list[Message] = []
        while (message := await read_message(reader)) is not None:
            found.append(message)
            if message.header == b'"sentinel"':
                break
        writer.close()
        return found


class RawRequest(NamedTuple):
    """A request as a ``RawWorker`` got it."""

    path: str
    headers: dict[str, str]
    control: dict[str, Any]
    body: bytes
    opened: list[asyncio.StreamWriter]

    @property
    def info(self) -> dict[str, Any]:
        """Where the caller listens, and for what."""
        found: dict[str, Any] = json.loads(self.control["connection_info"]["info"])
        return found

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect back to the caller, without a handshake."""
        host, _, port = self.info["address"].rpartition(":")
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        self.opened.append(writer)
        return reader, writer

    async def start(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect back, with handshake and a good prologue."""
        reader, writer = await self.connect()
        handshake = {"subject": self.info["subject"], "stream_type": "response"}
        writer.write(two_part(json.dumps(handshake).encode()))
        writer.write(two_part(b'{"error": null}'))
        return reader, writer


def item(value: Any) -> bytes:
    """A message that carries an item."""
    frame = {"data": {"data": value}, "complete_final": False}
    return two_part(b"", msgspec.msgpack.encode(frame))


FINAL = two_part(b"", msgspec.msgpack.encode({"complete_final": True}))
SENTINEL = two_part(b'"sentinel"')


class RawWorker:
    """A worker whose every answer is scripted.

    Args:
        answer: Called with each request and its connection's writer; writes the acknowledgement
            itself (``ack``) and whatever else it likes.
    """

    def __init__(self, answer: Callable[[RawRequest, RawWorker], Awaitable[None]]) -> None:
        self._answer = answer
        self._writer: asyncio.StreamWriter | None = None
        self._opened: list[asyncio.StreamWriter] = []
        self.requests: list[RawRequest] = []
        self.address = ""

    def ack(self, text: bytes = b"") -> None:
        """Send an acknowledgement."""
        assert self._writer is not None
        self._writer.write(struct.pack(">I", len(text)) + text)

    def drop(self) -> None:
        """Close the request connection."""
        assert self._writer is not None
        self._writer.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Listen on a port of the system's choice."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}/1f/ns/comp/ep"
        try:
            yield self
        finally:
            server.close()
            await _close([*self._opened, *([self._writer] if self._writer else [])])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        try:
            while True:
                request = await self._read(reader)
                self.requests.append(request)
                await self._answer(request, self)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> RawRequest:
        (path_length,) = struct.unpack(">H", await reader.readexactly(2))
        path = await reader.readexactly(path_length)
        (headers_length,) = struct.unpack(">H", await reader.readexactly(2))
        headers = await reader.readexactly(headers_length)
        await reader.readexactly(4)
        header_length, body_length, checksum = struct.unpack(">QQQ", await reader.readexactly(24))
        assert checksum == 0
        control = await reader.readexactly(header_length)
        body = await reader.readexactly(body_length)
        return RawRequest(
            path.decode(), json.loads(headers), json.loads(control), body, self._opened
        )


async def _close(writers: list[asyncio.StreamWriter]) -> None:
    """Close connections and wait until they are."""
    for writer in writers:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)
