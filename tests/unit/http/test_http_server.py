"""HTTP/1.1 over real sockets: framing, limits, deadlines, and clients that leave."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop

from muster.errors import ConfigError, TransportError
from muster.http.exchange import Exchange
from muster.http.handler import Handler
from muster.http.limits import HttpLimits
from muster.http.server import HttpServer
from muster.testing.loops import run


def refuse(exchange: Exchange, status: int, message: str) -> None:
    exchange.respond(status, message.encode(), content_type="text/plain")


async def echo(exchange: Exchange) -> None:
    """Method, path, query and body, one a line."""
    parts = [exchange.method.encode(), exchange.path.encode(), exchange.query.encode()]
    exchange.respond(200, b"\n".join([*parts, exchange.body]), content_type="text/plain")


class Peer:
    """The client's end, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split(" ")[1]), fields

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        status, fields = await self.head()
        if "content-length" in fields:
            return status, fields, await self.reader.readexactly(int(fields["content-length"]))
        return status, fields, b"".join([chunk async for chunk in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self.reader.readline(), 16):
            yield (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readexactly(2)

    async def closed(self) -> bytes:
        """What else comes before the server closes."""
        return await self.reader.read()


@contextlib.asynccontextmanager
async def serving(handler: Handler = echo, **limits: Any) -> AsyncIterator[HttpServer]:
    server = HttpServer(handler, refuse, HttpLimits(**limits))
    await server.start("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.close()


@contextlib.asynccontextmanager
async def connected(server: HttpServer) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def post(body: bytes, *fields: str, path: str = "/p") -> bytes:
    head = [f"POST {path} HTTP/1.1", "host: x", f"content-length: {len(body)}", *fields]
    return "\r\n".join([*head, "", ""]).encode() + body


GET = b"GET /a?b=c HTTP/1.1\r\nhost: x\r\n\r\n"


def test_a_connection_serves_one_request_after_the_other() -> None:
    async def test() -> None:
        async with serving() as server, connected(server) as peer:
            for _ in range(2):
                peer.send(GET)
                status, fields, body = await peer.response()
                assert (status, body) == (200, b"GET\n/a\nb=c\n")
                assert fields["date"].endswith("GMT")
                assert "connection" not in fields

    run(test())


def test_pipelined_requests_are_answered_in_order() -> None:
    async def test() -> None:
        async with serving() as server, connected(server) as peer:
            peer.send(b"".join(post(b"%d" % number) for number in range(50)))
            for number in range(50):
                assert (await peer.response())[2] == b"POST\n/p\n\n%d" % number
            peer.send(GET)
            assert (await peer.response())[0] == 200

    run(test())


def test_a_request_may_arrive_byte_by_byte() -> None:
    async def test() -> None:
        async with serving() as server, connected(server) as peer:
            for byte in post("grüße".encode()):
                peer.send(bytes([byte]))
                await peer.writer.drain()
            assert (await peer.response())[2] == "POST\n/p\n\ngrüße".encode()

    run(test())


def test_a_chunked_body_is_joined_and_its_trailers_dropped() -> None:
    async def test() -> None:
        async with serving() as server, connected(server) as peer:
            peer.send(
                b"POST /p HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
                b"3\r\nabc\r\n2\r\nde\r\n0\r\ntrailer: x\r\n\r\n"
            )
            assert (await peer.response())[2] == b"POST\n/p\n\nabcde"

    run(test())


def test_head_gets_the_head_only() -> None:
    async def test() -> None:
        async with serving() as server, connected(server) as peer:
            peer.send(b"HEAD /a HTTP/1.1\r\nhost: x\r\n\r\n" + GET)
            status, fields = await peer.head()
            assert (status, fields["content-length"]) == (200, "9")
            assert (await peer.response())[2] == b"GET\n/a\nb=c\n"

    run(test())


def test_http_1_0_is_answered_without_chunks_and_closed() -> None:
    async def stream(exchange: Exchange) -> None:
        exchange.start_stream(b"one ")
        exchange.write(b"two ")
        exchange.end(b"three")

    async def test() -> None:
        async with serving(stream) as server, connected(server) as peer:
            peer.send(b"GET / HTTP/1.0\r\n\r\n")
            _, fields = await peer.head()
            assert fields["connection"] == "close"
            assert "transfer-encoding" not in fields
            assert await peer.closed() == b"one two three"

    run(test())


def test_http_1_0_keeps_the_connection_when_asked_to() -> None:
    async def test() -> None:
        async with serving() as server, connected(server) as peer:
            for _ in range(2):
                peer.send(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
                _, fields, _ = await peer.response()
                assert fields["connection"] == "keep-alive"

    run(test())


def test_a_stream_arrives_part_by_part() -> None:
    async def test() -> None:
        more = asyncio.Event()

        async def stream(exchange: Exchange) -> None:
            exchange.start_stream()
            exchange.write(b"first")
            await more.wait()
            exchange.write(b"")
            exchange.end(b"last")

        async with serving(stream) as server, connected(server) as peer:
            peer.send(GET + GET)
            status, fields = await peer.head()
            assert (status, fields["transfer-encoding"]) == (200, "chunked")
            chunks = peer.chunks()
            assert await anext(chunks) == b"first"
            more.set()
            assert [chunk async for chunk in chunks] == [b"last"]
            assert (await peer.response())[2] == b"firstlast"

    run(test())


def test_connection_close_is_honoured() -> None:
    async def test() -> None:
        async with serving() as server, connected(server) as peer:
            peer.send(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert (await peer.response())[1]["connection"] == "close"
            assert await peer.closed() == b""

    run(test())


def test_expect_continue_is_answered_before_the_body() -> None:
    async def test() -> None:
        async with serving() as server, connected(server) as peer:
            peer.send(post(b"", "expect: 100-continue").replace(b"length: 0", b"length: 2"))
            assert (await peer.head())[0] == 100
            peer.send(b"ok")
            assert (await peer.response())[2] == b"POST\n/p\n\nok"

    run(test())


def test_an_offered_upgrade_is_declined_and_the_body_kept() -> None:
    async def test() -> None:
        offer = ("connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABk")
        async with serving() as server, connected(server) as peer:
            peer.send(post(b"body", *offer) + GET)
            assert (await peer.response())[2] == b"POST\n/p\n\nbody"
            assert (await peer.response())[2] == b"GET\n/a\nb=c\n"

    run(test())


def test_connect_is_refused() -> None:
    async def test() -> None:
        async with serving() as server, connected(server) as peer:
            peer.send(b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n")
            assert (await peer.response())[0] == 405

    run(test())


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",  # a TLS hello
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nbad header: 1\r\n\r\n",
    ],
)
def test_what_is_not_http_gets_a_400_and_the_connection_closed(data: bytes) -> None:
    async def test() -> None:
        async with serving() as server, connected(server) as peer:
            peer.send(data)
            status, fields, _ = await peer.response()
            assert (status, fields["connection"]) == (400, "close")
            assert await peer.closed() == b""

    run(test())


def test_a_body_announced_as_too_large_is_refused_while_it_is_sent() -> None:
    async def test() -> None:
        async with serving(body_bytes=1000) as server, connected(server) as peer:
            peer.send(post(b"x" * 1_000_000))
            status, _, body = await peer.response()
            assert status == 413
            assert b"1000 bytes" in body
            assert await peer.closed() == b""

    run(test())


def test_a_chunked_body_that_grows_too_large_is_refused() -> None:
    async def test() -> None:
        async with serving(body_bytes=1000) as server, connected(server) as peer:
            peer.send(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
            peer.send((b"200\r\n" + b"x" * 0x200 + b"\r\n") * 4)
            assert (await peer.response())[0] == 413

    run(test())


def test_a_body_of_exactly_the_limit_is_accepted() -> None:
    async def test() -> None:
        async with serving(body_bytes=1000) as server, connected(server) as peer:
            peer.send(post(b"x" * 1000))
            assert (await peer.response())[0] == 200

    run(test())


def test_endless_headers_are_refused() -> None:
    async def test() -> None:
        async with serving(head_bytes=1000) as server, connected(server) as peer:
            peer.send(b"GET / HTTP/1.1\r\nhost: x\r\nlong: " + b"x" * 2000)
            assert (await peer.response())[0] == 431

    run(test())


def test_a_head_that_trickles_in_is_given_up() -> None:
    async def test() -> None:
        async with serving(request_s=0.2) as server, connected(server) as peer:

            async def trickle() -> None:
                peer.send(b"GET / HTTP/1.1\r\n")
                while True:
                    peer.send(b"x: y\r\n")
                    await asyncio.sleep(0.02)

            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(trickle())
                assert (await peer.response())[0] == 408
                task.cancel()

    run(test())


def test_an_idle_connection_is_closed() -> None:
    async def test() -> None:
        async with serving(idle_s=0.1) as server, connected(server) as peer:
            peer.send(GET)
            await peer.response()
            assert await peer.closed() == b""

    run(test())


def test_no_deadline_runs_while_a_request_is_handled() -> None:
    async def test() -> None:
        async def slow(exchange: Exchange) -> None:
            await asyncio.sleep(0.4)
            exchange.respond(200, b"")

        limits = {"request_s": 0.1, "idle_s": 0.1}
        async with serving(slow, **limits) as server, connected(server) as peer:
            peer.send(GET)
            assert (await peer.response())[0] == 200

    run(test())


def test_a_failing_handler_is_answered_with_500_and_hurts_nobody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(exchange: Exchange) -> None:
        if exchange.body == b"fail":
            raise ZeroDivisionError("a bug")
        await echo(exchange)

    async def test() -> None:
        async with serving(broken) as server, connected(server) as one, connected(server) as two:
            one.send(post(b"fail"))
            status, fields, body = await one.response()
            assert (status, fields["connection"]) == (500, "close")
            assert b"a bug" not in body
            two.send(GET)
            assert (await two.response())[0] == 200

    run(test())
    assert "request handler failed" in caplog.text


def test_a_handler_that_fails_mid_stream_cuts_the_connection() -> None:
    async def broken(exchange: Exchange) -> None:
        exchange.start_stream(b"half")
        raise ZeroDivisionError

    async def test() -> None:
        async with serving(broken) as server, connected(server) as peer:
            peer.send(GET)
            await peer.head()
            with contextlib.suppress(ConnectionError):
                assert not (await peer.closed()).endswith(b"0\r\n\r\n")

    run(test())


@pytest.mark.parametrize("streaming", [False, True])
def test_a_handler_is_cancelled_as_soon_as_its_client_leaves(streaming: bool) -> None:
    async def test() -> None:
        entered, cancelled = asyncio.Event(), asyncio.Event()

        async def forever(exchange: Exchange) -> None:
            if streaming:
                exchange.start_stream(b"x")
            entered.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

        async with serving(forever) as server:
            async with connected(server) as peer:
                peer.send(GET)
                await entered.wait()
            async with asyncio.timeout(0.1):
                await cancelled.wait()

    run(test())


@pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
@pytest.mark.parametrize("before", [b"", GET], ids=["first", "pipelined"])
def test_a_client_that_leaves_is_noticed_however_early_its_request_came(
    new_loop: Callable[[], asyncio.AbstractEventLoop], before: bytes
) -> None:
    """The request is there before the connection is accepted, or before the last one is answered."""
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        if exchange.method == "GET":
            await asyncio.sleep(0)
            return await echo(exchange)
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def test() -> None:
        async with asyncio.timeout(20), serving(handler) as server:
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(before + post(b""))
                await started.wait()
            await cancelled.wait()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(test())


def test_a_client_that_reads_nothing_holds_the_handler_back_then_is_cut_off() -> None:
    async def test() -> None:
        outcome: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

        async def flood(exchange: Exchange) -> None:
            exchange.start_stream()
            try:
                while True:
                    exchange.write(b"x" * 65536)
                    if exchange.congested:
                        await exchange.drained()
            except TransportError as error:
                outcome.set_result(error)

        async with serving(flood, write_s=0.1) as server, connected(server) as peer:
            peer.send(GET)
            assert "unread" in str(await outcome)

    run(test())


def test_a_client_that_catches_up_gets_everything() -> None:
    total = 8 << 20

    async def flood(exchange: Exchange) -> None:
        exchange.start_stream()
        for _ in range(total // 65536):
            exchange.write(b"x" * 65536)
            if exchange.congested:
                await exchange.drained()
        exchange.end()

    async def test() -> None:
        async with serving(flood) as server, connected(server) as peer:
            peer.send(GET)
            assert len((await peer.response())[2]) == total

    run(test())


def test_close_idle_closes_at_once_or_after_the_response() -> None:
    async def test() -> None:
        entered, go = asyncio.Event(), asyncio.Event()

        async def slow(exchange: Exchange) -> None:
            entered.set()
            await go.wait()
            exchange.respond(200, b"")

        async with serving(slow) as server, connected(server) as idle, connected(server) as busy:
            busy.send(GET)
            await entered.wait()
            server.close_idle()
            assert await idle.closed() == b""
            go.set()
            assert (await busy.response())[1]["connection"] == "close"
            assert await busy.closed() == b""

    run(test())


def test_close_cancels_handlers_and_cuts_streams_short() -> None:
    async def test() -> None:
        entered = asyncio.Event()

        async def forever(exchange: Exchange) -> None:
            exchange.start_stream(b"x")
            entered.set()
            await asyncio.Event().wait()

        async with serving(forever) as server, connected(server) as peer:
            peer.send(GET)
            await entered.wait()
            await server.close()
            await peer.head()
            assert await peer.closed() == b"1\r\nx\r\n"
            assert server.port == 0

    run(test())


def test_a_port_in_use_is_a_config_error() -> None:
    async def test() -> None:
        async with serving() as server:
            other = HttpServer(echo, refuse, HttpLimits())
            with pytest.raises(ConfigError, match=f"port {server.port}"):
                await other.start("127.0.0.1", server.port)

    run(test())


def test_a_closing_connection_whose_client_does_not_read_is_cut_off() -> None:
    """A whole response larger than any buffer, of which nothing is taken."""

    async def large(exchange: Exchange) -> None:
        exchange.close = True
        exchange.respond(200, b"x" * (32 << 20))

    async def test() -> None:
        async with serving(large, write_s=0.1) as server, connected(server) as peer:
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
            peer.send(GET)
            while not server.counts.slow_readers:  # noqa: ASYNC110 - a count
                await asyncio.sleep(0.01)

    run(test())


def test_pipelined_answers_do_not_pile_up_for_a_client_that_does_not_read() -> None:
    async def test() -> None:
        answered = 0

        async def large(exchange: Exchange) -> None:
            nonlocal answered
            answered += 1
            exchange.respond(200, b"x" * (8 << 20))

        async with serving(large, write_s=0.2) as server, connected(server) as peer:
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
            peer.send(GET * 50)
            while not server.counts.slow_readers:  # noqa: ASYNC110 - a count
                await asyncio.sleep(0.01)
            assert answered <= 2

    run(test())


def test_a_client_that_reads_slowly_gets_a_large_response_whole() -> None:
    total = 8 << 20

    async def large(exchange: Exchange) -> None:
        exchange.close = True
        exchange.respond(200, b"x" * total)

    async def test() -> None:
        async with serving(large, write_s=0.5) as server, connected(server) as peer:
            peer.send(GET)
            await peer.head()
            left = total
            while left:
                left -= len(await peer.reader.read(256 << 10))
                await asyncio.sleep(0.03)
            assert server.counts.slow_readers == 0

    run(test())


def test_a_slow_reader_is_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        ended = asyncio.Event()

        async def flood(exchange: Exchange) -> None:
            exchange.request_id = "the-request"
            exchange.start_stream()
            try:
                while True:
                    exchange.write(b"x" * 65536)
                    if exchange.congested:
                        await exchange.drained()
            finally:
                ended.set()

        async with serving(flood, write_s=0.1) as server, connected(server) as peer:
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
            peer.send(GET)
            await ended.wait()
            assert server.counts.slow_readers == 1

    run(test())
    record = next(r for r in caplog.records if "cut off" in r.message)
    assert "the-request" in str(record.__dict__)


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: identity\r\ntransfer-encoding: chunked",
        b"POST / HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, identity",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding : chunked",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding:\x0bchunked",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: +5",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5, 5",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0x5",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -5",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked",
        b"POST / HTTP/1.1\r\nhost: x\r\nhost: y",
        b"POST / HTTP/1.1\r\nhost: x\r\nfolded: a\r\n b",
        b"POST / HTTP/1.1\r\nhost: x\r\nnul: \x00",
        b"POST / HTTP/1.1\nhost: x",
    ],
)
def test_what_a_proxy_might_read_otherwise_is_refused_and_nothing_after_it_is_read(
    head: bytes,
) -> None:
    async def test() -> None:
        async with serving() as server, connected(server) as peer:
            peer.send(head + b"\r\n\r\n0\r\n\r\n" + GET)
            assert (await peer.response())[0] == 400
            with contextlib.suppress(ConnectionError):
                assert await peer.closed() == b""

    run(test())


@pytest.mark.parametrize("version", [b"0.9", b"2.0"])
def test_other_versions_of_http_are_refused(version: bytes) -> None:
    async def test() -> None:
        async with serving() as server, connected(server) as peer:
            peer.send(b"GET / HTTP/%b\r\nhost: x\r\n\r\n" % version)
            assert (await peer.response())[0] == 505

    run(test())


def test_a_target_with_scheme_and_host_stands_for_its_path() -> None:
    async def test() -> None:
        async with serving() as server, connected(server) as peer:
            peer.send(b"GET http://somewhere:80/a?b=c HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await peer.response())[2] == b"GET\n/a\nb=c\n"
            peer.send(b"GET HTTPS://somewhere HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await peer.response())[2] == b"GET\n/\n\n"

    run(test())


@pytest.mark.parametrize(("version", "expectation"), [("1.0", "100-continue"), ("1.1", "200-ok")])
def test_nobody_is_told_to_continue_who_did_not_ask(version: str, expectation: str) -> None:
    async def test() -> None:
        async with serving() as server, connected(server) as peer:
            head = post(b"ok", f"expect: {expectation}", "connection: close")
            peer.send(head.replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
            assert (await peer.head())[0] == 200

    run(test())


def test_a_body_that_is_announced_as_too_large_is_not_invited() -> None:
    async def test() -> None:
        async with serving(body_bytes=10) as server, connected(server) as peer:
            peer.send(
                b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 11\r\nexpect: 100-continue\r\n\r\n"
            )
            assert (await peer.response())[0] == 413

    run(test())


@pytest.mark.parametrize("size", [1100, 200_000])
def test_headers_too_large_are_refused_however_they_arrive(size: int) -> None:
    async def test() -> None:
        async with serving(head_bytes=1000) as server, connected(server) as peer:
            peer.send(b"GET / HTTP/1.1\r\nhost: x\r\nlong: " + b"x" * size + b"\r\n\r\n")
            assert (await peer.response())[0] == 431

    run(test())


def test_a_large_body_does_not_count_as_headers() -> None:
    async def test() -> None:
        async with serving(head_bytes=1000) as server, connected(server) as peer:
            peer.send(post(b"x" * 100_000))
            assert (await peer.response())[0] == 200

    run(test())


@pytest.mark.parametrize(
    "endless", [b"1;" + b"e" * 70_000, b"0\r\ntrailer: " + b"t" * 70_000], ids=["chunk", "trailer"]
)
def test_what_goes_with_a_body_without_being_one_is_bounded(endless: bytes) -> None:
    async def test() -> None:
        async with serving() as server, connected(server) as peer:
            peer.send(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + endless)
            for _ in range(40):
                peer.send(b"x" * 70_000)
            assert (await peer.response())[0] == 400

    run(test())


def test_a_body_of_one_byte_chunks_is_accepted() -> None:
    async def test() -> None:
        async with serving() as server, connected(server) as peer:
            peer.send(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
            peer.send(b"1\r\nx\r\n" * 200_000 + b"0\r\n\r\n")
            assert len((await peer.response())[2]) == 200_000 + len(b"POST\n/\n\n")

    run(test())


@pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_small_writes_are_not_held_back(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def test() -> None:
        asked = asyncio.Event()
        flags: list[int] = []

        async def handler(exchange: Exchange) -> None:
            asked.set()
            await echo(exchange)

        async with serving(handler) as server, connected(server) as peer:
            peer.send(GET)
            await asked.wait()
            (connection,) = server._connections  # the test is of its socket alone
            assert connection._transport is not None
            accepted = connection._transport.get_extra_info("socket")
            flags.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        assert flags == [1]

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(test())
