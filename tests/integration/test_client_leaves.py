"""A client that leaves frees the engine, whatever the frontend waits for at that moment."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
import pytest

from muster.discovery.memory import MemoryRegistry
from muster.discovery.records import INSTANCES, Instance, Transport
from muster.errors import EngineShutdown
from muster.frontend.long_work import LongWork
from muster.frontend.openai.route import LONG_BODY_BYTES
from muster.runtime import DistributedRuntime
from muster.testing.fleet import FleetSite, frontend, serve, worker
from muster.testing.loops import run
from muster.testing.raw_plane import RawRequest, RawWorker, two_part
from muster.testing.tiny_model import write_tiny_model


class Hanging:
    """An engine that says so many letters and then waits for ever.

    Args:
        letters: How many.
        finish: Whether it says that the answer is complete before it waits.
        lose: Whether the first request ends there with the engine's going away.
    """

    def __init__(self, letters: int, *, finish: bool = False, lose: bool = False) -> None:
        self._letters = letters
        self._finish = finish
        self._lose = lose
        self.requests = 0
        self.waiting = asyncio.Event()
        self.freed = asyncio.Event()

    async def generate(self, request: Any, context: Any) -> AsyncGenerator[dict[str, Any], None]:
        self.requests += 1
        try:
            for _ in range(self._letters):
                yield {"token_ids": [ord("a")], "index": 0}
            if self._finish:
                yield {"token_ids": [], "index": 0, "finish_reason": "stop"}
            if self._lose:
                raise EngineShutdown("going away")
            self.waiting.set()
            await asyncio.Event().wait()
        finally:
            if not self._lose:
                self.freed.set()


@contextlib.asynccontextmanager
async def asking(
    site: FleetSite, *, stream: bool, prompt: str = "x"
) -> AsyncIterator[asyncio.StreamReader]:
    """A connection on which a request has been sent; it is closed at the end of the block."""
    address = urlsplit(site.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    body = json.dumps({"model": "tiny", "prompt": prompt, "max_tokens": 50, "stream": stream})
    head = (
        "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    writer.write((head + body).encode())
    await writer.drain()
    try:
        yield reader
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def metrics_say(site: FleetSite, line: str) -> None:
    """Wait until the frontend's metrics have a line that begins so."""
    async with asyncio.timeout(10), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{site.url}/metrics") as reply:
                if f"\n{line}" in await reply.text():
                    return
            await asyncio.sleep(0.01)


async def both_there(site: FleetSite) -> None:
    """Wait until two replicas serve the model."""
    async with asyncio.timeout(10):
        while True:
            _, content = await site.get("/v1/muster/models")
            if [len(model["replicas"]) for model in content["models"]] == [2]:
                return
            await asyncio.sleep(0.01)


async def has_arrived(site: FleetSite) -> None:
    """Wait until the frontend has read a request."""
    await metrics_say(site, 'dynamo_frontend_active_requests{model="tiny"} 1.0')


async def has_noticed(site: FleetSite) -> None:
    """Wait until the frontend knows that its client has left."""
    await metrics_say(site, "dynamo_frontend_disconnected_clients 1.0")


async def put_in_place(runtime: DistributedRuntime, address: str) -> None:
    """Let the runtime's instance have another address."""
    ((key, value),) = (await runtime.discovery.list(INSTANCES)).items()
    moved = msgspec.structs.replace(Instance.from_json(value), transport=Transport("tcp", address))
    await runtime.discovery.register(INSTANCES, key, moved.to_json())


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(lambda: Hanging(0), id="before the first token"),
        pytest.param(lambda: Hanging(3), id="between tokens"),
        pytest.param(lambda: Hanging(3, finish=True), id="before the stream's end"),
    ],
)
def test_the_engine_is_freed(model: Path, tmp_path: Path, engine: Any, stream: bool) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with worker(registry) as one, frontend(registry, tmp_path) as site:
            hanging = engine()
            await serve(one, model, engine=hanging)
            await site.listed("tiny")
            async with asking(site, stream=stream):
                await hanging.waiting.wait()
            async with asyncio.timeout(10):
                await hanging.freed.wait()

    run(scenario())


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
def test_the_engine_that_took_over_is_freed(model: Path, tmp_path: Path, stream: bool) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            worker(registry) as one,
            worker(registry) as two,
            frontend(registry, tmp_path) as site,
        ):
            losing, hanging = Hanging(3, lose=True), Hanging(0)
            await serve(one, model, engine=losing)
            await serve(two, model, engine=hanging)
            await site.listed("tiny")
            await both_there(site)
            for _ in range(2):  # one at least goes to the engine that is lost
                hanging.waiting.clear()
                hanging.freed.clear()
                async with asking(site, stream=stream):
                    await hanging.waiting.wait()
                async with asyncio.timeout(10):
                    await hanging.freed.wait()
            assert losing.requests
            assert hanging.requests == 2
            families = {family.name: family for family in site.fleet.migrations.collect()}
            seconds = families["dynamo_frontend_model_migration_duration_seconds"]
            outcomes = [
                sample.labels["outcome"]
                for sample in seconds.samples
                if sample.name.endswith("_count")
            ]
            assert outcomes == ["cancelled"]  # a series, however many there were

    run(scenario())


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
@pytest.mark.parametrize("phase", ["before the acknowledgement", "before the worker connects"])
def test_a_worker_that_is_late_finds_nobody(
    model: Path, tmp_path: Path, phase: str, stream: bool
) -> None:
    async def scenario() -> None:
        asked = asyncio.Event()

        async def answer(request: RawRequest, late: RawWorker) -> None:
            if phase == "before the worker connects":
                late.ack()
            asked.set()

        registry = MemoryRegistry()
        async with (
            worker(registry) as one,
            RawWorker(answer).running() as late,
            frontend(registry, tmp_path) as site,
        ):
            await serve(one, model)
            await site.listed("tiny")
            await put_in_place(one, late.address)
            async with asking(site, stream=stream):
                await asked.wait()
            await has_noticed(site)
            reader, _ = await late.requests[0].start()
            async with asyncio.timeout(10):
                await reader.read(1)  # it is told to stop, or hung up on

    run(scenario())


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
@pytest.mark.parametrize("phase", ["before the prologue", "before the first item"])
def test_a_worker_that_has_connected_is_told(
    model: Path, tmp_path: Path, phase: str, stream: bool
) -> None:
    async def scenario() -> None:
        told = asyncio.Event()
        connected = asyncio.Event()

        async def answer(request: RawRequest, slow: RawWorker) -> None:
            slow.ack()
            if phase == "before the prologue":
                reader, writer = await request.connect()
                handshake = {"subject": request.info["subject"], "stream_type": "response"}
                writer.write(two_part(json.dumps(handshake).encode()))
                await writer.drain()
            else:
                reader, _ = await request.start()
            connected.set()
            await reader.read(1)
            told.set()

        registry = MemoryRegistry()
        async with (
            worker(registry) as one,
            RawWorker(answer).running() as slow,
            frontend(registry, tmp_path) as site,
        ):
            await serve(one, model)
            await site.listed("tiny")
            await put_in_place(one, slow.address)
            async with asking(site, stream=stream):
                await connected.wait()
            async with asyncio.timeout(10):
                await told.wait()

    run(scenario())


def test_a_request_that_leaves_while_it_is_prepared_is_not_sent(tmp_path: Path) -> None:
    long = tmp_path / "long"
    long.mkdir()
    write_tiny_model(long, context_length=4 * LONG_BODY_BYTES)

    async def scenario() -> None:
        registry = MemoryRegistry()
        work = LongWork()
        async with worker(registry) as one, frontend(registry, tmp_path, work=work) as site:
            hanging = Hanging(0)
            await serve(one, long, engine=hanging)
            await site.listed("tiny")
            held = threading.Event()
            async with asyncio.TaskGroup() as group:
                # All threads are taken: the long prompt waits to be tokenized.
                for _ in range(64):
                    group.create_task(work.run(held.wait, 30))
                await asyncio.sleep(0)
                try:
                    async with asking(site, stream=True, prompt="x" * LONG_BODY_BYTES):
                        await has_arrived(site)
                    await has_noticed(site)
                finally:
                    held.set()
            await work.run(bool)  # whatever was queued behind them has run
            assert hanging.requests == 0

    run(scenario())
