"""A metadata server that answers as a test tells it to: rightly, or in every wrong way we know.

Raw asyncio, because most of the wrong ways are ones a proper HTTP server would not let through.
Each path has an ``Answer``; requests are kept, so that a test can say what was not asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TypeAlias

import msgspec

from muster.digest import Digest

__all__ = [
    "Answer",
    "Connection",
    "MetadataServer",
    "Request",
    "busy",
    "endless",
    "gzipped",
    "hang",
    "in_turn",
    "lying_length",
    "ranged",
    "redirect",
    "reset",
    "right",
    "status",
    "trickle",
    "truncated",
    "without_length",
]


class Request(msgspec.Struct, frozen=True):
    """One request as it came; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]


class Connection:
    """What an answer may do: write, and wait for at most the server's life."""

    def __init__(
        self, writer: asyncio.StreamWriter, closing: asyncio.Event, request: Request
    ) -> None:
        self._writer = writer
        self._closing = closing
        self.request = request

    async def send(self, data: bytes) -> None:
        """Write and wait until the client has taken most of it."""
        self._writer.write(data)
        await self._writer.drain()

    async def head(self, code: int, **headers: object) -> None:
        """Write a status line and headers; ``content_length=3`` becomes ``content-length: 3``."""
        lines = [f"HTTP/1.1 {code} {http.HTTPStatus(code).phrase}", "connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.send("\r\n".join([*lines, "", ""]).encode())

    async def pause(self, seconds: float | None = None) -> None:
        """Wait so long, or for ever; returns early when the server closes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    def reset(self) -> None:
        """Break the connection, as a process that is killed does."""
        self._writer.transport.abort()

    @property
    def is_closing(self) -> bool:
        """Whether the server is going away."""
        return self._closing.is_set()


Answer: TypeAlias = Callable[[Connection], Awaitable[None]]
"""Writes one response; the connection is closed after it."""


def right(body: bytes) -> Answer:
    """200, the length, the bytes."""

    async def answer(connection: Connection) -> None:
        await connection.head(200, content_length=len(body))
        await connection.send(body)

    return answer


def without_length(body: bytes) -> Answer:
    """200 and the bytes in chunked encoding, in pieces of 64 KiB."""

    async def answer(connection: Connection) -> None:
        await connection.head(200, transfer_encoding="chunked")
        for start in range(0, len(body), 65536):
            piece = body[start : start + 65536]
            await connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        await connection.send(b"0\r\n\r\n")

    return answer


def status(code: int, body: bytes = b"", **headers: object) -> Answer:
    """That status with that body."""

    async def answer(connection: Connection) -> None:
        await connection.head(code, content_length=len(body), **headers)
        await connection.send(body)

    return answer


def redirect(to: str, code: int = 302) -> Answer:
    """A redirect to ``to``."""
    return status(code, location=to)


def lying_length(body: bytes, length: int) -> Answer:
    """200, ``length`` as the length, and all of ``body`` whatever that is."""

    async def answer(connection: Connection) -> None:
        await connection.head(200, content_length=length)
        await connection.send(body)

    return answer


def truncated(body: bytes, at: int) -> Answer:
    """200, the whole length, the first ``at`` bytes, then the connection is closed."""
    return lying_length(body[:at], len(body))


def endless(piece: bytes = b"\0" * 65536) -> Answer:
    """200 and bytes until the client or the server goes."""

    async def answer(connection: Connection) -> None:
        await connection.head(200, transfer_encoding="chunked")
        while not connection.is_closing:
            await connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))

    return answer


def trickle(body: bytes, *, every_s: float, step: int = 1) -> Answer:
    """200 and ``body``, ``step`` bytes at a time with pauses."""

    async def answer(connection: Connection) -> None:
        await connection.head(200, content_length=len(body))
        for start in range(0, len(body), step):
            await connection.send(body[start : start + step])
            await connection.pause(every_s)

    return answer


def gzipped(body: bytes) -> Answer:
    """200 and ``body`` compressed, whatever the client accepts."""
    packed = gzip.compress(body)

    async def answer(connection: Connection) -> None:
        await connection.head(200, content_encoding="gzip", content_length=len(packed))
        await connection.send(packed)

    return answer


def hang(before: bytes = b"") -> Answer:
    """Write ``before``, then nothing more."""

    async def answer(connection: Connection) -> None:
        await connection.send(before)
        await connection.pause()

    return answer


def reset(body: bytes, at: int) -> Answer:
    """200, the whole length, the first ``at`` bytes, then the connection breaks."""

    async def answer(connection: Connection) -> None:
        await connection.head(200, content_length=len(body))
        await connection.send(body[:at])
        await connection.pause(0.05)  # let them be read: a reset may overtake what was sent
        connection.reset()

    return answer


def ranged(body: bytes, *, stop_at: int | None = None, lie: int = 0) -> Answer:
    """Parts as asked for, with an entity tag: 206, or 200 for all of it.

    Args:
        body: The file.
        stop_at: Byte after which the connection is closed, if it is not the end.
        lie: How far the announced beginning of a part is off.
    """
    tag = f'"{Digest.of(body)}"'
    stop = len(body) if stop_at is None else stop_at

    async def answer(connection: Connection) -> None:
        asked = connection.request.headers.get("range", "")
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        if start >= len(body) > 0:
            await connection.head(416, content_range=f"bytes */{len(body)}", content_length=0)
            return
        headers: dict[str, object] = {"etag": tag, "content_length": len(body) - start}
        if asked:
            headers["content_range"] = f"bytes {start + lie}-{len(body) - 1}/{len(body)}"
        await connection.head(206 if asked else 200, **headers)
        await connection.send(body[start : max(stop, start)])

    return answer


def busy(retry_after: str | None = "0", code: int = 503) -> Answer:
    """No place free; to be asked again after so long, or at that date."""
    return status(code) if retry_after is None else status(code, retry_after=retry_after)


def in_turn(*answers: Answer) -> Answer:
    """Each request gets the next answer; the last one stays."""
    waiting = list(answers)

    async def answer(connection: Connection) -> None:
        await (waiting.pop(0) if len(waiting) > 1 else waiting[0])(connection)

    return answer


class MetadataServer:
    """Listens on 127.0.0.1 while its ``async with`` lasts."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._answers: dict[str, Answer] = {}
        self._closing = asyncio.Event()
        self._arrived = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._handlers: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> MetadataServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.set()
        if self._server is not None:
            self._server.close()
        if self._handlers:
            await asyncio.wait(self._handlers)

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._server is None:
            raise RuntimeError("the server is not running")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def url(self, target: str) -> str:
        """The URL of a target such as ``/m/config.json``."""
        return f"http://127.0.0.1:{self.port}{target}"

    def add(self, target: str, answer: Answer) -> str:
        """Answer requests for ``target`` (as written in the request) so; returns its URL."""
        self._answers[target] = answer
        return self.url(target)

    async def wait_for_requests(self, count: int) -> None:
        """Wait until at least ``count`` requests have come."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= count)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._handlers.add(task)
            task.add_done_callback(self._handlers.discard)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            request = _parse(await reader.readuntil(b"\r\n\r\n"))
            async with self._arrived:
                self.requests.append(request)
                self._arrived.notify_all()
            answer = self._answers.get(request.target, status(404, b"Not found"))
            await answer(Connection(writer, self._closing, request))
        with contextlib.suppress(OSError):
            writer.close()
            await writer.wait_closed()


def _parse(head: bytes) -> Request:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = dict(line.split(": ", 1) for line in lines if line)
    return Request(method, target, {name.lower(): value for name, value in headers.items()})
