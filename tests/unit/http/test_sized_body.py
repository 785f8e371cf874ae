"""Responses of a length known before: sent in parts, or from a file by the system, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path

import pytest
import uvloop

from muster.errors import SourceError
from muster.http.exchange import Exchange
from muster.http.file_transfer import PIECE_BYTES
from muster.http.handler import Handler
from muster.http.limits import HttpLimits
from muster.http.server import HttpServer
from muster.http.writer import SlowReaderError
from muster.testing.certificates import CertificateAuthority

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Test = Callable[[], Coroutine[None, None, None]]

both_loops = pytest.mark.parametrize(
    "loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
ASK = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
LARGE = 24 * PIECE_BYTES
MAPPED = 10 * PIECE_BYTES + 1
"""Few enough bytes for a file to be mapped."""
"""More than the buffers between two sockets of this machine hold."""


def run(test: Test, loop: LoopFactory = asyncio.new_event_loop) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await test()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(limited())


@contextlib.asynccontextmanager
async def serving(
    handler: Handler, tls: ssl.SSLContext | None = None, *, write_s: float = 20.0
) -> AsyncIterator[HttpServer]:
    def refuse(exchange: Exchange, status: int, message: str) -> None:
        exchange.respond(status, message.encode(), content_type="text/plain")

    server = HttpServer(handler, refuse, HttpLimits(write_s=write_s))
    await server.start("127.0.0.1", 0, options={"ssl": tls})
    try:
        yield server
    finally:
        await server.close()


@contextlib.asynccontextmanager
async def asking(
    server: HttpServer, request: bytes = ASK, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, bytes]]:
    """A client with a small buffer that has read the head of its response."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", server.port))
    name = "localhost" if tls is not None else None
    reader, writer = await asyncio.open_connection(
        sock=sock, limit=1 << 16, ssl=tls, server_hostname=name
    )
    try:
        writer.write(request)
        yield reader, await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.transport.abort()


class Sender:
    """A handler that sends a part of a file; keeps what it raised and how much it sent."""

    def __init__(self, path: Path, start: int, stop: int) -> None:
        self.path = path
        self.start = start
        self.stop = stop
        self.sent: list[int] = []
        self.error: BaseException | None = None
        self.ended = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        self.ended.clear()
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            body = exchange.start_sized(200, self.stop - self.start, headers={"x-more": "1"})
            await body.send_file(descriptor, self.start, self.stop, on_sent=self.sent.append)
        except BaseException as error:
            self.error = error
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            os.close(descriptor)
            self.ended.set()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(LARGE))
    return path


def _forget(path: Path) -> None:
    """Ask the system to drop a file's pages."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


@both_loops
@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("stop", [MAPPED, LARGE - 5])
def test_a_part_of_a_file_arrives_and_the_connection_goes_on(
    file: Path, loop: LoopFactory, stop: int, cached: bool
) -> None:
    async def test() -> None:
        sender = Sender(file, 3, stop)
        async with serving(sender) as server, asking(server, ASK * 2) as (reader, head):
            for left in (1, 0):
                assert head.startswith(b"HTTP/1.1 200 OK\r\n")
                assert b"content-length: %d\r\n" % (stop - 3) in head
                assert b"content-type: application/octet-stream\r\n" in head
                assert b"x-more: 1\r\n" in head
                assert await reader.readexactly(stop - 3) == content[3:stop]
                if left:
                    head = await reader.readuntil(b"\r\n\r\n")
            await sender.ended.wait()
        assert sum(sender.sent) == 2 * (stop - 3)
        assert sender.error is None

    content = file.read_bytes()
    if not cached:
        _forget(file)
    run(test, loop)


@both_loops
def test_a_file_arrives_through_tls(file: Path, tmp_path: Path, loop: LoopFactory) -> None:
    async def test() -> None:
        sender = Sender(file, 0, LARGE)
        async with serving(sender, server_tls) as server, asking(server, tls=tls) as (reader, _):
            assert await reader.readexactly(LARGE) == file.read_bytes()
            await sender.ended.wait()
        assert sum(sender.sent) == LARGE

    authority = CertificateAuthority(tmp_path)
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_tls.load_cert_chain(*authority.sign("server"))
    tls = ssl.create_default_context(cafile=authority.path)
    run(test, loop)


@both_loops
def test_a_client_that_takes_nothing_is_cut_off(file: Path, loop: LoopFactory) -> None:
    async def test() -> None:
        sender = Sender(file, 0, LARGE)
        async with serving(sender, write_s=0.1) as server, asking(server) as (reader, _):
            await sender.ended.wait()
            assert isinstance(sender.error, SlowReaderError)
            assert server.counts.slow_readers == 1
            with contextlib.suppress(ConnectionError):
                assert len(await reader.read()) < LARGE

    run(test, loop)


@both_loops
def test_a_client_that_leaves_ends_the_handler(file: Path, loop: LoopFactory) -> None:
    async def test() -> None:
        sender = Sender(file, 0, LARGE)
        async with serving(sender) as server:
            async with asking(server):
                pass
            await sender.ended.wait()
        assert isinstance(sender.error, asyncio.CancelledError | ConnectionError)

    run(test, loop)


@both_loops
def test_a_file_that_is_too_short_cuts_the_connection(file: Path, loop: LoopFactory) -> None:
    async def test() -> None:
        sender = Sender(file, 0, LARGE + 1)
        async with serving(sender) as server, asking(server) as (reader, _):
            with contextlib.suppress(ConnectionError):
                assert len(await reader.read()) <= LARGE
            await sender.ended.wait()
        assert isinstance(sender.error, SourceError)
        assert f"ended at byte {LARGE} of {LARGE + 1}" in sender.error.message

    run(test, loop)


@both_loops
def test_a_mapped_file_that_is_cut_while_it_is_sent_cuts_the_connection(
    file: Path, loop: LoopFactory
) -> None:
    async def test() -> None:
        sender = Sender(file, 0, MAPPED)
        async with serving(sender) as server, asking(server) as (reader, _):
            os.truncate(file, 0)
            with contextlib.suppress(ConnectionError):
                assert len(await reader.read()) < MAPPED
            await sender.ended.wait()
        assert isinstance(sender.error, SourceError)

    run(test, loop)


@both_loops
def test_clients_of_one_file_get_it_at_once(file: Path, loop: LoopFactory) -> None:
    async def test() -> None:
        content = file.read_bytes()[:MAPPED]
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(serving(Sender(file, 0, MAPPED)))
            readers = [await stack.enter_async_context(asking(server)) for _ in range(4)]
            for reader, _ in readers:
                assert await reader.readexactly(MAPPED) == content

    run(test, loop)


@both_loops
def test_what_the_system_cannot_send_is_read(tmp_path: Path, loop: LoopFactory) -> None:
    async def test() -> None:
        sender = Sender(tmp_path, 0, 10)  # a directory, which cannot be read either
        async with serving(sender) as server, asking(server) as (reader, _):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            await sender.ended.wait()
        assert isinstance(sender.error, SourceError)
        assert "cannot read on at byte 0" in sender.error.message

    run(test, loop)


def answer(action: Callable[[Exchange], Awaitable[None]], request: bytes = ASK) -> bytes:
    """All that a client gets, its connection's end included."""
    got: list[bytes] = []

    async def test() -> None:
        async with serving(action) as server, asking(server, request) as (reader, head):
            with contextlib.suppress(ConnectionError):
                got.extend([head, await reader.read()])

    run(test)
    return b"".join(got)


def test_parts_are_sent_as_they_come() -> None:
    async def action(exchange: Exchange) -> None:
        exchange.close = True
        body = exchange.start_sized(206, 6, content_type="text/plain")
        for part in (b"one", b"", b"two"):
            await body.write(part)
        assert body.left == 0

    head, _, body = answer(action).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 206 ")
    assert b"content-length: 6" in head
    assert body == b"onetwo"


def test_less_than_was_announced_cuts_the_connection() -> None:
    async def action(exchange: Exchange) -> None:
        await exchange.start_sized(200, 10).write(b"short")

    assert b"content-length: 10" in answer(action)


def test_more_than_was_announced_is_not_sent() -> None:
    async def action(exchange: Exchange) -> None:
        exchange.close = True
        body = exchange.start_sized(200, 3)
        with pytest.raises(ValueError, match="4 bytes are more than the 3 left"):
            await body.write(b"four")
        with pytest.raises(ValueError, match="4 bytes are more than the 3 left"):
            await body.send_file(-1, 0, 4)
        await body.write(b"now")

    assert answer(action).endswith(b"\r\n\r\nnow")


def test_to_head_the_length_is_all_of_the_body() -> None:
    async def action(exchange: Exchange) -> None:
        exchange.close = True
        assert exchange.start_sized(200, 1000).left == 0
        assert exchange.finished

    assert answer(action, b"HEAD" + ASK[3:]).endswith(b"connection: close\r\n\r\n")


def test_an_answer_without_a_body_says_so_or_has_no_length() -> None:
    async def action(exchange: Exchange) -> None:
        exchange.close = True
        exchange.respond(int(exchange.header(b"x-status")), b"", content_type="")

    for status, field in ((405, b"content-length: 0\r\n"), (304, b"")):
        reply = answer(action, ASK.replace(b"host", b"x-status: %d\r\nhost" % status))
        assert b"content-type" not in reply
        assert (b"content-length" in reply) == bool(field)
        assert field in reply


def test_finishing_waits_for_the_response_under_way(file: Path) -> None:
    async def test() -> None:
        sender = Sender(file, 0, LARGE)
        async with serving(sender) as server, asking(server) as (reader, _):
            assert not await server.finish(0.01)
            ending = asyncio.ensure_future(server.finish(20))
            assert len(await reader.read()) == LARGE
            assert await ending
        assert sender.error is None

    run(test)
