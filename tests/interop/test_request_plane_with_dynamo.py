"""Dynamo's Python bindings drive a Muster endpoint, and the other way round."""

from __future__ import annotations

import asyncio
import json
import textwrap
from typing import Any

import pytest

from muster.config.settings import Settings
from muster.errors import InvalidArgument, Unknown, WorkerUnavailable
from muster.runtime import Client, Context, DistributedRuntime
from muster.testing.loops import run
from muster.testing.site import Site
from muster.testing.waiting import wait_until

pytestmark = [pytest.mark.peer, pytest.mark.timeout(120)]

HANDLER = """
async def handler(request, context):
    if request.get("raise"):
        yield 0
        raise {"ValueError": ValueError, "RuntimeError": RuntimeError}[request["raise"]]("boom")
    if request.get("slow"):
        try:
            for number in range(1000):
                await asyncio.sleep(0.02)
                if context.is_stopped():
                    print("stopped", flush=True)
                    return
                yield number
        finally:
            print("slow ended", flush=True)
        return
    for number in range(request["n"]):
        yield {"number": number, "text": "é"}
"""

DYNAMO_WORKER = (
    "import asyncio, uvloop\nfrom dynamo.runtime import dynamo_worker\n"
    + HANDLER
    + """
@dynamo_worker()
async def main(runtime):
    await runtime.endpoint("interop.echo.generate").serve_endpoint(handler)
uvloop.run(main())
"""
)

MUSTER_WORKER = (
    "import asyncio, uvloop\nfrom muster.runtime import DistributedRuntime\n"
    + HANDLER
    + """
async def main():
    async with DistributedRuntime() as runtime:
        await runtime.endpoint("interop.echo.generate").serve_endpoint(handler)
uvloop.run(main())
"""
)

DYNAMO_CLIENT = """
import asyncio, json, uvloop
from dynamo.runtime import Context, dynamo_worker

@dynamo_worker()
async def main(runtime):
    client = await runtime.endpoint("interop.echo.generate").client()
    await client.wait_for_instances()
    found = {}
    async def items(request):
        return [item.data() async for item in await client.round_robin(request)]
    async def failure(request):
        try:
            await items(request)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    found["one"] = await items({"n": 1})
    found["thousand"] = [item["number"] for item in await items({"n": 1000})] == [*range(1000)]
    found["ValueError"] = await failure({"raise": "ValueError"})
    found["RuntimeError"] = await failure({"raise": "RuntimeError"})
    many = await asyncio.gather(*(items({"n": n % 7}) for n in range(200)))
    found["many"] = [len(each) for each in many] == [n % 7 for n in range(200)]
    context = Context("stop-me")
    seen = 0
    async for _ in await client.round_robin({"slow": True}, context=context):
        seen += 1
        if seen == 3:
            context.stop_generating()
    found["stopped_after"] = seen
    other = await runtime.endpoint("interop.echo.nothing").client()
    try:
        await other.direct({"n": 1}, client.instance_ids()[0])
    except Exception as error:
        found["unknown"] = str(error)
    print(json.dumps(found), flush=True)
    runtime.shutdown()
uvloop.run(main())
"""


@pytest.mark.parametrize("codec", ["msgpack", "json"])
def test_a_dynamo_client_drives_a_muster_endpoint(site: Site, codec: str) -> None:
    worker = site.script(MUSTER_WORKER, role="worker", DYN_REQUEST_PLANE_CODEC=codec)
    wait_until(lambda: site.records("v1/instances"), "endpoint registered")
    client = site.dynamo_script(DYNAMO_CLIENT, role="client")
    client.wait(60)
    found = json.loads(next(line for line in client.text().splitlines() if line.startswith("{")))
    assert found["one"] == [{"number": 0, "text": "é"}]
    assert found["thousand"]
    assert found["many"]
    assert "InvalidRequest: ValueError: boom" in found["ValueError"]
    assert "Internal: RuntimeError: boom" in found["RuntimeError"]
    assert 3 <= found["stopped_after"] < 20
    assert "not found" in found["unknown"]
    wait_until(lambda: "slow ended" in worker.text(), "handler stopped", timeout_s=5)
    assert "stopped" in worker.text()
    assert worker.stop() == 0
    assert site.records("v1/instances") == {}


async def items_of(client: Client, request: Any, context: Context | None = None) -> list[Any]:
    return [item.data() async for item in await client.round_robin(request, context=context)]


@pytest.mark.parametrize("codec", ["msgpack", "json"])
def test_a_muster_client_drives_a_dynamo_endpoint(site: Site, codec: str) -> None:
    worker = site.dynamo_script(DYNAMO_WORKER, role="worker", DYN_REQUEST_PLANE_CODEC=codec)
    settings = Settings.load(
        environ={
            "DYN_FILE_KV": str(site.registry),
            "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
        }
    )

    async def scenario() -> None:
        async with DistributedRuntime(settings=settings, handle_signals=False) as runtime:
            client = await runtime.endpoint("interop.echo.generate").client()
            await client.wait_for_instances(timeout=30)
            assert client.instances()[0].request_plane_codec == codec
            assert await items_of(client, {"n": 1}) == [{"number": 0, "text": "é"}]
            assert [i["number"] for i in await items_of(client, {"n": 1000})] == [*range(1000)]
            with pytest.raises(InvalidArgument, match="ValueError: boom"):
                await items_of(client, {"raise": "ValueError"})
            with pytest.raises(Unknown, match="RuntimeError: boom"):
                await items_of(client, {"raise": "RuntimeError"})
            many = await asyncio.gather(*(items_of(client, {"n": n % 7}) for n in range(200)))
            assert [len(each) for each in many] == [n % 7 for n in range(200)]
            for ask in (Context.stop_generating, Context.kill):
                context, seen = Context(), 0
                async for _ in await client.round_robin({"slow": True}, context=context):
                    seen += 1
                    if seen == 3:
                        ask(context)
                assert seen < 20
            nothing = await runtime.endpoint("interop.echo.nothing").client()
            with pytest.raises(WorkerUnavailable):
                await nothing.direct({"n": 1}, client.instance_ids()[0])

    run(scenario(), timeout_s=90)
    wait_until(lambda: worker.text().count("slow ended") == 2, "both stopped", timeout_s=10)


def test_a_dynamo_worker_refuses_an_unknown_path_and_we_say_so(site: Site) -> None:
    site.dynamo_script(DYNAMO_WORKER, role="worker")
    settings = Settings.load(environ={"DYN_FILE_KV": str(site.registry)})

    async def scenario() -> None:
        async with DistributedRuntime(settings=settings, handle_signals=False) as runtime:
            client = await runtime.endpoint("interop.echo.generate").client()
            await client.wait_for_instances(timeout=30)
            (instance,) = client.instances()
            record = instance.to_builtins() | {"endpoint": "other", "type": "Endpoint"}
            address = instance.transport.address.replace("/generate", "/other")
            record["transport"] = {"tcp": address}
            await runtime.discovery.register(
                "v1/instances",
                f"interop/echo/other/{instance.instance_id:x}",
                json.dumps(record).encode(),
            )
            other = await runtime.endpoint("interop.echo.other").client()
            await other.wait_for_instances(timeout=10)
            with pytest.raises(WorkerUnavailable, match="unknown endpoint"):
                await other.round_robin({"n": 1})

    run(scenario(), timeout_s=60)


def test_the_scripts_are_what_they_look_like() -> None:
    for script in (DYNAMO_WORKER, MUSTER_WORKER, DYNAMO_CLIENT):
        compile(textwrap.dedent(script), "script", "exec")
