"""What callers and workers may rely on, whatever carries their requests: TCP, or nothing at all."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from muster.config.settings import HealthSettings
from muster.discovery.memory import MemoryRegistry
from muster.errors import (
    Cancelled,
    Disconnected,
    EngineShutdown,
    InvalidArgument,
    MusterError,
    Overloaded,
    Unknown,
    WorkerUnavailable,
)
from muster.errors.error_class import ErrorClass
from muster.runtime import Client, Context, DistributedRuntime
from muster.testing.loops import run
from muster.testing.runtimes import loopback_settings, runtime_in
from muster.wire.errors import WireError

ENDPOINT = "ns.comp.ep"
QUEUED = "dynamo_work_handler_queue_depth"
RUNNING = "dynamo_work_handler_pool_active_tasks"

pytestmark = pytest.mark.parametrize("plane", ["tcp", "loopback"])


async def count_to(request: Any, context: Context) -> AsyncIterator[Any]:
    for number in range(request["n"]):
        yield {"number": number}


@contextlib.asynccontextmanager
async def serving(
    plane: str, handler: Any = count_to, *, health: HealthSettings | None = None, **settings: Any
) -> AsyncIterator[tuple[Client, DistributedRuntime]]:
    """A process that serves an endpoint and calls it."""
    chosen = loopback_settings(plane=plane, **settings)
    chosen = dataclasses.replace(chosen, health=health or HealthSettings())
    async with (
        runtime_in(MemoryRegistry(), chosen) as runtime,
        asyncio.TaskGroup() as group,
    ):
        served = runtime.endpoint(ENDPOINT).serve_endpoint(handler, health_check_payload={"n": 1})
        group.create_task(served)
        client = await runtime.endpoint(ENDPOINT).client()
        await client.wait_for_instances(timeout=10)
        assert client.instances()[0].transport.kind == plane
        yield client, runtime
        await runtime.close()


async def until(condition: Callable[[], Any]) -> None:
    while not condition():  # noqa: ASYNC110 - what changes it tells nobody
        await asyncio.sleep(0.005)


async def counted(runtime: DistributedRuntime, name: str, value: int) -> None:
    """Wait until the metric of that name has that value."""
    await until(lambda: runtime.metrics.get_sample_value(name) == value)


async def items_of(client: Client, request: Any, context: Context | None = None) -> list[Any]:
    stream = await client.round_robin(request, annotated=False, context=context)
    return [item async for item in stream]


async def failure_of(client: Client, request: Any) -> MusterError:
    with pytest.raises(MusterError) as caught:
        await items_of(client, request)
    return caught.value


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_a_handlers_own_cancellation_is_an_error_item_not_a_broken_connection(plane: str) -> None:
    async def fail(request: Any) -> AsyncIterator[Any]:
        yield 1
        lost = asyncio.get_running_loop().create_future()
        lost.cancel()
        await lost

    async def scenario() -> None:
        async with serving(plane, fail) as (client, _):
            assert isinstance(await failure_of(client, {}), Cancelled)
            assert len(client.instance_ids()) == 1

    run(scenario())


# -- both ends ---------------------------------------------------------------------------------


def test_many_requests_at_once_each_get_their_own_items(plane: str) -> None:
    async def scenario() -> None:
        async with serving(plane) as (client, _):

            async def one(n: int) -> None:
                assert await items_of(client, {"n": n}) == [{"number": i} for i in range(n)]

            await asyncio.gather(*(one(n % 50) for n in range(200)))

    run(scenario())


def test_a_slow_reader_slows_the_handler_down_instead_of_filling_memory(plane: str) -> None:
    async def scenario() -> None:
        made = 0

        async def flood(request: Any) -> AsyncIterator[Any]:
            nonlocal made
            for number in range(100_000):
                made = number
                yield {"payload": "x" * 1000}

        async with serving(plane, flood) as (client, _):
            stream = await client.round_robin({}, annotated=False)
            reading = aiter(stream)
            await anext(reading)
            await asyncio.sleep(0.5)
            before = made
            await asyncio.sleep(0.2)
            assert made == before < 50_000
            assert 1 + len([item async for item in reading]) == 100_000

    run(scenario(), timeout_s=60)


def test_direct_to_an_unknown_instance_says_so(plane: str) -> None:
    async def scenario() -> None:
        async with serving(plane) as (client, _):
            with pytest.raises(WorkerUnavailable, match="instance_id=12345 not found"):
                await client.direct({"n": 1}, 12345)

    run(scenario())


# -- what a handler may do ---------------------------------------------------------------------


class NoException(BaseException):
    """As some libraries have, to get past ``except Exception``."""


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(
    ("error", "kind"), [(NoException("boom"), Unknown), (GeneratorExit(), EngineShutdown)]
)
def test_a_handler_that_raises_no_exception_is_answered_all_the_same(
    plane: str, error: BaseException, kind: type[MusterError], first: bool
) -> None:
    async def fail(request: Any) -> AsyncIterator[Any]:
        if not first:
            yield 1
        raise error

    async def scenario() -> None:
        async with serving(plane, fail) as (client, _):
            assert type(await failure_of(client, {})) is kind

    run(scenario())


NEVER = {
    "object": object(),
    "surrogate": "a\ud800b",
    "deep": deep(100_000),
    "inner": {"inner": [object()]},
}
UNSENDABLE = [
    *(pytest.param("msgpack", value, id=f"{name} msgpack") for name, value in NEVER.items()),
    *(pytest.param("json", value, id=f"{name} json") for name, value in NEVER.items()),
    pytest.param("json", {object(): 1}, id="key json"),
    pytest.param("msgpack", 2**70, id="large"),
    pytest.param("msgpack", -(2**70), id="small"),
]


@pytest.mark.parametrize(("codec", "value"), UNSENDABLE)
def test_what_a_handler_gives_and_cannot_be_sent_is_the_engines_failure(
    plane: str, codec: str, value: Any
) -> None:
    ended: list[bool] = []

    async def give(request: Any) -> AsyncIterator[Any]:
        try:
            yield "good"
            yield value
            yield "never asked for"
        finally:
            ended.append(True)

    async def scenario() -> None:
        async with serving(plane, give, codec=codec) as (client, _):
            stream = aiter(await client.round_robin({}, annotated=False))
            assert await anext(stream) == "good"
            with pytest.raises(Unknown, match=f"no encoding as {codec}") as caught:
                await anext(stream)
            assert caught.value.error_class is ErrorClass.INTERNAL
            assert isinstance(caught.value.failure, WireError)
            assert caught.value.failure.reason == "runtime.unclassified"
            assert client.instance_ids(), "it says nothing about the worker"
            assert ended == [True]

    run(scenario())


@pytest.mark.parametrize(("codec", "value"), UNSENDABLE[:8])
def test_a_request_that_cannot_be_sent_is_an_invalid_argument_and_leaves_nothing_behind(
    plane: str, codec: str, value: Any
) -> None:
    async def scenario() -> None:
        async with serving(plane, codec=codec) as (client, runtime):
            with pytest.raises(InvalidArgument, match="cannot be encoded"):
                await client.round_robin(value)
            metadata = Context(metadata={"key": value})
            with pytest.raises(InvalidArgument, match="metadata cannot be encoded"):
                await client.round_robin({"n": 1}, context=metadata)
            home = runtime._calling._caller._home  # type: ignore[union-attr]
            assert not home._streams
            assert len(await items_of(client, {"n": 3})) == 3

    run(scenario())


def test_an_id_that_is_no_text_for_the_wire_is_an_invalid_argument(plane: str) -> None:
    async def scenario() -> None:
        async with serving(plane) as (client, _):
            with pytest.raises(InvalidArgument, match="id cannot be encoded"):
                await client.round_robin({"n": 1}, context=Context("a\ud800b"))

    run(scenario())


# -- stopping ----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["stop_generating", "kill"])
def test_a_callers_wish_reaches_the_handler(plane: str, way: str) -> None:
    async def scenario() -> None:
        ended: asyncio.Queue[tuple[bool, bool]] = asyncio.Queue()

        async def wait(request: Any, context: Context) -> AsyncIterator[Any]:
            try:
                yield "first"
                await context.async_killed_or_stopped()
                yield "last"
            finally:
                ended.put_nowait((context.is_stopped(), context.is_killed()))

        async with serving(plane, wait) as (client, _):
            context, seen = Context(), []
            async for item in await client.round_robin({}, annotated=False, context=context):
                seen.append(item)
                getattr(context, way)()
            assert await ended.get() == (True, way == "kill")
            assert seen == (["first"] if way == "kill" else ["first", "last"])

    run(scenario())


def test_a_caller_that_leaves_its_response_cancels_the_handler(plane: str) -> None:
    async def scenario() -> None:
        ended = asyncio.Event()

        async def wait(request: Any) -> AsyncIterator[Any]:
            try:
                yield "first"
                await asyncio.Event().wait()
            finally:
                ended.set()

        async with serving(plane, wait) as (client, runtime):
            async for _ in await client.round_robin({}):
                break
            await ended.wait()
            await counted(runtime, RUNNING, 0)

    run(scenario())


def test_a_handler_that_goes_on_after_a_stop_is_cancelled_and_one_that_ends_is_not(
    plane: str,
) -> None:
    async def scenario() -> None:
        ends: asyncio.Queue[str] = asyncio.Queue()

        async def handler(request: Any, context: Context) -> AsyncIterator[Any]:
            try:
                yield "first"
                if request == "heeds":
                    await context.async_killed_or_stopped()
                    await asyncio.sleep(0.05)
                else:
                    await asyncio.Event().wait()
                yield "last"
                ends.put_nowait("on its own")
            except asyncio.CancelledError:
                ends.put_nowait("cancelled")
                raise

        async with serving(plane, handler, stop_grace_s=0.5) as (client, _):
            for request, seen, end in (
                ("heeds", ["first", "last"], "on its own"),
                ("ignores", ["first"], "cancelled"),
            ):
                context, got = Context(), []
                async for item in await client.round_robin(
                    request, annotated=False, context=context
                ):
                    got.append(item)
                    context.stop_generating()
                assert (got, await ends.get()) == (seen, end)

    run(scenario())


def test_a_handler_that_swallows_its_cancellation_is_ended_at_its_next_item(plane: str) -> None:
    async def scenario() -> None:
        ended = asyncio.Event()

        async def stubborn(request: Any) -> AsyncIterator[Any]:
            try:
                while True:
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.sleep(0.01)
                    yield "more"
            finally:
                ended.set()

        async with serving(plane, stubborn) as (client, runtime):
            async for _ in await client.round_robin({}):
                break
            await ended.wait()
            await counted(runtime, RUNNING, 0)

    run(scenario())


def test_a_handler_that_swallows_every_cancellation_does_not_keep_the_process(plane: str) -> None:
    async def scenario() -> None:
        begun, release = asyncio.Event(), asyncio.Event()

        async def stubborn(request: Any) -> AsyncIterator[Any]:
            yield "first"
            begun.set()
            while not release.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await release.wait()

        async with serving(plane, stubborn, drain_timeout_s=0.05) as (client, runtime):
            reading = asyncio.create_task(failure_of(client, {}))
            await begun.wait()
            await runtime.close()
            assert not release.is_set()
            assert isinstance(await reading, Disconnected)
            release.set()

    run(scenario())


# -- places and the queue ----------------------------------------------------------------------


class Gate:
    """A handler whose requests end one by one, when told."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self._ends: dict[Any, asyncio.Event] = {}

    async def handle(self, request: Any, context: Context) -> AsyncIterator[Any]:
        self.begun.append(request)
        yield request
        await self._end_of(request).wait()

    def let(self, request: Any) -> None:
        self._end_of(request).set()

    def _end_of(self, request: Any) -> asyncio.Event:
        return self._ends.setdefault(request, asyncio.Event())


def test_requests_wait_for_a_place_in_order_and_then_run_and_the_next_is_refused(
    plane: str,
) -> None:
    async def scenario() -> None:
        gate = Gate()
        async with (
            serving(plane, gate.handle, request_limit=1, queue_limit=2, overloaded_s=0) as (
                client,
                runtime,
            ),
            asyncio.TaskGroup() as group,
        ):
            asked = []
            for number in range(3):
                asked.append(group.create_task(items_of(client, number)))
                await counted(runtime, QUEUED, number)
            refusal = await failure_of(client, 3)
            assert type(refusal) is Overloaded
            assert "Server overloaded: worker at capacity" in refusal.message
            for number in range(3):
                await until(lambda: len(gate.begun) > number)  # noqa: B023 - awaited here
                assert gate.begun == [*range(number + 1)]
                gate.let(number)
                assert await asked[number] == [number]
            assert runtime.metrics.get_sample_value(QUEUED) == 0
            gate.let(4)
            assert await items_of(client, 4) == [4]

    run(scenario())


@pytest.mark.parametrize("way", ["kill", "cancel"])
def test_who_gives_up_while_waiting_leaves_the_queue_and_is_never_handled(
    plane: str, way: str
) -> None:
    async def scenario() -> None:
        gate = Gate()
        async with (
            serving(plane, gate.handle, request_limit=1, queue_limit=1, overloaded_s=0) as (
                client,
                runtime,
            ),
            asyncio.TaskGroup() as group,
        ):
            first = group.create_task(items_of(client, 1))
            await until(lambda: gate.begun)
            context = Context()
            second = group.create_task(items_of(client, 2, context))
            await counted(runtime, QUEUED, 1)
            if way == "kill":
                context.kill()
                assert await second == []
            else:
                second.cancel()
            await counted(runtime, QUEUED, 0)
            third = group.create_task(items_of(client, 3))  # has its place in the queue
            await counted(runtime, QUEUED, 1)
            for number in (1, 3):
                gate.let(number)
            assert [await first, await third] == [[1], [3]]
            assert gate.begun == [1, 3]
            await counted(runtime, RUNNING, 0)

    run(scenario())


def test_shutting_down_ends_those_who_wait(plane: str) -> None:
    async def scenario() -> None:
        gate = Gate()
        async with serving(
            plane, gate.handle, request_limit=1, queue_limit=5, drain_timeout_s=0.05
        ) as (client, runtime):
            asked = [asyncio.create_task(failure_of(client, number)) for number in range(4)]
            await counted(runtime, QUEUED, 3)
            await runtime.close()
            for failure in await asyncio.gather(*asked):
                assert isinstance(failure, Disconnected)
            assert gate.begun == [0]

    run(scenario())


# -- signs of life -----------------------------------------------------------------------------


def test_items_are_signs_of_life_and_errors_are_not(plane: str) -> None:
    async def handler(request: Any) -> AsyncIterator[Any]:
        for number in range(request["n"]):
            yield number
            await asyncio.sleep(0.01)
        if request.get("fail"):
            raise ValueError("boom")

    async def scenario() -> None:
        async with serving(plane, handler) as (client, runtime):
            (service,) = runtime._serving.services.values()
            signs: list[None] = []
            service.observer.on_item = lambda: signs.append(None)
            await failure_of(client, {"n": 0, "fail": True})
            assert not signs
            await items_of(client, {"n": 5})
            assert len(signs) >= 5
            before = len(signs)
            await failure_of(client, {"n": 3, "fail": True})
            assert len(signs) == before + 3

    run(scenario())
