"""Connections to workers: hosts that are none, closing at every moment, what a worker may say."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop

from muster.config.settings import RequestPlaneSettings
from muster.errors import CannotConnect, ConnectionTimeout, Disconnected, MusterError, ProtocolError
from muster.testing.loops import run
from muster.testing.site import Site
from muster.testing.waiting import wait_until
from muster.wire.items import FrameDecoder
from muster.wire.tcp.call_home import CallHome
from muster.wire.tcp.pool import ConnectionPool
from muster.wire.tcp.response_stream import ResponseStream
from muster.wire.tcp.sweep import Sweep

SETTINGS = RequestPlaneSettings(connect_timeout_s=5.0)
DECODE = FrameDecoder[Any](Any).of("json")


@contextlib.asynccontextmanager
async def listening(answer: Callable[[asyncio.StreamWriter], None]) -> AsyncIterator[int]:
    """Answer the first bytes of every connection; gives the port."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await reader.read(100)
            answer(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.gather(*(w.wait_closed() for w in writers), return_exceptions=True)


@contextlib.asynccontextmanager
async def home() -> AsyncIterator[CallHome]:
    sweep = Sweep()
    home = CallHome(SETTINGS, sweep)
    home.start_loopback()
    yield home
    await home.close()
    sweep.close()


async def end_of(stream: ResponseStream[Any]) -> MusterError:
    with pytest.raises(MusterError) as caught:
        await stream.opened()
    return caught.value


@pytest.mark.parametrize(
    "host",
    ["a" * 70, "nul\0host", "a..b", ".", "no such host", "::1%nowhere", "[", "é" * 80, "300.1.1.1"],
)
@pytest.mark.parametrize("uv", [False, True], ids=["asyncio", "uvloop"])
def test_a_host_that_is_none_cannot_be_connected_to(host: str, uv: bool) -> None:
    async def scenario() -> None:
        pool = ConnectionPool(SETTINGS)
        with pytest.raises((CannotConnect, ConnectionTimeout)) as caught:
            await pool.connect((host, 80))
        assert f"{host}:80" in caught.value.message
        assert pool.ready((host, 80)) is None
        await pool.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if uv else None) as runner:
        runner.run(scenario())


def test_closing_ends_those_who_wait_for_a_connection_and_those_who_come_later() -> None:
    async def scenario() -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            """The attempt does not get this far."""

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        address = ("127.0.0.1", server.sockets[0].getsockname()[1])
        pool = ConnectionPool(SETTINGS)
        waiting = [asyncio.create_task(pool.connect(address)) for _ in range(3)]
        await asyncio.sleep(0)
        await pool.close()
        for task in waiting:
            with pytest.raises(Disconnected, match="shutting down"):
                await task
        with pytest.raises(Disconnected, match="shutting down"):
            await pool.connect(address)
        assert pool.ready(address) is None
        server.close()
        await server.wait_closed()

    run(scenario())


def test_who_gives_up_waiting_leaves_the_attempt_to_the_others() -> None:
    async def scenario() -> None:
        pool = ConnectionPool(SETTINGS)
        async with listening(lambda writer: None) as port:
            first, second = (
                asyncio.create_task(pool.connect(("127.0.0.1", port))) for _ in range(2)
            )
            await asyncio.sleep(0)
            first.cancel()
            connection = await second
            assert first.cancelled()
            assert pool.ready(("127.0.0.1", port)) is connection
            await pool.close()

    run(scenario())


def test_those_who_share_a_failed_attempt_each_get_an_error_of_their_own() -> None:
    async def scenario() -> None:
        pool = ConnectionPool(SETTINGS)
        waiting = (pool.connect(("127.0.0.1", 1)) for _ in range(3))
        errors = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(error) for error in errors] == [CannotConnect] * 3
        assert len({id(error) for error in errors}) == 3
        await pool.close()

    run(scenario())


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (lambda writer: writer.close(), Disconnected, "lost before any answer"),
        (
            lambda writer: (writer.write(bytes(4)), writer.close()),
            Disconnected,
            "connection to 127.0.0.1",
        ),
        (lambda writer: writer.write(bytes(12)), Disconnected, "a request nobody sent"),
        (lambda writer: writer.write(b"\xff" * 12), ProtocolError, "too large"),
    ],
    ids=["nothing", "one of two", "one too many", "no protocol"],
)
def test_requests_end_with_the_connection_they_went_by(
    answer: Callable[[asyncio.StreamWriter], None], kind: type[MusterError], words: str
) -> None:
    async def scenario() -> None:
        pool = ConnectionPool(SETTINGS)
        async with listening(answer) as port, home() as calling:
            connection = await pool.connect(("127.0.0.1", port))
            streams = [calling.open("worker", DECODE) for _ in range(2)]
            for stream in streams:
                connection.send([b"request"], stream)
            if words == "a request nobody sent":  # both are acknowledged, and one more
                while not connection.closed:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.001)
            else:
                error = await end_of(streams[1])
                assert type(error) is kind
                assert words in error.message
            assert pool.ready(("127.0.0.1", port)) is None
            await pool.close()

    run(scenario())


def test_a_connection_with_many_requests_waiting_gets_another_beside_it_up_to_the_limit() -> None:
    async def scenario() -> None:
        pool = ConnectionPool(RequestPlaneSettings(connections_per_host=2))
        async with listening(lambda writer: None) as port, home() as calling:
            address = ("127.0.0.1", port)
            first = await pool.connect(address)
            for _ in range(64):
                assert pool.ready(address) is first
                first.send([b"request"], calling.open("worker", DECODE))
            assert pool.ready(address) is None
            second = await pool.connect(address)
            assert pool.ready(address) is second
            for _ in range(80):
                second.send([b"request"], calling.open("worker", DECODE))
            assert pool.ready(address) is first, "no third one is opened"
            await pool.close()

    run(scenario())


EXITING = """
import uvloop
from muster.runtime import DistributedRuntime

async def handler(request, context):
    yield 0
    raise {"SystemExit": SystemExit(3), "KeyboardInterrupt": KeyboardInterrupt()}[request]

async def main():
    async with DistributedRuntime() as runtime:
        await runtime.endpoint("ns.comp.ep").serve_endpoint(handler)
uvloop.run(main())
"""

ASKING = """
import uvloop
from muster.errors import MusterError
from muster.runtime import DistributedRuntime

async def main():
    async with DistributedRuntime() as runtime:
        client = await runtime.endpoint("ns.comp.ep").client()
        (instance,) = await client.wait_for_instances(timeout=30)
        try:
            async for item in await client.direct(WHAT, instance):
                print("item", item.data(), flush=True)
        except MusterError as error:
            print("failure", type(error).__name__, flush=True)
uvloop.run(main())
"""


@pytest.mark.parametrize("what", ["SystemExit", "KeyboardInterrupt"])
def test_a_handler_that_ends_its_process_ends_its_responses_too(site: Site, what: str) -> None:
    worker = site.script(EXITING, role="worker")
    wait_until(lambda: site.records("v1/instances"), "endpoint registered")
    client = site.script(ASKING.replace("WHAT", repr(what)), role="client")
    client.wait(30)
    worker.wait(30)
    assert "item 0" in client.text()
    assert "failure Disconnected" in client.text()
