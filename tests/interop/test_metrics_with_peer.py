"""A Muster worker's ``/metrics`` beside a real Dynamo worker's: names, types, labels, buckets."""

from __future__ import annotations

import urllib.request
from dataclasses import dataclass, field
from functools import partial

import pytest
from prometheus_client.parser import text_string_to_metric_families

from muster.config.settings import Settings
from muster.runtime import DistributedRuntime
from muster.testing.loops import run
from muster.testing.ports import free_port
from muster.testing.site import Site
from muster.testing.waiting import wait_until

pytestmark = [pytest.mark.peer, pytest.mark.timeout(120)]

PATHS = [
    "exp-ns.back-end.gen-erate",
    "ns.9 x;y.Other",
    "ns.--two.__x",
    "ns.-é-x.-9_x é+y:z",
    "1.1日x.ab",
]
HANDLER = f"""
PATHS = {PATHS!r}
async def handler(request, context):
    for number in range(request["n"]):
        yield number
async def serve(runtime):
    await asyncio.gather(*(runtime.endpoint(path).serve_endpoint(handler) for path in PATHS))
"""
DYNAMO_WORKER = f"""
import asyncio, uvloop
from dynamo.runtime import dynamo_worker
{HANDLER}
@dynamo_worker()
async def main(runtime):
    await serve(runtime)
uvloop.run(main())
"""
MUSTER_WORKER = f"""
import asyncio, uvloop
from muster.runtime import DistributedRuntime
{HANDLER}
async def main():
    async with DistributedRuntime() as runtime:
        await serve(runtime)
uvloop.run(main())
"""

LATER = "dynamo_component_errors"
"""There only once there was an error."""


@dataclass
class Family:
    """What a reader of the page can rely on."""

    kind: str
    label_names: set[str] = field(default_factory=set)
    bounds: set[float] = field(default_factory=set)


@dataclass
class Page:
    """A worker's page, with its worker id replaced, and the endpoints it has requests of."""

    families: dict[str, Family] = field(default_factory=dict)
    endpoints: set[tuple[str, ...]] = field(default_factory=set)
    counts: dict[tuple[str, str], float] = field(default_factory=dict)
    worker_ids: set[str] = field(default_factory=set)


def read_page(text: str) -> Page:
    page = Page()
    for family in text_string_to_metric_families(text):
        if not family.name.startswith("dynamo_"):
            continue
        about = page.families.setdefault(family.name, Family(family.type))
        for sample in family.samples:
            labels = dict(sample.labels)
            about.label_names |= set(labels)
            if "le" in labels:
                about.bounds.add(float(labels["le"]))
            if "worker_id" in labels:
                page.worker_ids.add(labels["worker_id"])
            if "dynamo_endpoint" in labels:
                place = [labels[f"dynamo_{level}"] for level in ("namespace", "component")]
                page.endpoints.add((*place, labels["dynamo_endpoint"]))
                page.counts[sample.name, labels["dynamo_endpoint"]] = sample.value
    return page


def fetch(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        return str(reply.read().decode())


@pytest.fixture
def ports(site: Site) -> tuple[int, int]:
    """Status servers of a Dynamo worker and a Muster worker that have each answered three requests."""
    dynamo, muster = free_port(), free_port()
    site.dynamo_script(DYNAMO_WORKER, role="dynamo", DYN_SYSTEM_PORT=str(dynamo))
    site.script(MUSTER_WORKER, role="muster", DYN_SYSTEM_PORT=str(muster))
    settings = Settings.load(
        environ={"DYN_FILE_KV": str(site.registry), "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1"}
    )
    wait_until(lambda: len(site.records("v1/instances")) == 2 * len(PATHS), "all registered")

    async def scenario() -> None:
        async with DistributedRuntime(settings=settings, handle_signals=False) as runtime:
            client = await runtime.endpoint(PATHS[0]).client()
            await client.wait_for_instances(timeout=30)
            for instance in client.instance_ids():
                for n in (1, 2, 3):
                    stream = await client.direct({"n": n}, instance)
                    assert len([item async for item in stream]) == n

    run(scenario(), timeout_s=60)
    return dynamo, muster


def test_c9_families_types_labels_and_buckets_are_the_peers(
    site: Site, ports: tuple[int, int]
) -> None:
    theirs, ours = (read_page(fetch(port)) for port in ports)
    for page in (theirs, ours):
        page.families.pop(LATER, None)
    assert len(theirs.families) > 15
    assert ours.families == theirs.families


def test_c9_names_become_the_labels_the_peer_makes_of_them(
    site: Site, ports: tuple[int, int]
) -> None:
    theirs, ours = (read_page(fetch(port)) for port in ports)
    assert len(theirs.endpoints) == len(PATHS)
    assert ours.endpoints == theirs.endpoints
    ids = {f"{record['instance_id']:x}" for record in site.records("v1/instances").values()}
    assert theirs.worker_ids | ours.worker_ids == ids
    assert len(ids) == 2


def test_c9_requests_are_counted_as_the_peer_counts_them(
    site: Site, ports: tuple[int, int]
) -> None:
    names = [
        "dynamo_component_requests_total",
        "dynamo_component_request_duration_seconds_count",
        "dynamo_component_inflight_requests",
        "dynamo_component_cancellation_total",
    ]

    def all_over(port: int) -> bool:
        page = read_page(fetch(port))
        return [page.counts[name, "gen_erate"] for name in names] == [3, 3, 0, 0]

    for port in ports:
        wait_until(partial(all_over, port), "three requests, all over")
