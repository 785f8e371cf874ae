"""The request plane over a real NATS server."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import nats
import pytest

from muster.config.settings import NatsSettings, Settings
from muster.discovery.memory import MemoryRegistry
from muster.discovery.records import Transport
from muster.errors import (
    CannotConnect,
    ConfigError,
    ConnectionTimeout,
    InvalidArgument,
    Overloaded,
    WorkerUnavailable,
)
from muster.runtime import Client, Context, DistributedRuntime
from muster.testing.loops import run
from muster.testing.nats_server import NatsServer
from muster.testing.ports import free_port
from muster.testing.runtimes import loopback_settings, runtime_in
from muster.testing.site import Site

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(not NatsServer.is_installed(), reason="there is no nats-server here"),
]

ENDPOINT = "ns.comp.generate"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with NatsServer(tmp_path) as server:
        yield server


def over_nats(url: str | None, *, plane: str = "nats", **more: Any) -> Settings:
    nats_settings = NatsSettings(server=url, startup_timeout_s=2.0, request_timeout_s=1.0)
    return dataclasses.replace(loopback_settings(plane=plane, **more), nats=nats_settings)


async def count(request: Any, context: Context) -> AsyncIterator[Any]:
    for number in range(request["n"]):
        yield number


async def forever(request: Any, context: Context) -> AsyncIterator[Any]:
    yield "first"
    await context.async_killed_or_stopped()


@contextlib.asynccontextmanager
async def fleet(worker: Settings, caller: Settings, handler: Any = count) -> AsyncIterator[Client]:
    """A worker and a client of it, each with a runtime of its own."""
    registry = MemoryRegistry()
    async with runtime_in(registry, worker) as there, runtime_in(registry, caller) as here:
        endpoint = there.endpoint(ENDPOINT)
        await there.serve(endpoint.id(), handler)
        client = await here.endpoint(ENDPOINT).client()
        await client.wait_for_instances(timeout=5)
        yield client


async def items(client: Client, request: Any, **more: Any) -> list[Any]:
    return [item async for item in await client.round_robin(request, annotated=False, **more)]


def test_requests_travel_over_nats_and_responses_come_back(server: NatsServer) -> None:
    async def scenario() -> None:
        settings = over_nats(server.url)
        async with fleet(settings, settings) as client:
            (instance,) = client.instances()
            assert instance.transport == Transport(
                "nats_tcp", f"ns_comp.generate-{instance.instance_id:x}"
            )
            assert await items(client, {"n": 3}) == [0, 1, 2]
            many = await asyncio.gather(*(items(client, {"n": n % 7}) for n in range(500)))
            assert many == [[*range(n % 7)] for n in range(500)]

    run(scenario())


@pytest.mark.parametrize("mode", ["nats calls tcp", "tcp calls nats"])
def test_a_process_calls_instances_of_either_transport(server: NatsServer, mode: str) -> None:
    nats_side, tcp_side = over_nats(server.url), over_nats(server.url, plane="tcp")
    worker, caller = (tcp_side, nats_side) if mode == "nats calls tcp" else (nats_side, tcp_side)

    async def scenario() -> None:
        async with fleet(worker, caller) as client:
            assert await items(client, {"n": 2}) == [0, 1]

    run(scenario())


def test_an_instance_over_nats_is_left_out_with_a_reason_where_nats_is_not_spoken(
    server: NatsServer,
) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            runtime_in(registry, over_nats(server.url)) as there,
            runtime_in(registry) as here,
        ):
            await there.serve(there.endpoint(ENDPOINT).id(), count)
            client = await here.endpoint(ENDPOINT).client()
            with pytest.raises(WorkerUnavailable, match="'nats_tcp' is not spoken here"):
                await client.wait_for_instances(timeout=0.3)
            (reason,) = client.exclusions().values()
            assert "NATS_SERVER" in reason

    run(scenario())


def test_c8_the_service_is_known_before_serve_returns(server: NatsServer) -> None:
    async def scenario() -> None:
        async with runtime_in(MemoryRegistry(), over_nats(server.url)) as there:
            await there.serve(there.endpoint(ENDPOINT).id(), count)
            asker = await nats.connect(server.url)
            try:
                reply = await asker.request("$SRV.PING.ns_comp", b"", timeout=2)
            finally:
                await asker.close()
            assert b'"name":"ns_comp"' in reply.data.replace(b" ", b"")

    run(scenario())


def test_c8_without_nats_serving_is_an_error_and_nothing_is_registered() -> None:
    async def scenario() -> None:
        url = f"nats://127.0.0.1:{free_port()}"
        async with runtime_in(MemoryRegistry(), over_nats(url)) as there:
            with pytest.raises(CannotConnect, match=url) as raised:
                await there.serve(there.endpoint(ENDPOINT).id(), count)
            assert "NATS_SERVER" in raised.value.hint
            assert await there.discovery.list("v1/instances") == {}

    run(scenario())


def test_stop_and_kill_reach_a_handler_asked_over_nats(server: NatsServer) -> None:
    async def scenario() -> None:
        settings = over_nats(server.url)
        async with fleet(settings, settings, forever) as client:
            for ask in (Context.stop_generating, Context.kill):
                context, seen = Context(), []
                async for item in await client.round_robin({}, annotated=False, context=context):
                    seen.append(item)
                    ask(context)
                assert seen == ["first"]

    run(scenario())


def test_refusals_come_as_acknowledgements(server: NatsServer) -> None:
    async def scenario() -> None:
        full = over_nats(server.url, request_limit=1, queue_limit=0)
        async with fleet(full, over_nats(server.url), forever) as client:
            first = await client.round_robin({}, annotated=False)
            with pytest.raises(Overloaded):
                await client.round_robin({}, annotated=False)
            async for _ in first:
                break

    run(scenario())


def test_an_instance_nobody_listens_for_is_unavailable_at_once(server: NatsServer) -> None:
    async def scenario() -> None:
        settings = over_nats(server.url)
        registry = MemoryRegistry()
        async with runtime_in(registry, settings) as there, runtime_in(registry, settings) as here:
            service = await there.serve(there.endpoint(ENDPOINT).id(), count)
            record = service.instance
            client = await here.endpoint(ENDPOINT).client()
            await there.close()
            # What a worker that died leaves behind until its lease runs out.
            await here.discovery.register("v1/instances", record.key, record.to_json())
            await client.wait_for_instances(timeout=5)
            with pytest.raises(WorkerUnavailable, match="nobody listens"):
                await client.direct({"n": 1}, record.instance_id)

    run(scenario())


def test_a_request_larger_than_the_server_takes_is_refused_before_it_is_sent(
    server: NatsServer,
) -> None:
    async def scenario() -> None:
        settings = over_nats(server.url)
        async with fleet(settings, settings) as client:
            with pytest.raises(InvalidArgument, match="more than the 1048576"):
                await items(client, {"n": 1, "pad": "x" * (1 << 20)})
            assert await items(client, {"n": 1}) == [0]

    run(scenario())


def test_a_server_that_comes_back_is_found_again(server: NatsServer) -> None:
    async def scenario() -> None:
        settings = over_nats(server.url)
        async with fleet(settings, settings) as client:
            assert await items(client, {"n": 1}) == [0]
            server.kill()
            with pytest.raises((CannotConnect, ConnectionTimeout, WorkerUnavailable)):
                await items(client, {"n": 1})
            await asyncio.to_thread(server.start)
            async with asyncio.timeout(20):
                while True:
                    with contextlib.suppress(CannotConnect, ConnectionTimeout, WorkerUnavailable):
                        assert await items(client, {"n": 2}) == [0, 1]
                        return
                    await asyncio.sleep(0.1)

    run(scenario())


def test_leaving_takes_subject_and_service_back(server: NatsServer) -> None:
    async def scenario() -> None:
        asker = await nats.connect(server.url)
        try:
            async with runtime_in(MemoryRegistry(), over_nats(server.url)) as there:
                await there.serve(there.endpoint(ENDPOINT).id(), count)
            with pytest.raises(nats.errors.NoRespondersError):
                await asker.request("$SRV.PING.ns_comp", b"", timeout=2)
        finally:
            await asker.close()

    run(scenario())


def test_a_model_served_over_nats_has_its_files_believed(
    server: NatsServer, site: Site, model: Path
) -> None:
    env = {"DYN_REQUEST_PLANE": "nats", "NATS_SERVER": server.url}
    worker = site.worker(model, "tiny", "--system-port", "0", **env)
    (record,) = site.records("v1/instances").values()
    assert record["muster"] == {"host": "127.0.0.1"}
    frontend = site.frontend(**env)
    frontend.wait_for_model("tiny")
    assert frontend.chat("tiny")["choices"][0]["message"]["content"]
    assert [*frontend.stream("tiny")][-1] == "[DONE]"
    assert worker.stop() == 0
    assert site.records("v1/instances") == {}


def test_logins(tmp_path: Path) -> None:
    async def scenario(url: str) -> None:
        for settings, works in (
            (NatsSettings(server=url, token="open sesame"), True),
            (NatsSettings(server=url, token="wrong"), False),
            (NatsSettings(server=url), False),
        ):
            chosen = dataclasses.replace(over_nats(url), nats=settings)
            async with runtime_in(MemoryRegistry(), chosen) as there:
                endpoint = there.endpoint(ENDPOINT).id()
                if works:
                    await there.serve(endpoint, count)
                else:
                    with pytest.raises(CannotConnect) as raised:
                        await there.serve(endpoint, count)
                    assert "wrong" not in str(raised.value)
        missing = NatsSettings(server=url, credentials=tmp_path / "none.creds")
        async with runtime_in(
            MemoryRegistry(), dataclasses.replace(over_nats(url), nats=missing)
        ) as there:
            with pytest.raises(ConfigError, match=r"none\.creds"):
                await there.serve(there.endpoint(ENDPOINT).id(), count)

    with NatsServer(tmp_path, "--auth", "open sesame") as server:
        run(scenario(server.url))


def test_loopback_in_a_registry_that_others_see_is_refused() -> None:
    async def scenario() -> None:
        with pytest.raises(ConfigError, match="loopback"):
            DistributedRuntime(settings=loopback_settings(plane="loopback"))

    run(scenario())
