"""What the request plane expects of a connection, held against real sockets and within a process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from muster.testing.loops import run
from muster.wire.loopback import LoopbackListener, connect_loopback, is_loopback

KINDS = ["tcp", "loopback"]
LOTS = 16 << 20
"""Bytes that no buffer on the way holds."""


class End(asyncio.Protocol):
    """Keeps what happens to one end."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.made = 0
        self.got = bytearray()
        self.lost: list[Exception | None] = []
        self.full = False
        self.filled = 0
        self.on_data: Callable[[bytes], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.made += 1

    def data_received(self, data: bytes) -> None:
        assert data, "an empty read means nothing"
        self.got += data
        if self.on_data is not None:
            self.on_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)

    def pause_writing(self) -> None:
        assert not self.full
        self.full = True
        self.filled += 1

    def resume_writing(self) -> None:
        assert self.full
        self.full = False


async def until(condition: Callable[[], Any]) -> None:
    while not condition():  # noqa: ASYNC110 - what changes it tells nobody
        await asyncio.sleep(0.001)


async def a_while() -> None:
    """Long enough for what should not happen to happen."""
    for _ in range(20):
        await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def connected(kind: str) -> AsyncIterator[tuple[End, End]]:
    """The end that connected and the end that was connected to."""
    accepted: list[End] = []

    def accept() -> End:
        accepted.append(End())
        return accepted[-1]

    if kind == "tcp":
        loop = asyncio.get_running_loop()
        server = await loop.create_server(accept, "127.0.0.1", 0)
        near: End
        _, near = await loop.create_connection(End, *server.sockets[0].getsockname())
        close: Callable[[], None] = server.close
    else:
        listener = LoopbackListener(accept)
        near = connect_loopback(listener.address, End)
        close = listener.close
    await until(lambda: accepted and accepted[0].made)
    far = accepted[0]
    try:
        yield near, far
    finally:
        close()
        for end in (near, far):
            if not end.lost:
                end.transport.abort()
        await until(lambda: near.lost and far.lost)
        await a_while()
        assert near.made == far.made == 1
        assert len(near.lost) == len(far.lost) == 1, "connection_lost comes exactly once"


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_arrive_in_order_in_both_directions(kind: str) -> None:
    async def scenario() -> None:
        async with connected(kind) as (near, far):
            sent = bytearray()
            for number in range(2000):
                part = number.to_bytes(4, "big") * (number % 7 + 1)
                near.transport.write(part)
                far.transport.write(part[::-1])
                sent += part
                if number % 100 == 0:
                    await asyncio.sleep(0)
            await until(lambda: len(far.got) == len(near.got) == len(sent))
            assert far.got == sent

    run(scenario())


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_holds_bytes_can_be_written_and_changed_afterwards(kind: str) -> None:
    async def scenario() -> None:
        async with connected(kind) as (near, far):
            text = bytearray(b"abc")
            near.transport.write(text)
            text[:] = b"xyz"
            near.transport.write(memoryview(b"-defg-")[1:5])
            near.transport.write(b"")
            await until(lambda: len(far.got) == 7)
            assert far.got == b"abcdefg"

    run(scenario())


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_received_while_the_writer_still_runs(kind: str) -> None:
    async def scenario() -> None:
        async with connected(kind) as (near, far):
            near.transport.write(b"x")
            assert not far.got, "delivery is a turn of the loop of its own"
            await until(lambda: far.got)

    run(scenario())


@pytest.mark.parametrize("kind", KINDS)
def test_an_end_that_does_not_read_makes_the_writer_full_until_it_reads(kind: str) -> None:
    async def scenario() -> None:
        async with connected(kind) as (near, far):
            far.transport.pause_reading()
            assert not far.transport.is_reading()
            await a_while()
            near.transport.write(b"x" * LOTS)
            assert near.full
            await a_while()
            assert near.full
            assert not far.got
            far.transport.resume_reading()
            assert far.transport.is_reading()
            await until(lambda: len(far.got) == LOTS)
            await until(lambda: not near.full)
            assert near.filled == 1

    run(scenario())


@pytest.mark.parametrize("kind", KINDS)
def test_an_end_that_pauses_within_its_callback_gets_the_rest_later(kind: str) -> None:
    async def scenario() -> None:
        async with connected(kind) as (near, far):
            far.on_data = lambda data: far.transport.pause_reading()
            near.transport.write(b"first")
            await until(lambda: far.got)
            near.transport.write(b"second")
            await a_while()
            assert far.got == b"first"
            far.transport.resume_reading()
            await until(lambda: far.got == b"firstsecond")

    run(scenario())


@pytest.mark.parametrize("size", [0, 3, LOTS])
@pytest.mark.parametrize("kind", KINDS)
def test_closing_sends_first_what_is_written(kind: str, size: int) -> None:
    async def scenario() -> None:
        async with connected(kind) as (near, far):
            near.transport.write(b"x" * size)
            near.transport.close()
            assert near.transport.is_closing()
            assert not near.lost, "the end comes in a turn of the loop of its own"
            await until(lambda: far.lost and near.lost)
            assert len(far.got) == size
            assert near.lost == far.lost == [None]

    run(scenario())


@pytest.mark.parametrize("kind", KINDS)
def test_an_end_that_does_not_read_gets_what_was_written_before_the_other_closed(kind: str) -> None:
    async def scenario() -> None:
        async with connected(kind) as (near, far):
            far.transport.pause_reading()
            await a_while()
            near.transport.write(b"the last words")
            near.transport.close()
            await a_while()
            assert not far.got
            assert not far.lost
            far.transport.resume_reading()
            await until(lambda: far.lost)
            assert far.got == b"the last words"

    run(scenario())


@pytest.mark.parametrize("kind", KINDS)
def test_aborting_discards_what_is_written(kind: str) -> None:
    async def scenario() -> None:
        async with connected(kind) as (near, far):
            near.transport.write(b"x" * LOTS)
            near.transport.abort()
            await until(lambda: far.lost and near.lost)
            assert len(far.got) < LOTS

    run(scenario())


@pytest.mark.parametrize("ways", [("close", "close"), ("close", "abort"), ("abort", "abort")])
@pytest.mark.parametrize("kind", KINDS)
def test_closing_again_changes_nothing(kind: str, ways: tuple[str, ...]) -> None:
    async def scenario() -> None:
        async with connected(kind) as (near, far):
            for way in ways:
                getattr(near.transport, way)()
            await until(lambda: near.lost and far.lost)
            near.transport.close()

    run(scenario())


@pytest.mark.parametrize("kind", KINDS)
def test_both_ends_may_close_at_once(kind: str) -> None:
    async def scenario() -> None:
        async with connected(kind) as (near, far):
            near.transport.close()
            far.transport.close()
            await until(lambda: near.lost and far.lost)

    run(scenario())


@pytest.mark.parametrize("kind", KINDS)
def test_a_closed_end_sends_and_receives_nothing_more(kind: str) -> None:
    async def scenario() -> None:
        async with connected(kind) as (near, far):
            near.transport.write(b"before")
            near.transport.close()
            if kind == "loopback":  # a socket's transport leaves this to whoever writes
                near.transport.write(b"after")
            far.transport.write(b"too late")
            await until(lambda: near.lost and far.lost)
            near.transport.write(b"much later")
            await a_while()
            assert far.got == b"before"
            assert not near.got

    run(scenario())


@pytest.mark.parametrize("kind", KINDS)
def test_a_protocol_that_fails_loses_its_connection_and_so_does_the_other_end(kind: str) -> None:
    async def scenario() -> None:
        told: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))

        def fail(data: bytes) -> None:
            raise RecursionError("too deep")

        async with connected(kind) as (near, far):
            far.on_data = fail
            near.transport.write(b"x")
            await until(lambda: near.lost and far.lost)
            assert isinstance(told[0]["exception"], RecursionError)
            assert isinstance(far.lost[0], RecursionError)

    run(scenario())


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_asked_of_the_connection_but_not_known_is_the_default(kind: str) -> None:
    async def scenario() -> None:
        async with connected(kind) as (near, _):
            assert near.transport.get_extra_info("colour", "none") == "none"

    run(scenario())


def test_nobody_is_reached_at_a_place_that_is_closed_or_never_was() -> None:
    async def scenario() -> None:
        listener = LoopbackListener(End)
        assert is_loopback(listener.address)
        listener.close()
        listener.close()
        for address in (listener.address, "loopback/0", "loopback/x"):
            with pytest.raises(ConnectionRefusedError, match=r"nobody .* listens on loopback/"):
                connect_loopback(address, End)

    run(scenario())


def test_addresses_are_never_given_twice() -> None:
    listeners = [LoopbackListener(End) for _ in range(5)]
    assert len({listener.address for listener in listeners}) == 5
    for listener in listeners:
        listener.close()
    assert LoopbackListener(End).address not in {listener.address for listener in listeners}
