"""How a frontend chooses among instances, and what it says of those that get nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from muster.discovery.memory import MemoryRegistry
from muster.discovery.records import INSTANCES, Instance, Transport
from muster.frontend.report import ExclusionReport, FleetReport
from muster.runtime import RouterMode
from muster.testing.fleet import FleetSite, frontend, request_count, serve, worker
from muster.testing.loops import run
from muster.testing.tiny_model import write_tiny_model


async def complete(site: FleetSite, **headers: str) -> tuple[int, Any]:
    """Status and reply of a completion sent with these headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"model": "tiny", "prompt": "x"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{site.url}/v1/completions", json=body, headers=named) as reply,
    ):
        return reply.status, await reply.json()


async def excluded(site: FleetSite) -> tuple[ExclusionReport, ...]:
    _, content = await site.get("/v1/muster/models")
    (model,) = msgspec.convert(content, FleetReport).models
    return model.excluded


@pytest.mark.parametrize("mode", [mode for mode in RouterMode if mode is not RouterMode.DIRECT])
def test_every_mode_serves(model: Path, tmp_path: Path, mode: RouterMode) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            worker(registry) as one,
            worker(registry) as two,
            frontend(registry, tmp_path, router_mode=mode.value) as site,
        ):
            await serve(one, model)
            await serve(two, model)
            await site.listed("tiny")
            await site.until(lambda: len(site.fleet.table.instances()) == 2)
            for _ in range(4):
                assert await site.echo("here") == "here"
            assert request_count(one) + request_count(two) == 4

    run(scenario())


def test_in_mode_direct_the_request_names_its_instance(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            worker(registry) as one,
            worker(registry) as two,
            frontend(registry, tmp_path, router_mode="RouterMode.Direct") as site,
        ):
            await serve(one, model)
            await serve(two, model)
            await site.listed("tiny")
            await site.until(lambda: len(site.fleet.table.instances()) == 2)
            for _ in range(3):
                named = str(two.instance_id)
                status, _ = await complete(site, x_dynamo_worker_instance_id=named)
                assert status == 200
            status, _ = await complete(site, x_worker_instance_id=str(one.instance_id))
            assert status == 200
            assert (request_count(one), request_count(two)) == (1, 3)

            status, reply = await complete(site)
            assert status == 400
            assert "names no instance" in reply["error"]["message"]
            status, reply = await complete(site, x_dynamo_worker_instance_id="0x1f")
            assert status == 400
            assert "decimal" in reply["error"]["message"]
            status, reply = await complete(site, x_dynamo_worker_instance_id="12")
            assert status == 503
            assert "instance 12 does not serve 'tiny'" in reply["error"]["message"]

    run(scenario())


def test_in_other_modes_no_instance_may_be_named(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with worker(registry) as one, frontend(registry, tmp_path) as site:
            await serve(one, model)
            await site.listed("tiny")
            named = str(one.instance_id)
            status, reply = await complete(site, x_dynamo_worker_instance_id=named)
            assert status == 400
            assert "the router mode is round-robin" in reply["error"]["message"]

    run(scenario())


def test_instances_that_get_nothing_are_listed_with_the_reason(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write_tiny_model(other, context_length=1024)

    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            worker(registry) as good,
            worker(registry) as different,
            worker(registry) as bare,
            worker(registry) as gone,
            frontend(registry, tmp_path) as site,
        ):
            await serve(good, model)
            await site.listed("tiny")
            assert await excluded(site) == ()

            await serve(different, other)
            endpoint = bare.endpoint("ns.backend.generate").id()
            strange = Instance(
                namespace=endpoint.namespace,
                component=endpoint.component,
                endpoint=endpoint.name,
                instance_id=bare.instance_id,
                transport=Transport("quic", "10.0.0.1:5/x"),
            )
            await bare.discovery.register(INSTANCES, strange.key, strange.to_json())
            await serve(gone, model)
            ((key, value),) = [
                (key, value)
                for key, value in (await gone.discovery.list(INSTANCES)).items()
                if Instance.from_json(value).instance_id == gone.instance_id
            ]
            moved = msgspec.structs.replace(
                Instance.from_json(value), transport=Transport("tcp", "127.0.0.1:1/x")
            )
            await gone.discovery.register(INSTANCES, key, moved.to_json())
            await site.until(lambda: len(site.fleet.table.instances()) == 4)
            await site.until(lambda: len(site.unserved) == 1)
            for _ in range(2):  # one of them tries the instance that is not where it says
                assert await site.echo("x") == "x"

            told = {int(each.instance, 16): each for each in await excluded(site)}
            assert told.keys() == {each.instance_id for each in (different, bare, gone)}
            assert told[different.instance_id].reason.startswith(
                "its card is refused (incompatible): "
            )
            assert told[bare.instance_id] == ExclusionReport(
                instance=f"{bare.instance_id:x}",
                transport="quic",
                address="10.0.0.1:5",
                reason="it has registered no model",
            )
            assert "after a failure" in told[gone.instance_id].reason
            assert told[gone.instance_id].address == "127.0.0.1:1"

            await gone.discovery.deregister(INSTANCES, key)
            await site.until(lambda: len(site.fleet.table.instances()) == 3)
            told = {int(each.instance, 16): each for each in await excluded(site)}
            assert told[gone.instance_id].reason == "its instance is not in the registry"

    run(scenario())
