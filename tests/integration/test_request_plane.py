"""The request plane over real sockets, Muster on one or both ends.

The conformance checklist of the wire format, row by row, with the other end written by hand.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from muster.discovery.memory import MemoryRegistry
from muster.discovery.records import INSTANCES, Instance
from muster.errors import (
    CannotConnect,
    ConnectionTimeout,
    Disconnected,
    InvalidArgument,
    MusterError,
    Overloaded,
    ProtocolError,
    ResponseTimeout,
    StreamIncomplete,
    WorkerUnavailable,
)
from muster.runtime import Client, Context, DistributedRuntime
from muster.testing.loops import run
from muster.testing.raw_plane import (
    FINAL,
    SENTINEL,
    RawCaller,
    RawRequest,
    RawWorker,
    item,
    read_message,
    two_part,
)
from muster.testing.runtimes import loopback_settings, runtime_in

ENDPOINT = "ns.comp.ep"


async def count_to(request: Any, context: Context) -> AsyncIterator[Any]:
    for number in range(request["n"]):
        yield {"number": number}


@contextlib.asynccontextmanager
async def serving(
    handler: Any = count_to, **settings: Any
) -> AsyncIterator[tuple[Instance, DistributedRuntime]]:
    """A Muster worker; gives its instance record."""
    registry = MemoryRegistry()
    async with (
        runtime_in(registry, loopback_settings(**settings)) as runtime,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(runtime.endpoint(ENDPOINT).serve_endpoint(handler))
        client = await runtime.endpoint(ENDPOINT).client()
        await client.wait_for_instances(timeout=10)
        yield client.instances()[0], runtime
        await runtime.close()


@contextlib.asynccontextmanager
async def calling(worker: RawWorker, **settings: Any) -> AsyncIterator[Client]:
    """A Muster client of a worker written by hand."""
    async with (
        worker.running(),
        runtime_in(MemoryRegistry(), loopback_settings(**settings)) as runtime,
    ):
        record = {
            "type": "Endpoint",
            "component": "comp",
            "endpoint": "ep",
            "namespace": "ns",
            "instance_id": 31,
            "transport": {"tcp": worker.address},
            "request_plane_codec": "msgpack",
            "future_field": True,
        }
        await runtime.discovery.register(INSTANCES, "ns/comp/ep/1f", msgspec.json.encode(record))
        client = await runtime.endpoint(ENDPOINT).client()
        await client.wait_for_instances(timeout=10)
        yield client


async def known(client: Client, count: int) -> None:
    while len(client.instance_ids()) < count:  # noqa: ASYNC110 - a client tells nobody else
        await asyncio.sleep(0.01)


async def items_of(client: Client, request: Any) -> list[Any]:
    return [item async for item in await client.round_robin(request, annotated=False)]


async def failure_of(client: Client, request: Any) -> MusterError:
    with pytest.raises(MusterError) as caught:
        await items_of(client, request)
    return caught.value


# -- the worker's end, called by hand ---------------------------------------------------------


@pytest.mark.parametrize("codec", ["msgpack", "json"])
def test_a_response_is_handshake_prologue_items_final_sentinel(codec: str) -> None:
    async def scenario() -> None:
        async with serving() as (instance, _), RawCaller(instance.transport.address) as caller:
            caller.ask({"n": 2}, subject="s-1", codec=codec)
            assert await caller.ack() == b""
            decode = msgspec.msgpack.decode if codec == "msgpack" else msgspec.json.decode
            handshake, prologue, first, second, final, sentinel = await caller.messages()
            assert msgspec.json.decode(handshake.header) == {
                "subject": "s-1",
                "stream_type": "response",
            }
            assert prologue == (b'{"error":null}', b"")
            assert decode(first.body) == {"data": {"data": {"number": 0}}, "complete_final": False}
            assert decode(second.body)["data"]["data"] == {"number": 1}
            assert decode(final.body) == {"complete_final": True}
            assert sentinel == (b'"sentinel"', b"")

    run(scenario())


def test_acknowledgements_come_in_the_order_of_requests() -> None:
    async def scenario() -> None:
        async with serving() as (instance, _), RawCaller(instance.transport.address) as caller:
            caller.ask({"n": 1})
            caller.send(b"", path="1f/no/such/ep")
            caller.ask({"n": 1})
            caller.send(b"garbage")
            first, second, third, fourth = [await caller.ack() for _ in range(4)]
            assert (first, third) == (b"", b"")
            assert second == b"Server unavailable: unknown endpoint 1f/no/such/ep"
            assert fourth is not None
            assert fourth.startswith(b"Server unavailable: malformed request: ")

    run(scenario())


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00" * 24,
        two_part(b"not json", b"\x80"),
        two_part(b'{"id":"x"}', b"\x80"),
        two_part(b'{"id":"x"}', b"\x80") + b"more",
    ],
    ids=["empty", "no header", "not json", "incomplete control", "wrong length"],
)
def test_a_malformed_request_is_never_accepted_in_silence(payload: bytes) -> None:
    async def scenario() -> None:
        async with serving() as (instance, _), RawCaller(instance.transport.address) as caller:
            caller.send(payload)
            ack = await caller.ack()
            assert ack is not None
            assert ack.startswith(b"Server unavailable: malformed request: ")
            caller.ask({"n": 1})  # the connection is still good
            assert await caller.ack() == b""

    run(scenario())


def test_a_body_that_cannot_be_decoded_gets_an_error_prologue() -> None:
    async def scenario() -> None:
        async with serving() as (instance, _), RawCaller(instance.transport.address) as caller:
            caller.send(two_part(caller.control("s"), b"\xc1 is no msgpack"))
            assert await caller.ack() == b""
            _, prologue = await caller.messages()
            error = msgspec.json.decode(prologue.header)
            assert "not msgpack" in error["error"]
            assert error["typed_error"]["error_type"] == {"Backend": "InvalidArgument"}

    run(scenario())


def test_a_body_nested_too_deeply_gets_an_error_prologue() -> None:
    async def scenario() -> None:
        async with serving() as (instance, _), RawCaller(instance.transport.address) as caller:
            caller.send(two_part(caller.control("s"), b"\x91" * 100_000 + b"\xc0"))
            assert await caller.ack() == b""
            _, prologue = await caller.messages()
            assert "not msgpack" in msgspec.json.decode(prologue.header)["error"]

    run(scenario())


def test_a_frame_over_the_limit_gets_a_read_error_and_the_connection_closes() -> None:
    async def scenario() -> None:
        async with (
            serving(max_message_bytes=4096) as (instance, _),
            RawCaller(instance.transport.address) as caller,
        ):
            caller.send(b"x" * 5000)
            ack = await caller.ack()
            assert ack is not None
            assert ack.startswith(b"Read error: message too large: 5")
            assert ack.endswith(b" bytes (max: 4096 bytes)")
            assert await caller.ack() is None

    run(scenario())


def test_beyond_the_request_limit_the_exact_refusal_is_sent() -> None:
    async def forever(request: Any, context: Context) -> AsyncIterator[Any]:
        yield 1
        await context.async_killed_or_stopped()

    async def scenario() -> None:
        async with (
            serving(forever, request_limit=1, queue_limit=0) as (instance, _),
            RawCaller(instance.transport.address) as caller,
        ):
            caller.ask({})
            assert await caller.ack() == b""
            caller.ask({})
            assert await caller.ack() == b"Server overloaded: worker at capacity"

    run(scenario())


@pytest.mark.parametrize("word", [b'"stop"', b'"kill"'])
def test_stop_and_kill_reach_the_handler(word: bytes) -> None:
    async def scenario() -> None:
        ended: asyncio.Queue[tuple[bool, bool]] = asyncio.Queue()

        async def wait(request: Any, context: Context) -> AsyncIterator[Any]:
            try:
                yield "first"
                await context.async_killed_or_stopped()
            finally:
                ended.put_nowait((context.is_stopped(), context.is_killed()))

        async with serving(wait) as (instance, _), RawCaller(instance.transport.address) as caller:
            caller.ask({})
            reader, writer = await caller.response()
            for _ in range(3):
                await read_message(reader)
            writer.write(two_part(word))
            assert await ended.get() == (True, word == b'"kill"')
            rest = []
            while (message := await read_message(reader)) is not None and message.header == b"":
                rest.append(message)
            # A stopped handler ends in order; a killed one leaves the stream unfinished.
            assert bool(rest) == (word == b'"stop"')
            writer.close()

    run(scenario())


def test_a_caller_that_goes_away_cancels_the_handler() -> None:
    async def scenario() -> None:
        ended = asyncio.Event()

        async def wait(request: Any) -> AsyncIterator[Any]:
            try:
                yield "first"
                await asyncio.sleep(3600)
            finally:
                ended.set()

        async with serving(wait) as (instance, _), RawCaller(instance.transport.address) as caller:
            caller.ask({})
            reader, writer = await caller.response()
            await read_message(reader)
            writer.close()
            await ended.wait()

    run(scenario())


def test_a_handlers_exception_is_an_error_item_then_a_good_end() -> None:
    async def fail(request: Any) -> AsyncIterator[Any]:
        yield 1
        raise ValueError("boom")

    async def scenario() -> None:
        async with serving(fail) as (instance, _), RawCaller(instance.transport.address) as caller:
            caller.ask({})
            messages = [msgspec.msgpack.decode(m.body) for m in await caller.messages() if m.body]
            assert messages[1] == {
                "data": {
                    "event": "error",
                    "error": {
                        "error_type": {"Backend": "InvalidArgument"},
                        "class": "InvalidRequest",
                        "reason": "backend.invalid_argument",
                        "message": "ValueError: boom",
                        "diagnostic": "ValueError: boom",
                    },
                },
                "complete_final": False,
            }
            assert messages[2] == {"complete_final": True}

    run(scenario())


def test_an_item_without_an_encoding_is_an_error_item() -> None:
    async def fail(request: Any) -> AsyncIterator[Any]:
        yield object()

    async def scenario() -> None:
        async with serving(fail) as (instance, _), RawCaller(instance.transport.address) as caller:
            caller.ask({})
            bodies = [msgspec.msgpack.decode(m.body) for m in await caller.messages() if m.body]
            assert "object" in bodies[0]["data"]["error"]["message"]

    run(scenario())


def test_only_a_codec_we_speak_is_advertised() -> None:
    async def scenario() -> None:
        async with serving(codec="json") as (instance, _):
            assert instance.request_plane_codec == "json"

    run(scenario())


# -- the caller's end, answered by hand --------------------------------------------------------


def test_the_request_is_what_the_peer_sends() -> None:
    async def answer(request: RawRequest, worker: RawWorker) -> None:
        worker.ack()
        _, writer = await request.start()
        writer.write(FINAL + SENTINEL)

    async def scenario() -> None:
        worker = RawWorker(answer)
        async with calling(worker) as client:
            context = Context("my-req-id", {"mk": "mv"})
            assert [i async for i in await client.round_robin({"n": 1}, context=context)] == []
        (request,) = worker.requests
        assert request.path == "1f/ns/comp/ep"
        assert request.headers["x-endpoint-path"] == request.path
        assert request.headers["request-id"] == "my-req-id"
        assert request.headers["x-frontend-send-ts-ns"].isdigit()
        assert request.control["metadata"] == {"mk": "mv"}
        assert request.control["id"] == request.info["context"] == "my-req-id"
        assert msgspec.msgpack.decode(request.body) == {"n": 1}

    run(scenario())


def test_the_response_may_come_before_the_acknowledgement() -> None:
    async def answer(request: RawRequest, worker: RawWorker) -> None:
        _, writer = await request.start()
        writer.write(item(1) + item(2) + FINAL + SENTINEL)
        await writer.drain()
        await asyncio.sleep(0.05)
        worker.ack()

    async def scenario() -> None:
        async with calling(RawWorker(answer)) as client:
            assert await items_of(client, {}) == [1, 2]
            assert await items_of(client, {}) == [1, 2]  # the late acknowledgement hurt nobody

    run(scenario())


@pytest.mark.parametrize(
    ("ack", "kind"),
    [
        (b"Server unavailable: unknown endpoint x", WorkerUnavailable),
        (b"Server overloaded: worker at capacity", Overloaded),
        (b"Read error: message too large", ProtocolError),
        (b"anything else", ProtocolError),
    ],
)
def test_a_refusing_acknowledgement_fails_at_once(ack: bytes, kind: type[MusterError]) -> None:
    async def answer(request: RawRequest, worker: RawWorker) -> None:
        worker.ack(ack)

    async def scenario() -> None:
        async with calling(RawWorker(answer)) as client:
            error = await failure_of(client, {})
            assert type(error) is kind
            assert ack.decode() in error.message

    run(scenario())


async def never(request: RawRequest, worker: RawWorker) -> None:
    """Say nothing."""


async def accept_only(request: RawRequest, worker: RawWorker) -> None:
    worker.ack()


async def connect_only(request: RawRequest, worker: RawWorker) -> None:
    worker.ack()
    _, writer = await request.connect()
    writer.write(two_part(msgspec.json.encode({"subject": request.info["subject"]})))


async def start_only(request: RawRequest, worker: RawWorker) -> None:
    worker.ack()
    _, writer = await request.start()
    writer.write(item(1))


@pytest.mark.parametrize(
    ("answer", "setting", "kind", "words"),
    [
        (never, "ack_timeout_s", ConnectionTimeout, "no acknowledgement"),
        (accept_only, "call_home_timeout_s", ConnectionTimeout, "did not connect back"),
        (connect_only, "prologue_timeout_s", ResponseTimeout, "did not start the response"),
        (start_only, "idle_timeout_s", ResponseTimeout, "nothing came"),
    ],
    ids=["ack", "call-home", "prologue", "idle"],
)
def test_every_wait_of_a_response_has_a_deadline(
    answer: Any, setting: str, kind: type[MusterError], words: str
) -> None:
    async def scenario() -> None:
        async with calling(RawWorker(answer), **{setting: 0.3}) as client:
            error = await failure_of(client, {})
            assert type(error) is kind
            assert words in error.message

    run(scenario())


def test_waiting_for_instances_has_a_deadline_and_says_who_was_seen() -> None:
    async def scenario() -> None:
        async with runtime_in(MemoryRegistry()) as runtime:
            client = await runtime.endpoint(ENDPOINT).client()
            with pytest.raises(WorkerUnavailable, match=r"no instances found.*ns/comp/ep"):
                await client.wait_for_instances(timeout=0.05)

    run(scenario())


def test_the_end_without_a_final_frame_is_an_error_after_the_items() -> None:
    async def answer(request: RawRequest, worker: RawWorker) -> None:
        worker.ack()
        _, writer = await request.start()
        writer.write(item(1) + item(2))
        writer.close()

    async def scenario() -> None:
        async with calling(RawWorker(answer)) as client:
            seen = []
            reading = aiter(await client.round_robin({}, annotated=False))
            seen += [await anext(reading), await anext(reading)]
            with pytest.raises(Disconnected, match="Stream ended before generation completed"):
                await anext(reading)
            assert seen == [1, 2]

    run(scenario())


def test_a_sentinel_without_a_final_frame_is_an_error() -> None:
    async def answer(request: RawRequest, worker: RawWorker) -> None:
        worker.ack()
        _, writer = await request.start()
        writer.write(item(1) + SENTINEL)

    async def scenario() -> None:
        async with calling(RawWorker(answer)) as client:
            assert type(await failure_of(client, {})) is StreamIncomplete

    run(scenario())


@pytest.mark.parametrize(
    "answer_bytes",
    [
        b"\xff" * 64,
        two_part(b"", b"\xc1"),
        two_part(b"", b"\x93\x01\x02\x03"),
        two_part(b"", b"\x81\xa4data\x81\xa4data" + b"\x91" * 100_000 + b"\xc0"),
    ],
    ids=["framing", "not msgpack", "no item", "too deep"],
)
def test_bytes_that_are_not_the_protocol_are_an_error(answer_bytes: bytes) -> None:
    async def answer(request: RawRequest, worker: RawWorker) -> None:
        worker.ack()
        _, writer = await request.start()
        writer.write(answer_bytes)

    async def scenario() -> None:
        async with calling(RawWorker(answer)) as client:
            assert type(await failure_of(client, {})) is ProtocolError

    run(scenario())


def test_a_prologue_of_text_alone_is_an_unavailable_worker() -> None:
    async def answer(request: RawRequest, worker: RawWorker) -> None:
        worker.ack()
        _, writer = await request.connect()
        writer.write(two_part(msgspec.json.encode({"subject": request.info["subject"]})))
        writer.write(two_part(b'{"error":"engine is not loaded"}'))

    async def scenario() -> None:
        async with calling(RawWorker(answer)) as client:
            error = await failure_of(client, {})
            assert type(error) is WorkerUnavailable
            assert error.message == "engine is not loaded"

    run(scenario())


def test_a_connection_for_an_unknown_subject_is_closed() -> None:
    async def answer(request: RawRequest, worker: RawWorker) -> None:
        reader, writer = await request.connect()
        writer.write(two_part(b'{"subject":"nobody","stream_type":"response"}'))
        assert await read_message(reader) is None
        worker.ack()
        _, writer = await request.start()
        writer.write(item("after") + FINAL + SENTINEL)

    async def scenario() -> None:
        async with calling(RawWorker(answer)) as client:
            assert await items_of(client, {}) == ["after"]

    run(scenario())


def test_a_response_whose_worker_has_connected_back_outlives_the_request_connection() -> None:
    async def answer(request: RawRequest, worker: RawWorker) -> None:
        _, writer = await request.start()
        writer.write(item(1))
        await writer.drain()
        worker.drop()  # and with it the acknowledgement
        await asyncio.sleep(0.05)
        writer.write(item(2) + FINAL + SENTINEL)

    async def scenario() -> None:
        async with calling(RawWorker(answer)) as client:
            assert await items_of(client, {}) == [1, 2]

    run(scenario())


def test_stopping_sends_stop_and_killing_sends_kill() -> None:
    async def scenario() -> None:
        said: asyncio.Queue[bytes] = asyncio.Queue()

        async def answer(request: RawRequest, worker: RawWorker) -> None:
            worker.ack()
            reader, writer = await request.start()
            writer.write(item(1))
            while (message := await read_message(reader)) is not None:
                said.put_nowait(message.header)
                if message.header == b'"stop"':
                    writer.close()  # as a Dynamo worker: no final frame after a stop

        async with calling(RawWorker(answer)) as client:
            context = Context()
            async for _ in await client.round_robin({}, context=context):
                context.stop_generating()
            assert await said.get() == b'"stop"'
            context = Context()
            async for _ in await client.round_robin({}, context=context):
                context.kill()
            assert await said.get() == b'"kill"'
            async for _ in await client.round_robin({}):
                break  # leaving early drops the request too
            assert await said.get() == b'"kill"'

    run(scenario())


def test_a_request_too_large_for_a_frame_is_refused_before_it_is_sent() -> None:
    async def scenario() -> None:
        worker = RawWorker(never)
        async with calling(worker, max_message_bytes=4096) as client:
            with pytest.raises(InvalidArgument, match="more than the 4096"):
                await client.round_robin({"prompt": "x" * 5000})
        assert worker.requests == []

    run(scenario())


# -- what cannot be called ---------------------------------------------------------------------


def test_an_instance_that_refuses_connections_is_avoided_and_another_one_serves() -> None:
    async def scenario() -> None:
        async with serving() as (_, runtime):
            dead = {
                "type": "Endpoint",
                "component": "comp",
                "endpoint": "ep",
                "namespace": "ns",
                "instance_id": 1,
                "transport": {"tcp": "127.0.0.1:1/1/ns/comp/ep"},
            }
            await runtime.discovery.register(INSTANCES, "ns/comp/ep/1", msgspec.json.encode(dead))
            client = await runtime.endpoint(ENDPOINT).client()
            await known(client, 2)
            for _ in range(6):
                assert len(await items_of(client, {"n": 3})) == 3
            assert "after a failure" in client.exclusions()[1]
            with pytest.raises(CannotConnect):
                await client.direct({"n": 1}, 1)

    run(scenario())


def test_a_transport_we_do_not_speak_is_skipped_with_a_reason() -> None:
    async def scenario() -> None:
        async with runtime_in(MemoryRegistry()) as runtime:
            record = {
                "type": "Endpoint",
                "component": "comp",
                "endpoint": "ep",
                "namespace": "ns",
                "instance_id": 7,
                "transport": {"nats_tcp": "ns_comp.ep-7"},
            }
            await runtime.discovery.register(INSTANCES, "ns/comp/ep/7", msgspec.json.encode(record))
            client = await runtime.endpoint(ENDPOINT).client()
            with pytest.raises(WorkerUnavailable, match="'nats_tcp' is not spoken here"):
                await client.round_robin({})
            assert client.instance_ids() == [7]

    run(scenario())
