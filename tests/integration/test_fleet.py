"""A frontend's fleet over real worker runtimes in one process (rows F1-F8 where they meet)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from muster.config.settings import CacheSettings, FetchSettings, HttpSettings, Settings
from muster.content.store import BlobStore
from muster.discovery.memory import MemoryRegistry
from muster.discovery.records import MODELS, ModelRecord
from muster.errors import CardError
from muster.frontend.fleet import Fleet
from muster.frontend.model_table import ModelStatus
from muster.frontend.server import Frontend
from muster.model.card import ModelDeploymentCard
from muster.model.fetch import CardFetcher
from muster.model.model_type import ModelInput, ModelType, WorkerType
from muster.model.publish import register_model, unregister_model
from muster.runtime import DistributedRuntime
from muster.testing.loops import run
from muster.testing.metadata_server import MetadataServer, right
from muster.testing.runtimes import loopback_settings, runtime_in
from muster.testing.tiny_model import write_tiny_model
from muster.worker.engines.echo import EchoEngine

SURFACES = ModelType.Chat | ModelType.Completions


@pytest.fixture
def other_model(tmp_path: Path) -> Path:
    directory = tmp_path / "other"
    directory.mkdir()
    return write_tiny_model(directory, context_length=1024)


@contextlib.asynccontextmanager
async def worker(registry: MemoryRegistry) -> AsyncIterator[DistributedRuntime]:
    async with runtime_in(registry, loopback_settings(system_port=0)) as runtime:
        yield runtime


async def serve(
    runtime: DistributedRuntime,
    path: Path,
    name: str = "tiny",
    endpoint: str = "ns.backend.generate",
    model_input: ModelInput = ModelInput.Tokens,
    **more: Any,
) -> None:
    """Serve an echo of the model at ``path``."""
    at = runtime.endpoint(endpoint)
    await runtime.serve(at.id(), EchoEngine().generate)
    await register_model(
        model_input, SURFACES, at, path, name, worker_type=WorkerType.Aggregated, **more
    )


class Site:
    """A frontend on a registry."""

    def __init__(self, fleet: Fleet, frontend: Frontend, cache: Path) -> None:
        self.fleet = fleet
        self.cache = cache
        self.url = f"http://127.0.0.1:{frontend.port}"

    @property
    def models(self) -> list[str]:
        return [model.name for model in self.fleet.table.models()]

    @property
    def unserved(self) -> list[ModelStatus]:
        return list(self.fleet.table.unserved())

    async def until(self, check: Callable[[], bool], timeout_s: float = 10.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not check():  # noqa: ASYNC110 - a table tells nobody when it changes
                await asyncio.sleep(0.01)

    async def listed(self, *names: str) -> None:
        await self.until(lambda: sorted(self.models) == sorted(names))

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.url + path, json=body) as reply,
        ):
            return reply.status, await reply.json()

    async def get(self, path: str) -> tuple[int, Any]:
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as reply:
            return reply.status, await reply.json()

    async def echo(self, text: str, model: str = "tiny") -> str:
        status, reply = await self.post("/v1/completions", {"model": model, "prompt": text})
        assert status == 200, reply
        answer: str = reply["choices"][0]["text"]
        return answer


@contextlib.asynccontextmanager
async def frontend(registry: MemoryRegistry, tmp_path: Path, **http: Any) -> AsyncIterator[Site]:
    settings: Settings = dataclasses.replace(
        loopback_settings(),
        http=HttpSettings(host="127.0.0.1", port=0, drain_timeout_s=1.0, **http),
        cache=CacheSettings(directory=tmp_path / "cache"),
        fetch=FetchSettings(retry_max_s=0.1, connect_timeout_s=2.0, card_timeout_s=10.0),
    )
    store = BlobStore(tmp_path / "cache")
    store.prepare()
    async with (
        runtime_in(registry, settings) as runtime,
        CardFetcher(store, settings.fetch) as fetcher,
        asyncio.TaskGroup() as group,
    ):
        fleet = Fleet(runtime, fetcher)
        server = Frontend(settings.http, fleet.table)
        await server.start()
        watching = group.create_task(fleet.run())
        yield Site(fleet, server, tmp_path / "cache")
        watching.cancel()
        await server.close()


def test_f1_to_f7_a_model_is_fetched_verified_listed_and_answers(
    model: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with frontend(registry, tmp_path) as site, worker(registry) as runtime:
            assert await site.get("/v1/models") == (200, {"object": "list", "data": []})
            await serve(runtime, model, model_aliases=["wee"])
            await site.listed("tiny")
            assert await site.echo("hello, sea") == "hello, sea"
            assert await site.echo("hello", model="wee") == "hello"
            assert (await site.get("/health"))[1]["status"] == "healthy"
            views = [*(site.cache / "by-slug" / "tiny").iterdir()]
            assert len(views) == 1
            assert {link.name for link in views[0].iterdir()} == {
                path.name for path in model.iterdir()
            }
            blobs = {path.read_bytes() for path in (site.cache / "blobs").iterdir()}
            assert blobs == {path.read_bytes() for path in model.iterdir()}

    run(scenario())


def test_a_model_leaves_with_its_last_worker(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with frontend(registry, tmp_path) as site:
            async with worker(registry) as first:
                await serve(first, model)
                async with worker(registry) as second:
                    await serve(second, model)
                    await site.listed("tiny")
                await asyncio.sleep(0.1)
                assert site.models == ["tiny"]
                assert await site.echo("still here") == "still here"
            await site.listed()
            status, body = await site.post("/v1/completions", {"model": "tiny", "prompt": "x"})
            assert (status, body["error"]["code"]) == (404, "model_not_found")

    run(scenario())


def test_a_different_card_is_refused_with_its_reason_then_takes_over(
    model: Path, other_model: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with frontend(registry, tmp_path) as site, worker(registry) as late:
            async with worker(registry) as first:
                await serve(first, model)
                await site.listed("tiny")
                await serve(late, other_model)
                await site.until(lambda: bool(site.fleet.refusals()))
                (refused,) = site.fleet.refusals()
                assert (refused.model, refused.state) == ("tiny", "refused")
                assert "mdcsum" in refused.message
                status, health = await site.get("/health")
                assert (status, health["status"]) == (200, "degraded")
                assert [entry["state"] for entry in health["models"]] == ["ready", "refused"]
                assert health["models"][1]["mdcsum"] == refused.mdcsum
                served = site.fleet.table.get("tiny")
                assert served.context_length == 2048
                for _ in range(4):
                    assert await site.echo("first") == "first"
            await site.until(
                lambda: (
                    (found := site.fleet.table.find("tiny")) is not None
                    and found.context_length == 1024
                )
            )
            assert await site.echo("second") == "second"
            assert site.fleet.refusals() == []
            assert (await site.get("/health"))[1]["status"] == "healthy"

    run(scenario())


def hosted_at(server: MetadataServer, model: Path, name: str = "tiny") -> ModelDeploymentCard:
    """A card of ``model`` whose files are at ``server``."""
    card = ModelDeploymentCard.load(model, name)
    card = msgspec.structs.replace(
        card,
        model_type=SURFACES,
        model_input=ModelInput.Tokens,
        worker_type=WorkerType.Aggregated,
        source_path=str(model),
    )
    return card.replace_files(lambda file: file.with_url(server.url("/" + (file.basename() or ""))))


async def publish(runtime: DistributedRuntime, card: ModelDeploymentCard, number: int = 1) -> None:
    record = ModelRecord(
        namespace="ns",
        component="backend",
        endpoint="generate",
        instance_id=number,
        card_json=msgspec.Raw(card.to_json_str().encode()),
    )
    await runtime.discovery.register(MODELS, record.key, record.to_json())


def test_a_failing_fetch_is_visible_and_retried_until_it_works(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            MetadataServer() as server,
            frontend(registry, tmp_path) as site,
            worker(registry) as runtime,
        ):
            card = hosted_at(server, model)
            await runtime.serve(runtime.endpoint("ns.backend.generate").id(), EchoEngine().generate)
            await publish(runtime, card, runtime.instance_id)
            await site.until(lambda: any(s.state == "retrying" for s in site.unserved))
            (status,) = site.unserved
            assert status.model == "tiny"
            assert "404 Not Found" in status.message
            assert "attempt" in status.message
            code, health = await site.get("/health")
            assert (code, health["status"]) == (503, "unavailable")
            assert "404 Not Found" in health["message"]
            code, body = await site.post("/v1/completions", {"model": "tiny", "prompt": "x"})
            assert code == 503
            assert "404 Not Found" in body["error"]["message"]
            for path in model.iterdir():
                server.add(f"/{path.name}", right(path.read_bytes()))
            await site.listed("tiny")
            assert await site.echo("at last") == "at last"

    run(scenario())


def test_when_the_first_replicas_files_are_out_of_reach_the_seconds_are_taken(
    model: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with worker(registry) as runtime:
            await serve(runtime, model)
            (value,) = (await runtime.discovery.list(MODELS)).values()
            good = json.loads(value)["card_json"]
            dead = json.loads(
                json.dumps(good).replace(f"{runtime.status_url}/", "http://127.0.0.1:1/")
            )
            await publish(runtime, ModelDeploymentCard.from_json_str(json.dumps(dead)))
            async with frontend(registry, tmp_path) as site:
                await site.listed("tiny")
                assert await site.echo("good") == "good"

    run(scenario())


def test_a_broken_tokenizer_is_named_and_hurts_nobody_else(
    model: Path, other_model: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        (other_model / "tokenizer.json").write_text('{"version": "1.0"')
        async with frontend(registry, tmp_path) as site, worker(registry) as runtime:
            await serve(runtime, other_model, "broken", "ns.other.generate")
            await serve(runtime, model)
            await site.listed("tiny")
            await site.until(lambda: any(s.state == "retrying" for s in site.unserved))
            (status,) = site.unserved
            assert (status.model, status.reason) == ("broken", CardError.code)
            assert "tokenizer.json" in status.message
            assert (await site.get("/health"))[1]["status"] == "degraded"

    run(scenario())


def test_a_card_that_cannot_be_read_is_refused_with_its_reason(tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with frontend(registry, tmp_path) as site, worker(registry) as runtime:
            record = {
                "type": "Model",
                "namespace": "ns",
                "component": "c",
                "endpoint": "e",
                "instance_id": 5,
                "card_json": {"display_name": "odd"},
            }
            await runtime.discovery.register(MODELS, "ns/c/e/5", msgspec.json.encode(record))
            await site.until(lambda: bool(site.unserved))
            (status,) = site.unserved
            assert (status.model, status.state) == ("odd", "refused")
            assert "slug" in status.message

    run(scenario())


def test_workers_that_take_text_are_not_served_and_say_so(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with frontend(registry, tmp_path) as site, worker(registry) as runtime:
            await serve(runtime, model, model_input=ModelInput.Text)
            await site.until(lambda: any(s.state == "retrying" for s in site.unserved))
            assert "take Text" in site.unserved[0].message

    run(scenario())


def test_two_namespaces_with_one_model_share_its_requests(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            frontend(registry, tmp_path) as site,
            worker(registry) as one,
            worker(registry) as two,
        ):
            await serve(one, model, endpoint="blue.backend.generate")
            await serve(two, model, endpoint="green.backend.generate")
            await site.listed("tiny")
            await site.until(lambda: len(site.fleet.table.instances()) == 2)
            for _ in range(10):
                await site.echo("x")
            assert [_requests(one), _requests(two)] == [5, 5]
            await unregister_model(two.endpoint("green.backend.generate"))
            await site.until(lambda: len(site.fleet.groups()) == 1)
            for _ in range(4):
                await site.echo("x")
            assert [_requests(one), _requests(two)] == [9, 5]

    run(scenario())


def test_w8_replicas_serve_together_whatever_scheme_each_advertises(
    model: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            frontend(registry, tmp_path) as site,
            worker(registry) as hosting,
            worker(registry) as sharing,
        ):
            await serve(hosting, model)
            await serve(sharing, model, self_host_metadata=False)
            await site.listed("tiny")
            await site.until(lambda: len(site.fleet.table.instances()) == 2)
            for _ in range(6):
                await site.echo("x")
            assert [_requests(hosting), _requests(sharing)] == [3, 3]
            assert site.fleet.refusals() == []

    run(scenario())


def test_t1_two_replicas_behind_two_frontends_with_one_cache(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with worker(registry) as one, worker(registry) as two:
            await serve(one, model)
            await serve(two, model)
            async with (
                frontend(registry, tmp_path) as first,
                frontend(registry, tmp_path) as second,
            ):
                for site in (first, second):
                    await site.listed("tiny")
                    assert await site.echo("hello") == "hello"
            names = [path.name for path in (tmp_path / "cache").rglob("*")]
            assert not [name for name in names if ".tmp." in name]
            assert len([*(tmp_path / "cache" / "blobs").iterdir()]) == len([*model.iterdir()])

    run(scenario())


def _requests(runtime: DistributedRuntime) -> float:
    name = "dynamo_component_requests_total"
    return sum(
        sample.value
        for family in runtime.metrics.collect()
        for sample in family.samples
        if sample.name == name
    )


def test_only_the_namespace_asked_for_is_served(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            frontend(registry, tmp_path, namespace="blue") as site,
            worker(registry) as runtime,
        ):
            await serve(runtime, model, "green", "green.backend.generate")
            await serve(runtime, model, "blue", "blue.backend.generate")
            await site.listed("blue")
            assert site.unserved == []

    run(scenario())


def test_f8_a_restart_needs_no_source(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with MetadataServer() as server, worker(registry) as runtime:
            for path in model.iterdir():
                server.add(f"/{path.name}", right(path.read_bytes()))
            await publish(runtime, hosted_at(server, model))
            async with frontend(registry, tmp_path) as site:
                await site.listed("tiny")
            asked = len(server.requests)
            async with frontend(registry, tmp_path) as site:
                await site.listed("tiny")
            assert len(server.requests) == asked > 0

    run(scenario())
