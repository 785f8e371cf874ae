"""Requests over a real NATS server between Dynamo 1.6.1 and Muster, both directions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster.testing.nats_server import NatsServer
from muster.testing.site import Site
from muster.testing.tiny_model import write_tiny_model
from muster.testing.waiting import wait_until

pytestmark = [
    pytest.mark.peer,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not NatsServer.is_installed(), reason="there is no nats-server here"),
]

HANDLER = """
async def handler(request, context):
    if request.get("raise"):
        yield 0
        raise ValueError("boom")
    if request.get("slow"):
        try:
            for number in range(1000):
                await asyncio.sleep(0.02)
                if context.is_stopped():
                    return
                yield number
        finally:
            print("slow ended", flush=True)
        return
    for number in range(request["n"]):
        yield {"number": number, "text": "é"}
"""

WORKER = """
import asyncio, uvloop
from RUNTIME import dynamo_worker
HANDLER
@dynamo_worker()
async def main(runtime):
    await runtime.endpoint("interop.echo.generate").serve_endpoint(handler)
uvloop.run(main())
"""

CLIENT = """
import asyncio, json, uvloop
from RUNTIME import Context, dynamo_worker

@dynamo_worker()
async def main(runtime):
    client = await runtime.endpoint("interop.echo.generate").client()
    await client.wait_for_instances()
    found = {}
    async def items(request):
        return [item.data() async for item in await client.round_robin(request)]
    found["one"] = await items({"n": 1})
    found["many"] = [len(each) for each in await asyncio.gather(*(items({"n": n % 7}) for n in range(100)))]
    try:
        await items({"raise": True})
    except Exception as error:
        found["error"] = str(error)
    context, seen = Context("stop-me"), 0
    async for _ in await client.round_robin({"slow": True}, context=context):
        seen += 1
        if seen == 3:
            context.stop_generating()
    found["stopped_after"] = seen
    print(json.dumps(found), flush=True)
    runtime.shutdown()
uvloop.run(main())
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with NatsServer(tmp_path) as server:
        yield server


@pytest.mark.parametrize(("worker", "client"), [("dynamo", "muster"), ("muster", "dynamo")])
def test_workers_and_clients_of_either_kind_talk_over_nats(
    site: Site, server: NatsServer, worker: str, client: str
) -> None:
    env = {"DYN_REQUEST_PLANE": "nats", "NATS_SERVER": server.url}

    def start(kind: str, code: str, role: str) -> object:
        code = code.replace("HANDLER", HANDLER).replace("RUNTIME", f"{kind}.runtime")
        return getattr(site, {"dynamo": "dynamo_script", "muster": "script"}[kind])(
            code, role=role, **env
        )

    start(worker, WORKER, "worker")
    wait_until(lambda: site.records("v1/instances"), "endpoint registered")
    (record,) = site.records("v1/instances").values()
    assert record["transport"] == {"nats_tcp": f"interop_echo.generate-{record['instance_id']:x}"}
    start(client, CLIENT, "client")
    caller = site.processes[-1]
    caller.wait(60)
    line = next((line for line in caller.text().splitlines() if line.startswith("{")), None)
    assert line is not None, caller.text()
    found = json.loads(line)
    assert found["one"] == [{"number": 0, "text": "é"}]
    assert found["many"] == [n % 7 for n in range(100)]
    assert "boom" in found["error"]
    assert 3 <= found["stopped_after"] < 20
    slow = site.processes[0]
    wait_until(lambda: "slow ended" in slow.text(), "handler stopped", timeout_s=5)


@pytest.mark.parametrize("worker", ["dynamo", "muster"])
def test_a_model_is_served_over_nats_by_the_other_s_frontend(
    site: Site, server: NatsServer, tmp_path: Path, worker: str
) -> None:
    directory = tmp_path / "model"
    directory.mkdir()
    model = write_tiny_model(directory)
    env = {"DYN_REQUEST_PLANE": "nats", "NATS_SERVER": server.url}
    if worker == "muster":
        site.worker(model, "tiny", "--system-port", "0", **env)
        frontend = site.dynamo_frontend("--request-plane", "nats", **env)
    else:
        site.dynamo_worker(model, "tiny", "--request-plane", "nats", **env)
        frontend = site.frontend(**env, MUSTER_FETCH_ALLOW="127.0.0.1")
    frontend.wait_for_model("tiny")
    assert frontend.chat("tiny")["choices"][0]["finish_reason"]
    assert [*frontend.stream("tiny")][-1] == "[DONE]"
