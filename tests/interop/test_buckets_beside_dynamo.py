"""Documents and watched keys on a registry that Dynamo uses too: it is not disturbed."""

from __future__ import annotations

import pytest

from muster.testing.site import Site
from muster.testing.waiting import wait_until

pytestmark = [pytest.mark.peer, pytest.mark.timeout(120)]

DYNAMO_WORKER = """
import uvloop
from dynamo.runtime import dynamo_worker

async def handler(request):
    yield request

@dynamo_worker()
async def main(runtime):
    await runtime.endpoint("interop.backend.generate").serve_endpoint(handler)

uvloop.run(main())
"""

MUSTER_NEIGHBOUR = """
import asyncio, uvloop
from muster.runtime import dynamo_worker

@dynamo_worker()
async def main(runtime):
    component = runtime.namespace("interop").component("backend")
    await component.publish_document("how it was made / é", {"engine": "echo"})
    await component.write_key("scale", 3)
    print(await component.list_documents(), flush=True)
    await runtime.wait_closed()

uvloop.run(main())
"""

DYNAMO_CLIENT = """
import json, uvloop
from dynamo.runtime import dynamo_worker

@dynamo_worker()
async def main(runtime):
    client = await runtime.endpoint("interop.backend.generate").client()
    await client.wait_for_instances()
    found = [item.data() async for item in await client.round_robin({"a": 1})]
    print(json.dumps([client.instance_ids(), found]), flush=True)
    runtime.shutdown()

uvloop.run(main())
"""


def test_c10_c11_dynamo_does_not_mind_our_buckets(site: Site) -> None:
    before = site.dynamo_script(DYNAMO_WORKER, role="before", DYN_LOG="warn")
    wait_until(lambda: len(site.records("v1/instances")) == 1, "worker registered")
    neighbour = site.script(MUSTER_NEIGHBOUR, role="neighbour")
    wait_until(lambda: site.records("v1/documents") and site.records("v1/watched"), "written")
    after = site.dynamo_script(DYNAMO_WORKER, role="after", DYN_LOG="warn")
    wait_until(lambda: len(site.records("v1/instances")) == 2, "second worker registered")
    for round_ in range(2):
        client = site.dynamo_script(DYNAMO_CLIENT, role=f"client{round_}", DYN_LOG="warn")
        assert client.wait(60) == 0, client.text()
        assert '[{"a": 1}]' in client.text()
        assert neighbour.is_running()
        for process in (before, after, client):
            assert "document" not in process.text()
            assert "watched" not in process.text()
    assert len(site.records("v1/documents")) == len(site.records("v1/watched")) == 1
    assert neighbour.stop() == 0
    assert site.records("v1/documents") == site.records("v1/watched") == {}
    assert before.is_running()
    assert after.is_running()
