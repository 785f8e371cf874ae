"""All responses of one worker to one caller on one connection, over real sockets.

Either end is also written by hand: against the description of the format, not with its code.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
import pytest

from muster.discovery.memory import MemoryRegistry
from muster.discovery.records import INSTANCES, Instance
from muster.errors import ConnectionTimeout, Disconnected, MusterError, ProtocolError
from muster.runtime import Client, Context, DistributedRuntime
from muster.testing.loops import run
from muster.testing.raw_plane import (
    FINAL,
    SENTINEL,
    RawCaller,
    RawRequest,
    RawWorker,
    item,
    two_part,
)
from muster.testing.runtimes import loopback_settings, runtime_in

ENDPOINT = "ns.comp.ep"
SUBJECT = "0123abcd-0123-4abc-8def-{:012x}"
PREFIX = SUBJECT[:24].encode()
OPEN, DATA, CLOSE, PAUSE, RESUME = range(5)


class Piece(NamedTuple):
    kind: int
    number: int
    data: bytes


def piece(kind: int, number: int, data: bytes = b"") -> bytes:
    return struct.pack(">BQI", kind, number, len(data)) + data


async def read_piece(reader: asyncio.StreamReader) -> Piece:
    async with asyncio.timeout(10):
        kind, number, length = struct.unpack(">BQI", await reader.readexactly(13))
        return Piece(kind, number, await reader.readexactly(length))


async def greeting(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(10):
        return await reader.readexactly(32)


async def count_to(request: Any, context: Context) -> AsyncIterator[Any]:
    for number in range(request["n"]):
        yield number


@contextlib.asynccontextmanager
async def serving(handler: Any = count_to, **settings: Any) -> AsyncIterator[Instance]:
    async with (
        runtime_in(MemoryRegistry(), loopback_settings(**settings)) as runtime,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(runtime.endpoint(ENDPOINT).serve_endpoint(handler))
        client = await runtime.endpoint(ENDPOINT).client()
        await client.wait_for_instances(timeout=10)
        yield client.instances()[0]
        await runtime.close()


@contextlib.asynccontextmanager
async def calling(address: str, **settings: Any) -> AsyncIterator[Client]:
    async with runtime_in(MemoryRegistry(), loopback_settings(**settings)) as runtime:
        yield await client_of(runtime, address)


async def client_of(runtime: DistributedRuntime, address: str) -> Client:
    record = {
        "type": "Endpoint",
        "component": "comp",
        "endpoint": "ep",
        "namespace": "ns",
        "instance_id": 31,
        "transport": {"tcp": address},
        "request_plane_codec": "msgpack",
    }
    await runtime.discovery.register(INSTANCES, "ns/comp/ep/1f", msgspec.json.encode(record))
    client = await runtime.endpoint(ENDPOINT).client()
    await client.wait_for_instances(timeout=10)
    return client


async def items_of(client: Client, request: Any) -> list[Any]:
    return [item async for item in await client.round_robin(request, annotated=False)]


async def failure_of(client: Client, request: Any) -> MusterError:
    with pytest.raises(MusterError) as caught:
        await items_of(client, request)
    return caught.value


# -- the worker's end, called by hand ---------------------------------------------------------


def test_two_responses_come_over_one_connection_that_greets() -> None:
    async def scenario() -> None:
        async with serving() as instance, RawCaller(instance.transport.address) as caller:
            for number in (1, 2):
                caller.ask({"n": number}, subject=SUBJECT.format(number), shared=True)
                assert await caller.ack() == b""
            reader, writer = await caller.response()
            assert await greeting(reader) == b"MUSTER\x00\x01" + PREFIX
            streams: dict[int, bytes] = {}
            while sum(data.endswith(SENTINEL) for data in streams.values()) < 2:
                came = await read_piece(reader)
                assert came.kind == (DATA if came.number in streams else OPEN)
                streams[came.number] = streams.get(came.number, b"") + came.data
            for number, data in streams.items():
                handshake = {"subject": SUBJECT.format(number), "stream_type": "response"}
                assert data == (
                    two_part(json.dumps(handshake, separators=(",", ":")).encode())
                    + two_part(b'{"error":null}')
                    + b"".join(item(each) for each in range(number))
                    + FINAL
                    + SENTINEL
                )
            assert caller.responses.empty()
            writer.close()

    run(scenario())


def test_a_caller_that_does_not_ask_for_it_gets_a_connection_of_its_own() -> None:
    async def scenario() -> None:
        async with serving() as instance, RawCaller(instance.transport.address) as caller:
            caller.ask({"n": 1}, subject=SUBJECT.format(1))
            assert len(await caller.messages()) == 5

    run(scenario())


def test_a_worker_told_not_to_share_does_not() -> None:
    async def scenario() -> None:
        async with (
            serving(shared_responses=False) as instance,
            RawCaller(instance.transport.address) as caller,
        ):
            caller.ask({"n": 1}, subject=SUBJECT.format(1), shared=True)
            assert len(await caller.messages()) == 5

    run(scenario())


@pytest.mark.parametrize("how", ["stop", "kill", "close", "lost"])
def test_what_the_caller_wants_reaches_that_response_alone(how: str) -> None:
    async def scenario() -> None:
        ended: asyncio.Queue[tuple[int, bool, bool]] = asyncio.Queue()

        async def wait(request: Any, context: Context) -> AsyncIterator[Any]:
            try:
                yield "first"
                await context.async_killed_or_stopped()
            finally:
                ended.put_nowait((request, context.is_stopped(), context.is_killed()))

        async with serving(wait) as instance, RawCaller(instance.transport.address) as caller:
            for number in (1, 2):
                caller.ask(number, subject=SUBJECT.format(number), shared=True)
            reader, writer = await caller.response()
            await greeting(reader)
            while not {1, 2} <= {(await read_piece(reader)).number for _ in range(2)}:
                pass
            if how == "lost":
                writer.close()
                assert {await ended.get(), await ended.get()} == {(1, True, True), (2, True, True)}
                return
            word = two_part(f'"{how}"'.encode())
            writer.write(piece(CLOSE, 2) if how == "close" else piece(DATA, 2, word))
            assert await ended.get() == (2, True, how != "stop")
            assert ended.empty()
            writer.write(piece(DATA, 1, two_part(b'"kill"')))
            assert await ended.get() == (1, True, True)
            writer.close()

    run(scenario())


def test_a_paused_response_waits_and_the_others_go_on() -> None:
    async def scenario() -> None:
        made = [0, 0, 0]

        async def endless(request: Any, context: Context) -> AsyncIterator[Any]:
            while not context.is_stopped():
                made[request] += 1
                yield "x" * 100
                await asyncio.sleep(0)

        async with serving(endless) as instance, RawCaller(instance.transport.address) as caller:
            for number in (1, 2):
                caller.ask(number, subject=SUBJECT.format(number), shared=True)
            reader, writer = await caller.response()
            await greeting(reader)

            async def read_until(done: Callable[[], bool]) -> None:
                async with asyncio.timeout(20):
                    while not done():
                        await read_piece(reader)

            await read_until(lambda: min(made[1:]) > 10)
            writer.write(piece(PAUSE, 1))
            held = -1
            while made[1] != held:
                held, so_far = made[1], made[2]
                await read_until(lambda mark=so_far + 500: made[2] > mark)  # type: ignore[misc]
            writer.write(piece(RESUME, 1))
            await read_until(lambda: made[1] > held + 100)
            writer.close()

    run(scenario())


def test_a_caller_at_the_address_of_another_gets_a_connection_of_its_own() -> None:
    async def scenario() -> None:
        async with serving() as instance, RawCaller(instance.transport.address) as caller:
            caller.ask({"n": 0}, subject=SUBJECT.format(1), shared=True)
            first, _ = await caller.response()
            assert (await greeting(first)).endswith(PREFIX)
            other = "f" + SUBJECT[1:]
            caller.ask({"n": 0}, subject=other.format(1), shared=True)
            second, _ = await caller.response()
            assert (await greeting(second)).endswith(other[:24].encode())

    run(scenario())


def test_after_the_connection_is_lost_the_next_response_brings_another() -> None:
    async def scenario() -> None:
        async with serving() as instance, RawCaller(instance.transport.address) as caller:
            caller.ask({"n": 0}, subject=SUBJECT.format(1), shared=True)
            reader, writer = await caller.response()
            await greeting(reader)
            writer.close()
            async with asyncio.timeout(10):
                while await reader.read(1 << 16):
                    pass
            caller.ask({"n": 0}, subject=SUBJECT.format(2), shared=True)
            reader, _ = await caller.response()
            assert await greeting(reader) == b"MUSTER\x00\x01" + PREFIX

    run(scenario())


# -- the caller's end, answered by hand -------------------------------------------------------


class Shared:
    """A worker's shared connection, by hand."""

    def __init__(self) -> None:
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter
        self.streams = 0

    async def begin(self, request: RawRequest) -> int:
        """Open a stream for the request; greets the first time."""
        if not self.streams:
            self.reader, self.writer = await request.connect()
            greets = b"MUSTER\x00\x01" + request.info["subject"][:24].encode()
            for byte in greets:  # it may arrive in any pieces
                self.writer.write(bytes([byte]))
                await self.writer.drain()
        self.streams += 1
        handshake = {"subject": request.info["subject"], "stream_type": "response"}
        first = two_part(json.dumps(handshake).encode()) + two_part(b'{"error": null}')
        self.writer.write(piece(OPEN, self.streams, first))
        return self.streams

    def send(self, number: int, data: bytes) -> None:
        self.writer.write(piece(DATA, number, data))


Answer = Callable[[RawRequest, RawWorker], Awaitable[None]]


def test_responses_in_pieces_between_each_other_are_put_together() -> None:
    async def scenario() -> None:
        shared = Shared()
        waiting: list[int] = []

        async def answer(request: RawRequest, worker: RawWorker) -> None:
            assert request.info["muster"] == {"shared": True}
            worker.ack()
            waiting.append(await shared.begin(request))
            if len(waiting) == 2:
                parts = {n: item(f"of {n}") + item(n) + FINAL + SENTINEL for n in waiting}
                for at in range(0, 200, 7):
                    for number, data in parts.items():
                        if data[at : at + 7]:
                            shared.send(number, data[at : at + 7])

        worker = RawWorker(answer)
        async with worker.running(), calling(worker.address) as client:
            found = await asyncio.gather(items_of(client, 1), items_of(client, 2))
            assert sorted(found) == [["of 1", 1], ["of 2", 2]]
            assert {(await read_piece(shared.reader))[:2] for _ in range(2)} == {
                (CLOSE, 1),
                (CLOSE, 2),
            }
            shared.writer.close()

    run(scenario())


def test_a_slow_reader_pauses_its_own_response() -> None:
    async def scenario() -> None:
        shared = Shared()

        async def answer(request: RawRequest, worker: RawWorker) -> None:
            worker.ack()
            shared.send(await shared.begin(request), item(0) * 2000)

        worker = RawWorker(answer)
        async with worker.running(), calling(worker.address) as client:
            stream = await client.round_robin({}, annotated=False)
            assert (await read_piece(shared.reader)) == (PAUSE, 1, b"")
            items = aiter(stream)
            assert [await anext(items) for _ in range(2000)] == [0] * 2000
            assert (await read_piece(shared.reader)) == (RESUME, 1, b"")
            shared.send(1, FINAL + SENTINEL)
            assert [item async for item in items] == []
            shared.writer.close()

    run(scenario())


def test_the_loss_of_the_connection_fails_all_its_responses() -> None:
    async def scenario() -> None:
        shared = Shared()
        begun = asyncio.Semaphore(0)

        async def answer(request: RawRequest, worker: RawWorker) -> None:
            worker.ack()
            await shared.begin(request)
            begun.release()

        worker = RawWorker(answer)
        async with worker.running(), calling(worker.address) as client:
            async with asyncio.TaskGroup() as group:
                failures = [group.create_task(failure_of(client, n)) for n in range(3)]
                for _ in range(3):
                    await begun.acquire()
                shared.writer.close()
            assert [type(task.result()) for task in failures] == [Disconnected] * 3

    run(scenario())


def test_a_response_closed_without_its_end_fails_alone() -> None:
    async def scenario() -> None:
        shared = Shared()

        async def answer(request: RawRequest, worker: RawWorker) -> None:
            worker.ack()
            number = await shared.begin(request)
            if number == 1:
                shared.writer.write(piece(CLOSE, 1))
            else:
                shared.send(number, item("well") + FINAL + SENTINEL)

        worker = RawWorker(answer)
        async with worker.running(), calling(worker.address) as client:
            assert isinstance(await failure_of(client, 1), Disconnected)
            assert await items_of(client, 2) == ["well"]
            shared.writer.close()

    run(scenario())


def test_bad_framing_within_a_response_costs_that_response_alone() -> None:
    async def scenario() -> None:
        shared = Shared()

        async def answer(request: RawRequest, worker: RawWorker) -> None:
            worker.ack()
            number = await shared.begin(request)
            good = item("well") + FINAL + SENTINEL
            shared.send(number, b"\xff" * 24 if number == 1 else good)

        worker = RawWorker(answer)
        async with worker.running(), calling(worker.address) as client:
            assert isinstance(await failure_of(client, 1), ProtocolError)
            assert await items_of(client, 2) == ["well"]
            shared.writer.close()

    run(scenario())


@pytest.mark.parametrize(
    "sent",
    [
        b"MUSTER\x00\x01" + b"0" * 24,
        b"MUSTER\x00\x02" + b"0" * 24,
        b"M" * 32,
    ],
    ids=["another caller", "another version", "something else"],
)
def test_a_greeting_for_somebody_else_is_refused(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async def answer(request: RawRequest, worker: RawWorker) -> None:
            worker.ack()
            reader, writer = await request.connect()
            writer.write(sent)
            async with asyncio.timeout(10):
                assert await reader.read() == b""

        worker = RawWorker(answer)
        async with (
            worker.running(),
            calling(worker.address, call_home_timeout_s=0.5) as client,
        ):
            assert isinstance(await failure_of(client, {}), ConnectionTimeout)

    run(scenario())
    assert "shared connection for responses was refused" in caplog.text


def test_a_stream_without_a_handshake_is_closed() -> None:
    async def scenario() -> None:
        shared = Shared()

        async def answer(request: RawRequest, worker: RawWorker) -> None:
            worker.ack()
            await shared.begin(request)
            shared.writer.write(piece(OPEN, 7, b"no"))
            assert await read_piece(shared.reader) == (CLOSE, 7, b"")
            shared.send(1, FINAL + SENTINEL)

        worker = RawWorker(answer)
        async with worker.running(), calling(worker.address) as client:
            assert await items_of(client, {}) == []
            shared.writer.close()

    run(scenario())


def test_broken_chunks_cost_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        shared = Shared()

        async def answer(request: RawRequest, worker: RawWorker) -> None:
            worker.ack()
            await shared.begin(request)
            shared.writer.write(piece(9, 1))

        worker = RawWorker(answer)
        async with worker.running(), calling(worker.address) as client:
            assert isinstance(await failure_of(client, {}), Disconnected)
            shared.writer.close()

    run(scenario())
    assert "closed a shared connection" in caplog.text


def test_a_caller_told_not_to_share_does_not_ask_for_it() -> None:
    async def scenario() -> None:
        async def answer(request: RawRequest, worker: RawWorker) -> None:
            assert "muster" not in request.info
            worker.ack()
            _, writer = await request.start()
            writer.write(FINAL + SENTINEL)

        worker = RawWorker(answer)
        async with worker.running(), calling(worker.address, shared_responses=False) as client:
            assert await items_of(client, {}) == []

    run(scenario())


# -- both ends --------------------------------------------------------------------------------


def test_an_item_of_many_megabytes_arrives_whole_beside_small_ones() -> None:
    big = "x" * 5_000_000

    async def handler(request: Any, context: Context) -> AsyncIterator[Any]:
        for number in range(20):
            yield big if request == "big" else number

    async def scenario() -> None:
        async with (
            serving(handler) as instance,
            calling(instance.transport.address) as client,
        ):
            found = await asyncio.gather(
                items_of(client, "big"), *(items_of(client, n) for n in range(20))
            )
            assert found[0] == [big] * 20
            assert found[1:] == [[*range(20)]] * 20

    run(scenario())
