"""Sessions that are remembered, instances that are busy, and what cards say of both, over real workers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from muster.config.settings import GuardSettings
from muster.discovery.memory import MemoryRegistry
from muster.llm.protocol import EngineRequest, as_request
from muster.model.model_type import ModelInput, ModelType, WorkerType
from muster.model.publish.register import register_model
from muster.model.router_config import LoadThresholdConfig, RouterConfig, SessionAffinityMode
from muster.model.router_config import RouterMode as CardRouterMode
from muster.model.runtime_config import ModelRuntimeConfig
from muster.runtime import Context
from muster.testing.counting import CountingEngine
from muster.testing.fleet import (
    FleetSite,
    frontend,
    hosted_at,
    publish,
    request_count,
    serve,
    worker,
)
from muster.testing.loops import run
from muster.testing.metadata_server import MetadataServer, right

HOLD = 99
"""A prompt of so many letters is not answered until it is let go."""


class HoldingEngine(CountingEngine):
    """Keeps long prompts waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.holding = asyncio.Event()
        self.let_go = asyncio.Event()

    async def generate(
        self, request: EngineRequest | dict[str, Any], context: Context
    ) -> AsyncGenerator[dict[str, Any], None]:
        typed = request if isinstance(request, EngineRequest) else as_request(request)
        if len(typed.token_ids) >= HOLD:
            self.holding.set()
            await self.let_go.wait()
        async for item in super().generate(request, context):
            yield item


async def ask(
    site: FleetSite, session: str = "", *, hold: bool = False, path: str = "/v1/completions"
) -> tuple[int, dict[str, Any]]:
    """Status, and what ``x-muster-trace`` says of where the request went."""
    text = "x" * HOLD if hold else "x"
    body: dict[str, Any] = {"model": "tiny", "max_tokens": 2}
    match path:
        case "/v1/completions":
            body["prompt"] = text
        case "/v1/responses":
            body |= {"input": text, "max_output_tokens": 2}
            del body["max_tokens"]
        case _:
            body["messages"] = [{"role": "user", "content": text}]
    headers = {"x-muster-trace": "1", **({"x-session-id": session} if session else {})}
    async with (
        aiohttp.ClientSession() as client,
        client.post(site.url + path, json=body, headers=headers) as reply,
    ):
        await reply.read()
        trace = reply.headers.get("x-muster-trace")
        return reply.status, json.loads(trace)["prompts"][0] if trace else {}


async def members(site: FleetSite, count: int) -> None:
    """Wait until the model is served by so many."""
    async with asyncio.timeout(20):
        while True:
            _, content = await site.get("/v1/muster/models")
            replicas = [one for each in content["models"] for one in each["replicas"]]
            served = sum(one["state"] == "serving" for one in replicas)
            if served == len(site.fleet.table.instances()) == count:
                return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("header", ["x-session-id", "x-dynamo-session-id"])
def test_a_session_is_one_on_every_surface(model: Path, tmp_path: Path, header: str) -> None:
    paths = ("/v1/completions", "/v1/chat/completions", "/v1/messages", "/v1/responses")

    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            worker(registry) as one,
            worker(registry) as two,
            frontend(registry, tmp_path) as site,
        ):
            for each in (one, two):
                await serve(each, model, engine=CountingEngine())
            await members(site, 2)
            for session in ("a", "b", "c", "d"):
                seen = [await ask(site, session, path=path) for path in paths]
                assert {status for status, _ in seen} == {200}
                assert len({prompt["instance"] for _, prompt in seen}) == 1
                assert {prompt["session"] for _, prompt in seen} == {"home"}

    run(scenario())


@pytest.mark.parametrize("ttl_s", [None, 600])
def test_a_session_that_is_remembered_stays_when_another_instance_comes(
    model: Path, tmp_path: Path, ttl_s: int | None
) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            worker(registry) as one,
            worker(registry) as two,
            frontend(registry, tmp_path, session_affinity_ttl_s=ttl_s) as site,
        ):
            await serve(one, model, engine=CountingEngine())
            await members(site, 1)
            sessions = [f"session {number}" for number in range(40)]
            for session in sessions:
                await ask(site, session)
            await serve(two, model, engine=CountingEngine())
            await members(site, 2)
            for session in sessions:
                await ask(site, session)
            assert bool(request_count(two)) == (ttl_s is None)

    run(scenario())


@pytest.mark.parametrize("mode", ["hard", "soft"])
def test_a_busy_instance_keeps_its_hard_sessions_and_lends_its_soft_ones(
    model: Path, tmp_path: Path, mode: str
) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        guard = GuardSettings(active_prefill_tokens=HOLD // 2)
        settings: dict[str, Any] = {"session_affinity_ttl_s": 600, "session_affinity_mode": mode}
        async with (
            worker(registry) as one,
            worker(registry) as two,
            frontend(registry, tmp_path, guard=guard, **settings) as site,
        ):
            engines = [HoldingEngine(), HoldingEngine()]
            for each, engine in zip((one, two), engines, strict=True):
                await serve(each, model, engine=engine)
            await members(site, 2)
            _, first = await ask(site, "mine")
            held = asyncio.create_task(ask(site, "mine", hold=True))
            home = engines[first["instance"] == f"{two.instance_id:x}"]
            await home.holding.wait()
            status, prompt = await ask(site, "mine")
            if mode == "hard":
                assert status == 529
            else:
                assert (status, prompt["session"]) == (200, "away")
                assert prompt["instance"] != first["instance"]
            home.let_go.set()
            assert (await held)[1]["instance"] == first["instance"]

    run(scenario())


def test_requests_pass_busy_instances_by_until_all_are(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        guard = GuardSettings(active_prefill_tokens=HOLD // 2)
        async with (
            worker(registry) as one,
            worker(registry) as two,
            frontend(registry, tmp_path, guard=guard) as site,
        ):
            engines = [HoldingEngine(), HoldingEngine()]
            for each, engine in zip((one, two), engines, strict=True):
                await serve(each, model, engine=engine)
            await members(site, 2)
            first = asyncio.create_task(ask(site, hold=True))
            await asyncio.wait(
                [asyncio.ensure_future(each.holding.wait()) for each in engines],
                return_when=asyncio.FIRST_COMPLETED,
            )
            busy = (one, two)[engines[1].holding.is_set()]
            for _ in range(6):
                status, prompt = await ask(site)
                assert status == 200
                assert prompt["instance"] != f"{busy.instance_id:x}"
            _, content = await site.get("/v1/muster/models")
            (told,) = content["models"][0]["excluded"]
            assert told["instance"] == f"{busy.instance_id:x}"
            assert "busy" in told["reason"]

            second = asyncio.create_task(ask(site, hold=True))
            for engine in engines:
                await engine.holding.wait()
            assert (await ask(site))[0] == 529
            for engine in engines:
                engine.let_go.set()
            assert {(await first)[0], (await second)[0]} == {200}
            assert (await ask(site))[0] == 200
            _, content = await site.get("/v1/muster/models")
            assert not content["models"][0].get("excluded")

    run(scenario())


def test_a_card_brings_its_own_router_settings(model: Path, tmp_path: Path) -> None:
    direct = RouterConfig(router_mode=CardRouterMode.DIRECT)
    shy = RouterConfig(
        router_mode=CardRouterMode.ROUND_ROBIN,
        load_threshold_config=LoadThresholdConfig(active_prefill_tokens_threshold=0),
        session_affinity_ttl_secs=60,
        session_affinity_mode=SessionAffinityMode.SOFT,
    )

    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            worker(registry) as one,
            worker(registry) as two,
            frontend(registry, tmp_path) as site,
        ):
            engine = HoldingEngine()
            await serve(one, model, "named", endpoint="a.b.c", router_config=direct)
            await serve(two, model, "tiny", engine=engine, router_config=shy)
            await site.listed("named", "tiny")
            status, reply = await site.post("/v1/completions", {"model": "named", "prompt": "x"})
            assert status == 400
            assert "the router mode is direct" in reply["error"]["message"]

            held = asyncio.create_task(ask(site, hold=True))
            await engine.holding.wait()
            assert (await ask(site))[0] == 529  # by the threshold of the card
            engine.let_go.set()
            assert (await held)[0] == 200

    run(scenario())


def test_metrics_say_what_a_models_workers_hold(model: Path, tmp_path: Path) -> None:
    async def scenario() -> str:
        registry = MemoryRegistry()
        async with (
            worker(registry) as one,
            frontend(registry, tmp_path, migration_limit=2) as site,
        ):
            config = ModelRuntimeConfig(
                total_kv_blocks=1000, max_num_seqs=256, max_num_batched_tokens=8192
            )
            await serve(one, model, kv_cache_block_size=16, runtime_config=config)
            await serve(one, model, "silent", endpoint="a.b.c")
            await site.listed("silent", "tiny")
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{site.url}/metrics") as reply,
            ):
                return await reply.text()

    text = run(scenario())
    for name, value in (
        ("kv_cache_block_size", 16),
        ("total_kv_blocks", 1000),
        ("max_num_seqs", 256),
        ("max_num_batched_tokens", 8192),
        ("migration_limit", 2),
    ):
        assert f'dynamo_frontend_model_{name}{{model="tiny"}} {value}.0\n' in text
    assert 'dynamo_frontend_model_migration_limit{model="silent"} 2.0\n' in text
    assert 'max_num_seqs{model="silent"}' not in text


def test_a_cards_migration_limit_caps_the_frontends(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            MetadataServer() as server,
            worker(registry) as one,
            frontend(registry, tmp_path, migration_limit=3) as site,
        ):
            for path in model.iterdir():
                server.add(f"/{path.name}", right(path.read_bytes()))
            card = msgspec.structs.replace(hosted_at(server, model), migration_limit=1)
            await publish(one, card)
            await site.listed("tiny")
            (served,) = site.fleet.table.models()
            assert served.limits.migrations == 1

    run(scenario())


def test_an_adapter_is_listed_with_its_parent_and_asked_for_by_name(
    model: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with worker(registry) as one, frontend(registry, tmp_path) as site:
            engine = CountingEngine()
            await serve(one, model, engine=engine)
            await register_model(
                ModelInput.Tokens,
                ModelType.Chat | ModelType.Completions,
                one.endpoint("ns.backend.generate"),
                model,
                worker_type=WorkerType.Aggregated,
                lora_name="pirate",
                base_model_path=str(model),
            )
            await site.listed("pirate", "tiny")
            _, listed = await site.get("/v1/models")
            parents = {entry["id"]: entry.get("parent") for entry in listed["data"]}
            assert parents == {"tiny": None, "pirate": "tiny"}
            assert (await site.get("/v1/models/pirate"))[1]["parent"] == "tiny"
            body = {"model": "pirate", "prompt": "x", "max_tokens": 1}
            status, reply = await site.post("/v1/completions", body)
            assert (status, reply["model"]) == (200, "pirate")
            (request,) = engine.requests
            assert request.routing is not None
            assert request.routing["lora_name"] == "pirate"

    run(scenario())
