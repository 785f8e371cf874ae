"""A frontend's fleet over real worker runtimes in one process (rows F1-F8 where they meet)."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import msgspec
import pytest

from muster.discovery.memory import MemoryRegistry
from muster.discovery.records import MODELS
from muster.errors import CardError
from muster.model.card import ModelDeploymentCard
from muster.model.model_type import ModelInput
from muster.model.publish.register import unregister_model
from muster.testing.fleet import frontend, hosted_at, publish, request_count, serve, worker
from muster.testing.loops import run
from muster.testing.metadata_server import MetadataServer, right
from muster.testing.tiny_model import write_tiny_model
from muster.worker.engines.echo import EchoEngine


@pytest.fixture
def other_model(tmp_path: Path) -> Path:
    directory = tmp_path / "other"
    directory.mkdir()
    return write_tiny_model(directory, context_length=1024)


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
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

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
            assert "will try again" not in caplog.text
            assert "will try again" not in caplog.text  # the first attempt did it

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
            await site.until(lambda: len(site.fleet.groups()) == 2)
            for _ in range(10):
                await site.echo("x")
            assert [request_count(one), request_count(two)] == [5, 5]
            await unregister_model(two.endpoint("green.backend.generate"))
            await site.until(lambda: len(site.fleet.groups()) == 1)
            for _ in range(4):
                await site.echo("x")
            assert [request_count(one), request_count(two)] == [9, 5]

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
            assert [request_count(hosting), request_count(sharing)] == [3, 3]
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
            # What a thread had begun when its frontend left, it ends by itself.
            await first.until(
                lambda: (
                    not any(
                        ".tmp." in name
                        for _, directories, files in os.walk(tmp_path / "cache")
                        for name in (*directories, *files)
                    )
                )
            )
            assert len([*(tmp_path / "cache" / "blobs").iterdir()]) == len([*model.iterdir()])

    run(scenario())


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
