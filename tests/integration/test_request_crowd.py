"""Thousands of requests at once between two processes, and fewer connections than they need."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pytest

from muster.testing.site import Site
from muster.testing.waiting import wait_until

pytestmark = pytest.mark.timeout(170)

WORKER = """
import asyncio, os, resource, uvloop
from muster.limits import raise_descriptor_limit
from muster.runtime import DistributedRuntime

raise_descriptor_limit()
if "NOFILE" in os.environ:
    limit = int(os.environ["NOFILE"])
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
held = [open(os.devnull) for _ in range(int(os.environ.get("HELD", 0)))]

async def handler(request, context):
    await asyncio.sleep(request["sleep"])
    for number in range(request["n"]):
        yield [request["id"], number]

async def main():
    async with DistributedRuntime() as runtime:
        await runtime.endpoint("crowd.echo.generate").serve_endpoint(handler)
uvloop.run(main())
"""

CLIENT = """
import asyncio, collections, json, os, resource, uvloop
from muster.errors import MusterError
from muster.limits import raise_descriptor_limit
from muster.runtime import DistributedRuntime

raise_descriptor_limit()
if "NOFILE" in os.environ:
    limit = int(os.environ["NOFILE"])
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
held = [open(os.devnull) for _ in range(int(os.environ.get("HELD", 0)))]
count, sleep = int(os.environ["COUNT"]), float(os.environ.get("SLEEP", 0))

async def main():
    async with DistributedRuntime() as runtime:
        client = await runtime.endpoint("crowd.echo.generate").client()
        (instance,) = await client.wait_for_instances(timeout=30)

        async def one(number, sleep):
            request = {"id": number, "n": number % 3 + 1, "sleep": sleep}
            try:
                items = [i async for i in await client.direct(request, instance, annotated=False)]
            except MusterError as error:
                return f"{type(error).__name__}: {error.diagnostics()}"
            right = items == [[number, each] for each in range(number % 3 + 1)]
            return "right" if right else f"wrong: {items}"

        found = collections.Counter(await asyncio.gather(*(one(n, sleep) for n in range(count))))
        after = [await one(n, 0) for n in range(3)]
    print("FOUND" + json.dumps([found, after]), flush=True)
uvloop.run(main())
"""

PATIENT = {
    "DYN_TCP_REQUEST_TIMEOUT": "60",
    "DYN_TCP_CONNECT_TIMEOUT": "60",
    "MUSTER_CALL_HOME_TIMEOUT_SECS": "60",
}
"""What fails here should not fail because the machine is slow."""


def found(
    site: Site, count: int, *, worker: dict[str, str], client: dict[str, str]
) -> tuple[dict[str, int], list[str]]:
    """How often each outcome came of ``count`` requests at once; outcomes of three afterwards."""
    site.script(WORKER, role="worker", **(PATIENT | worker))
    wait_until(lambda: site.records("v1/instances"), "endpoint registered")
    process = site.script(CLIENT, role="client", COUNT=str(count), **(PATIENT | client))
    process.wait(120)
    lines = [line for line in process.text().splitlines() if line.startswith("FOUND")]
    assert lines, process.text()[-3000:]
    outcomes, after = json.loads(lines[0].removeprefix("FOUND"))
    return outcomes, after


@pytest.mark.skipif(
    0 <= resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 10_000,
    reason="the system allows too few descriptors",
)
@pytest.mark.parametrize(
    ("worker", "client"),
    [
        ({}, {}),
        ({}, {"MUSTER_TCP_CONNECTIONS_PER_HOST": "1"}),
        ({"DYN_ENGINE_REQUEST_LIMIT": "100"}, {}),
    ],
    ids=["by default", "one connection", "a hundred places"],
)
def test_eight_thousand_requests_at_once_are_all_answered(
    site: Site, worker: dict[str, str], client: dict[str, str]
) -> None:
    outcomes, after = found(site, 8000, worker=worker, client=client)
    assert outcomes == {"right": 8000}
    assert after == ["right"] * 3


def is_expected(outcomes: dict[str, int], words: str) -> bool:
    """Whether what did not go right says ``words``, and there are both."""
    failures = [outcome for outcome in outcomes if outcome != "right"]
    assert all(words in failure for failure in failures), failures
    return bool(failures) and outcomes["right"] > 0


def test_a_worker_refuses_what_it_has_no_descriptors_for(site: Site) -> None:
    limited = {"NOFILE": "200"}
    outcomes, after = found(site, 600, worker=limited, client={"SLEEP": "1"})
    assert is_expected(outcomes, "Overloaded: Server overloaded: worker at capacity")
    assert outcomes["right"] >= 100
    assert after == ["right"] * 3


def test_a_caller_without_descriptors_for_its_responses_says_so(site: Site) -> None:
    limited = {"NOFILE": "200", "SLEEP": "1"}
    outcomes, after = found(site, 600, worker={}, client=limited)
    assert is_expected(outcomes, "ulimit -n")
    assert outcomes["right"] >= 100
    assert after == ["right"] * 3


@pytest.mark.parametrize("short", ["worker", "client"])
def test_descriptors_that_others_hold_end_in_an_error_and_nothing_hangs(
    site: Site, short: str
) -> None:
    """The bound is an estimate: where it is wrong, the deadline of the connection back holds."""
    few = {"NOFILE": "200", "HELD": "120"}
    client = {
        "SLEEP": "3",
        "MUSTER_CALL_HOME_TIMEOUT_SECS": "2",
        "MUSTER_SHARED_RESPONSES": "0",  # with one connection for all there is nothing to run out of
    }
    outcomes, after = found(
        site,
        120,
        worker=few if short == "worker" else {},
        client=client | (few if short == "client" else {}),
    )
    assert is_expected(outcomes, "did not connect back")
    assert after == ["right"] * 3


def test_the_scripts_are_what_they_look_like(tmp_path: Path) -> None:
    for script in (WORKER, CLIENT):
        code: Any = compile(script, "script", "exec")
        assert code.co_names
