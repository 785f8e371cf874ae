"""A client and workers written by hand: who is asked, who is left out, what moves and what stays."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import msgspec
import pytest

from muster.discovery.memory import MemoryDiscovery, MemoryRegistry
from muster.discovery.records import INSTANCES, Instance, Transport
from muster.errors import (
    CannotConnect,
    ConnectionTimeout,
    Disconnected,
    EngineShutdown,
    InvalidArgument,
    MusterError,
    Overloaded,
    StreamIncomplete,
    WorkerUnavailable,
)
from muster.runtime import Client, Context, DistributedRuntime, RouterMode
from muster.testing.raw_plane import (
    FINAL,
    SENTINEL,
    RawRequest,
    RawWorker,
    item,
    read_message,
    two_part,
)
from muster.testing.runtimes import loopback_settings, runtime_in
from muster.wire.items import FrameDecoder

ENDPOINT = "ns.comp.ep"
NOWHERE = "127.0.0.1:1/x/ns/comp/ep"
PLAIN: FrameDecoder[Any] = FrameDecoder(Any)

Answer = Callable[[RawRequest, RawWorker], Awaitable[None]]


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await scenario

    asyncio.run(limited())


# -- what workers do ---------------------------------------------------------------------------


def answer(value: Any) -> Answer:
    """One item, and a good end."""

    async def run_it(request: RawRequest, worker: RawWorker) -> None:
        worker.ack()
        _, writer = await request.start()
        writer.write(item(value) + FINAL + SENTINEL)

    return run_it


def failing(failure: dict[str, Any]) -> Answer:
    """A handler that raises this at once."""

    async def run_it(request: RawRequest, worker: RawWorker) -> None:
        worker.ack()
        _, writer = await request.start()
        frame = {"data": {"event": "error", "error": failure}, "complete_final": False}
        writer.write(two_part(b"", msgspec.msgpack.encode(frame)) + FINAL + SENTINEL)

    return run_it


def refusing(text: bytes) -> Answer:
    async def run_it(request: RawRequest, worker: RawWorker) -> None:
        worker.ack(text)

    return run_it


full = refusing(b"Server overloaded: worker at capacity")


async def drop_connection(request: RawRequest, worker: RawWorker) -> None:
    worker.drop()


async def break_off_at_once(request: RawRequest, worker: RawWorker) -> None:
    """Runs the request, then the connection is gone before the first item."""
    worker.ack()
    _, writer = await request.start()
    writer.close()


async def break_off_later(request: RawRequest, worker: RawWorker) -> None:
    worker.ack()
    _, writer = await request.start()
    writer.write(item("half"))
    await writer.drain()
    writer.close()


async def end_without_final_frame(request: RawRequest, worker: RawWorker) -> None:
    worker.ack()
    _, writer = await request.start()
    writer.write(SENTINEL)


async def never(request: RawRequest, worker: RawWorker) -> None:
    pass


class Held:
    """Answers a request item by item, when told to."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __call__(self, request: RawRequest, worker: RawWorker) -> None:
        worker.ack()
        self.reader, self.writer = await request.start()
        self.begun.set()

    def say(self, value: Any) -> None:
        self.writer.write(item(value))

    def finish(self) -> None:
        self.writer.write(FINAL + SENTINEL)

    async def told(self) -> bytes | None:
        """What the caller says on the response's connection; ``None`` at its end."""
        message = await read_message(self.reader)
        return message.header if message else None


# -- the fleet ---------------------------------------------------------------------------------


class Fleet:
    """Workers by number, on a registry, and a process that calls them."""

    def __init__(self, stack: contextlib.AsyncExitStack, runtime: DistributedRuntime) -> None:
        self._stack = stack
        self.runtime = runtime
        self.client: Client
        self.workers: dict[int, RawWorker] = {}
        self._registry: MemoryDiscovery

    async def join(self, number: int, does: Answer) -> RawWorker:
        """A worker starts and is in the registry, known to the client."""
        worker = await self._stack.enter_async_context(RawWorker(does).running())
        self.workers[number] = worker
        await self.put(number, worker.address)
        return worker

    async def put(self, number: int, address: str) -> None:
        """An instance's record is there, known to the client."""
        instance = Instance(
            namespace="ns",
            component="comp",
            endpoint="ep",
            instance_id=number,
            transport=Transport("tcp", address),
            request_plane_codec="msgpack",
        )
        await self.runtime.discovery.register(INSTANCES, instance.key, instance.to_json())
        await until(lambda: instance in self.client.instances())

    async def leave(self, number: int) -> None:
        """The worker's record is gone, and the client knows; the worker goes on."""
        await self.runtime.discovery.deregister(INSTANCES, f"ns/comp/ep/{number:x}")
        await until(lambda: number not in self.client.instance_ids())

    def asked(self) -> dict[int, int]:
        """How many requests each worker got."""
        return {number: len(worker.requests) for number, worker in self.workers.items()}


@contextlib.asynccontextmanager
async def fleet(*does: Answer, **settings: Any) -> AsyncIterator[Fleet]:
    """Workers 1, 2, ... that do this."""
    async with contextlib.AsyncExitStack() as stack:
        runtime = runtime_in(MemoryRegistry(), loopback_settings(**settings))
        found = Fleet(stack, await stack.enter_async_context(runtime))
        found.client = await runtime.endpoint(ENDPOINT).client()
        for number, each in enumerate(does, 1):
            await found.join(number, each)
        yield found


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
        await asyncio.sleep(0.005)


async def items_of(client: Client, request: Any = None) -> list[Any]:
    return [each async for each in await client.round_robin(request, annotated=False)]


async def failure_of(client: Client) -> MusterError:
    with pytest.raises(MusterError) as caught:
        await items_of(client)
    return caught.value


# -- before the first item ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "does",
    [
        drop_connection,
        break_off_at_once,
        end_without_final_frame,
        full,
        refusing(b"Server unavailable: unknown endpoint x"),
    ],
)
def test_a_request_nothing_came_of_goes_to_another_instance(does: Answer) -> None:
    async def scenario() -> None:
        async with fleet(does, answer("second")) as site:
            assert await items_of(site.client) == ["second"]
            assert site.asked() == {1: 1, 2: 1}
            assert set(site.client.exclusions()) == {1}
            assert await items_of(site.client) == ["second"]
            assert site.asked() == {1: 1, 2: 2}

    run(scenario())


def test_an_instance_that_does_not_acknowledge_is_avoided_and_another_one_serves() -> None:
    async def scenario() -> None:
        async with fleet(never, answer("second"), ack_timeout_s=0.2) as site:
            assert await items_of(site.client) == ["second"]
            assert "no acknowledgement" in site.client.exclusions()[1]

    run(scenario())


@pytest.mark.parametrize(
    ("name", "class_", "kind"),
    [
        ("Disconnected", "Unavailable", Disconnected),
        ("ConnectionTimeout", "DeadlineExceeded", ConnectionTimeout),
        ("InvalidArgument", "InvalidRequest", InvalidArgument),
    ],
)
def test_what_a_handler_raised_is_not_tried_elsewhere_nor_held_against_it(
    name: str, class_: str, kind: type[MusterError]
) -> None:
    failure = {
        "error_type": {"Backend": name},
        "class": class_,
        "message": "its database is away",
        "diagnostic": "its database is away",
    }

    async def scenario() -> None:
        async with fleet(failing(failure), answer("second")) as site:
            error = await failure_of(site.client)
            assert type(error) is kind
            assert "its database is away" in error.message
            assert site.asked() == {1: 1, 2: 0}
            assert site.client.exclusions() == {}

    run(scenario())


def test_an_engine_that_goes_away_is_avoided_but_what_it_raised_stands() -> None:
    failure = {
        "error_type": {"Backend": "EngineShutdown"},
        "class": "Unavailable",
        "reason": "backend.engine_shutdown",
        "message": "going away",
        "diagnostic": "going away",
    }

    async def scenario() -> None:
        async with fleet(failing(failure), answer("second")) as site:
            stream = await site.client.round_robin(None)
            with pytest.raises(EngineShutdown, match="going away"):
                await anext(aiter(stream))
            assert site.asked() == {1: 1, 2: 0}
            assert "going away" in site.client.exclusions()[1]

    run(scenario())


def test_every_instance_is_asked_once_and_the_error_names_each_and_why() -> None:
    async def scenario() -> None:
        async with fleet(drop_connection, break_off_at_once, end_without_final_frame) as site:
            await site.put(0xFF, NOWHERE)
            error = await failure_of(site.client)
            assert site.asked() == {1: 1, 2: 1, 3: 1}
            assert isinstance(error, CannotConnect | Disconnected | StreamIncomplete)
            assert "none of 4 instances of endpoint ns/comp/ep" in error.message
            for part in ("1: ", "2: ", "3: ", "ff: cannot connect"):
                assert part in error.message

    run(scenario())


def test_a_single_failure_is_raised_as_it_is_and_by_every_later_read() -> None:
    async def scenario() -> None:
        async with fleet(break_off_at_once) as site:
            response = await site.client.open(None, PLAIN, context=Context())
            for _ in range(2):
                with pytest.raises(Disconnected, match="Stream ended before generation completed"):
                    await response.batch()
            assert site.asked() == {1: 1}

    run(scenario())


def test_after_the_time_for_it_nobody_else_is_asked() -> None:
    async def scenario() -> None:
        async with fleet(break_off_at_once, answer("second"), retry_timeout_s=0) as site:
            assert isinstance(await failure_of(site.client), Disconnected)
            assert site.asked() == {1: 1, 2: 0}

    run(scenario())


# -- after it ----------------------------------------------------------------------------------


def test_what_breaks_off_after_an_item_is_not_tried_again_but_speaks_against_it() -> None:
    async def scenario() -> None:
        async with fleet(break_off_later, answer("second")) as site:
            reading = aiter(await site.client.round_robin(None, annotated=False))
            assert await anext(reading) == "half"
            with pytest.raises(Disconnected):
                await anext(reading)
            assert site.asked() == {1: 1, 2: 0}
            assert "Stream ended" in site.client.exclusions()[1]

    run(scenario())


# -- an instance that left the registry --------------------------------------------------------


def test_what_has_not_begun_at_one_that_left_goes_elsewhere_at_once() -> None:
    async def scenario() -> None:
        held = Held()
        async with fleet(held) as site, asyncio.TaskGroup() as group:
            reading = group.create_task(items_of(site.client))
            await held.begun.wait()
            await site.join(2, answer("second"))
            await site.leave(1)
            assert await reading == ["second"]
            assert await held.told() is None

    run(scenario())


def test_what_has_begun_at_one_that_left_is_left_to_end() -> None:
    async def scenario() -> None:
        held = Held()
        async with fleet(held) as site:
            await site.join(2, answer("second"))
            reading = aiter(await site.client.round_robin(None, annotated=False))
            await held.begun.wait()
            held.say("one")
            assert await anext(reading) == "one"
            await site.leave(1)
            held.say("two")
            held.finish()
            assert [each async for each in reading] == ["two"]
            assert site.asked() == {1: 1, 2: 0}
            assert site.client.in_flight() == {2: 0}

    run(scenario())


def test_items_nobody_has_read_yet_keep_a_response_where_it_is() -> None:
    async def scenario() -> None:
        held = Held()
        async with fleet(held) as site:
            await site.join(2, answer("second"))
            response = await site.client.open(None, PLAIN, context=Context())
            held.say("one")
            stream = response._stream
            await until(lambda: stream is not None and stream.unread)
            await site.leave(1)
            held.finish()
            assert [each.data() async for each in response] == ["one"]

    run(scenario())


def test_with_nowhere_to_go_a_request_waits_where_it_is_until_somebody_appears() -> None:
    async def scenario() -> None:
        first, second = Held(), Held()
        async with fleet(first) as site, asyncio.TaskGroup() as group:
            stays = group.create_task(items_of(site.client))
            await first.begun.wait()
            await site.leave(1)
            first.say("one")
            first.finish()
            assert await stays == ["one"]

            await site.join(2, second)
            moves = group.create_task(items_of(site.client))
            await second.begun.wait()
            await site.leave(2)
            await site.join(3, answer("third"))
            assert await moves == ["third"]

    run(scenario())


def test_a_request_that_named_its_instance_never_moves() -> None:
    async def scenario() -> None:
        held = Held()
        async with fleet(held) as site, asyncio.TaskGroup() as group:
            await site.join(2, answer("second"))

            async def direct() -> list[Any]:
                return [each async for each in await site.client.direct(None, 1, annotated=False)]

            reading = group.create_task(direct())
            await held.begun.wait()
            await site.leave(1)
            held.say("one")
            held.finish()
            assert await reading == ["one"]
            await site.put(1, NOWHERE)
            with pytest.raises(CannotConnect, match="cannot connect"):
                await site.client.direct(None, 1)
            assert site.asked() == {1: 1, 2: 0}

    run(scenario())


def test_a_new_address_under_the_same_key_is_used_and_what_runs_at_the_old_one_is_left() -> None:
    async def scenario() -> None:
        held = Held()
        async with fleet(held) as site, asyncio.TaskGroup() as group:
            old = group.create_task(items_of(site.client))
            await held.begun.wait()
            await site.join(1, answer("new address"))
            assert await items_of(site.client) == ["new address"]
            held.say("old address")
            held.finish()
            assert await old == ["old address"]
            assert site.client.in_flight() == {1: 0}

    run(scenario())


# -- when nobody is free -----------------------------------------------------------------------


def test_a_fleet_of_one_that_broke_a_response_is_asked_again_at_once() -> None:
    async def scenario() -> None:
        async with fleet(break_off_later) as site:
            assert isinstance(await failure_of(site.client), Disconnected)
            assert "after a failure" in site.client.exclusions()[1]
            await failure_of(site.client)
            assert site.asked() == {1: 2}

    run(scenario())


def test_the_last_resort_that_answers_is_not_avoided_any_more() -> None:
    async def scenario() -> None:
        held = Held()
        async with fleet(held) as site, asyncio.TaskGroup() as group:
            for breaks in (True, False):
                held.begun.clear()
                reading = group.create_task(collected(site.client))
                await held.begun.wait()
                held.say("one")
                await held.writer.drain()
                if breaks:
                    held.writer.close()
                else:
                    held.finish()
                assert await reading == ["one"]
                assert bool(site.client.exclusions()) == breaks

    async def collected(client: Client) -> list[Any]:
        got = []
        with contextlib.suppress(Disconnected):
            async for each in await client.round_robin(None, annotated=False):
                got.append(each)
        return got

    run(scenario())


def test_a_fleet_of_one_that_does_not_answer_its_address_is_not_asked_again() -> None:
    async def scenario() -> None:
        async with fleet() as site:
            await site.put(1, NOWHERE)
            assert isinstance(await failure_of(site.client), CannotConnect)
            with pytest.raises(
                WorkerUnavailable, match=r"1: avoided for .* after a failure: cannot"
            ):
                await site.client.round_robin(None)

    run(scenario())


def test_when_all_are_full_nobody_is_asked_until_one_of_our_requests_ends() -> None:
    async def scenario() -> None:
        held = Held()

        async def one_place(request: RawRequest, worker: RawWorker) -> None:
            await (held if len(worker.requests) in (1, 3) else full)(request, worker)

        async with fleet(one_place, overloaded_s=60.0) as site, asyncio.TaskGroup() as group:
            first = group.create_task(items_of(site.client))
            await held.begun.wait()
            with pytest.raises(Overloaded, match="worker at capacity"):
                await items_of(site.client)
            with pytest.raises(Overloaded, match=r"All workers are busy.*1: full") as caught:
                await items_of(site.client)
            assert "please retry later" in caught.value.message
            assert site.asked() == {1: 2}
            assert await site.client.wait_for_instances(1) == [1]
            assert site.client.free() == ()

            held.begun.clear()
            held.finish()
            assert await first == []
            again = group.create_task(items_of(site.client))
            await held.begun.wait()
            held.finish()
            assert await again == []

    run(scenario())


def test_full_and_broken_together_are_busy_and_both_are_named() -> None:
    async def scenario() -> None:
        async with fleet(full, drop_connection, overloaded_s=60.0) as site:
            for _ in range(2):
                error = await failure_of(site.client)
                assert isinstance(error, Overloaded)
                assert "1: " in error.message
                assert "2: " in error.message

    run(scenario())


def test_after_a_failure_one_that_is_known_to_be_full_is_not_asked_but_named() -> None:
    async def scenario() -> None:
        async with fleet(full, drop_connection, overloaded_s=60.0) as site:
            with pytest.raises(Overloaded):
                await site.client.open(None, PLAIN, context=Context(), among=frozenset({1}))
            error = await failure_of(site.client)
            assert isinstance(error, Overloaded)
            assert "1: full: it refused a request" in error.message
            assert "2: connection to" in error.message
            assert site.asked() == {1: 1, 2: 1}

    run(scenario())


def test_narrowed_to_some_only_these_are_asked_and_named() -> None:
    async def scenario() -> None:
        async with fleet(drop_connection, answer("second")) as site:
            with pytest.raises(Disconnected):
                await site.client.open(
                    None, PLAIN, context=Context(), among=frozenset({1}), mode=RouterMode.RANDOM
                )
            with pytest.raises(WorkerUnavailable, match="no instances found"):
                await site.client.open(None, PLAIN, context=Context(), among=frozenset({9}))
            assert site.asked() == {1: 1, 2: 0}

    run(scenario())


def test_records_that_cannot_be_read_are_named_when_there_is_nobody_else() -> None:
    async def scenario() -> None:
        async with fleet() as site:
            await site.runtime.discovery.register(INSTANCES, "ns/comp/ep/5", b'{"a": 1}')
            await until(lambda: site.client._source.skipped)
            error = await failure_of(site.client)
            assert "no instances found for endpoint ns/comp/ep" in error.message
            assert "ns/comp/ep/5: not an instance record" in error.message

    run(scenario())


# -- stopping and dropping ---------------------------------------------------------------------


@pytest.mark.parametrize("word", ["stop", "kill"])
def test_a_context_reaches_the_worker_before_the_first_item(word: str) -> None:
    async def scenario() -> None:
        held = Held()
        context = Context()
        async with fleet(held) as site, asyncio.TaskGroup() as group:
            stream = group.create_task(site.client.round_robin(None, context=context))
            await held.begun.wait()
            context.kill() if word == "kill" else context.stop_generating()
            # One that was killed before its worker's connection arrived is closed without a word.
            heard = await held.told()
            assert heard == f'"{word}"'.encode() or (word == "kill" and heard is None)
            held.writer.close()
            assert [each async for each in await stream] == []
            assert site.client.exclusions() == {}
            assert site.client.in_flight() == {1: 0}

    run(scenario())


def test_a_stopped_request_is_not_sent_to_anybody_else() -> None:
    async def scenario() -> None:
        context = Context()

        async def refuse_when_stopped(request: RawRequest, worker: RawWorker) -> None:
            context.stop_generating()
            worker.ack(b"Server unavailable: unknown endpoint x")

        async with fleet(refuse_when_stopped, answer("second")) as site:
            with pytest.raises(WorkerUnavailable):
                await site.client.round_robin(None, context=context)
            assert site.asked() == {1: 1, 2: 0}

    run(scenario())


def test_a_request_that_was_killed_before_it_was_sent_is_not_sent() -> None:
    async def scenario() -> None:
        context = Context()
        context.kill()
        async with fleet(answer("first")) as site:
            stream = await site.client.round_robin(None, context=context)
            assert [each async for each in stream] == []
            assert site.asked() == {1: 0}

    run(scenario())


def test_cancelling_who_waits_drops_the_request() -> None:
    async def scenario() -> None:
        held = Held()
        async with fleet(held) as site:
            waiting = asyncio.ensure_future(items_of(site.client))
            await held.begun.wait()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert await held.told() in (b'"kill"', None)
            assert site.client.in_flight() == {1: 0}

    run(scenario())


def test_a_response_nobody_holds_any_more_is_dropped() -> None:
    async def scenario() -> None:
        held = Held()
        async with fleet(held) as site:
            response = await site.client.open(None, PLAIN, context=Context())
            assert site.client.in_flight() == {1: 1}
            del response
            gc.collect()
            assert await held.told() == b'"kill"'
            await until(lambda: site.client.in_flight() == {1: 0})

    run(scenario())


def test_what_a_process_drops_when_it_shuts_down_is_not_sent_to_anybody_else() -> None:
    async def scenario() -> None:
        held = Held()
        async with fleet(held) as site:
            waiting = asyncio.ensure_future(items_of(site.client))
            await held.begun.wait()
            await site.join(2, answer("second"))
            await site.runtime.close()
            with pytest.raises(Disconnected):
                await waiting
            assert site.asked() == {1: 1, 2: 0}

    run(scenario())


# -- what is under way -------------------------------------------------------------------------


def test_what_is_under_way_is_counted_over_all_clients_of_an_endpoint() -> None:
    async def scenario() -> None:
        first, second = Held(), Held()
        async with fleet(first, second) as site, asyncio.TaskGroup() as group:
            other = await site.runtime.endpoint(ENDPOINT).client(RouterMode.LEAST_LOADED)
            one = group.create_task(items_of(site.client))
            await first.begun.wait()
            assert other.in_flight() == {1: 1, 2: 0}
            two = group.create_task(generated(other))
            await second.begun.wait()
            assert site.client.in_flight() == {1: 1, 2: 1}
            first.finish()
            second.finish()
            assert [await one, await two] == [[], []]
            assert other.in_flight() == {1: 0, 2: 0}

    async def generated(client: Client) -> list[Any]:
        return [each async for each in await client.generate(None)]

    run(scenario())


def test_a_burst_is_spread_before_the_first_of_it_is_connected() -> None:
    async def scenario() -> None:
        async with fleet(never, never, never) as site:
            client = await site.runtime.endpoint(ENDPOINT).client(RouterMode.LEAST_LOADED)
            burst = [asyncio.ensure_future(client.generate(None)) for _ in range(30)]
            await until(lambda: set(site.asked().values()) == {10})
            for each in burst:
                each.cancel()
            await asyncio.gather(*burst, return_exceptions=True)
            assert client.in_flight() == {1: 0, 2: 0, 3: 0}

    run(scenario())


def test_in_direct_mode_the_instance_must_be_named() -> None:
    async def scenario() -> None:
        async with fleet(answer("first")) as site:
            client = await site.runtime.endpoint(ENDPOINT).client(RouterMode.DIRECT)
            with pytest.raises(InvalidArgument, match="the caller names the instance"):
                await client.generate(None)
            stream = await client.direct(None, 1, annotated=False)
            assert [each async for each in stream] == ["first"]

    run(scenario())
