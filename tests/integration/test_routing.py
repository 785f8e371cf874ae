"""Sessions and their instances, a card's own router mode, and what a request's trace says."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp

from muster.discovery.memory import MemoryRegistry
from muster.errors import EngineShutdown
from muster.model.kv_router_config import KvRouterConfig
from muster.model.router_config import RouterConfig, RouterMode
from muster.runtime import DistributedRuntime
from muster.testing.counting import CountingEngine, letters
from muster.testing.fleet import FleetSite, frontend, request_count, serve, worker
from muster.testing.loops import run
from muster.testing.tiny_model import write_tiny_model


async def complete(
    site: FleetSite, headers: dict[str, str] | None = None, **body: Any
) -> tuple[aiohttp.ClientResponse, str]:
    asked = {"model": "tiny", "prompt": "x", "max_tokens": 8} | body
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{site.url}/v1/completions", json=asked, headers=headers or {}) as reply,
    ):
        return reply, await reply.text()


async def all_there(site: FleetSite, count: int) -> None:
    """Wait until so many replicas serve the model."""
    await site.listed("tiny")
    async with asyncio.timeout(10):
        while True:
            _, content = await site.get("/v1/muster/models")
            (model,) = content["models"]
            if len(model["replicas"]) == count == len(site.fleet.table.instances()):
                return
            await asyncio.sleep(0.01)


def home_among(workers: list[DistributedRuntime], before: list[float]) -> DistributedRuntime:
    (home,) = [each for each, had in zip(workers, before, strict=True) if request_count(each) > had]
    return home


def test_a_session_stays_at_its_instance_and_moves_when_that_leaves(
    model: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            worker(registry) as one,
            worker(registry) as two,
            worker(registry) as three,
            frontend(registry, tmp_path / "a") as site,
            frontend(registry, tmp_path / "b", router_mode="random") as other,
        ):
            workers = [one, two, three]
            engines = [CountingEngine() for _ in workers]
            for each, engine in zip(workers, engines, strict=True):
                await serve(each, model, engine=engine)
            await all_there(site, 3)
            await all_there(other, 3)
            headers = {"x-session-id": "a session", "x-muster-trace": "1"}
            for frontend_site in (site, other, site, other):
                reply, _ = await complete(frontend_site, headers)
                (prompt,) = json.loads(reply.headers["x-muster-trace"])["prompts"]
                assert prompt["session"] == "home"
            home = home_among(workers, [0, 0, 0])
            assert request_count(home) == 4
            (request, *_) = engines[workers.index(home)].requests
            assert request.agent_context == {"session_id": "a session"}

            home.shutdown()
            await home.wait_closed()
            await site.until(lambda: len(site.fleet.table.instances()) == 2)
            left = [each for each in workers if each is not home]
            for _ in range(3):
                reply, _ = await complete(site, {"x-dynamo-session-id": "a session"})
                assert reply.status == 200
            assert sorted(request_count(each) for each in left) == [0, 3]

    run(scenario())


def test_a_session_stays_with_one_card_where_a_name_has_several(
    model: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write_tiny_model(other, context_length=1024)

    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            worker(registry) as one,
            worker(registry) as two,
            frontend(registry, tmp_path) as site,
        ):
            await serve(one, model, endpoint="a.backend.generate", engine=CountingEngine())
            await serve(two, other, endpoint="b.backend.generate", engine=CountingEngine())
            await site.listed("tiny")
            await site.until(lambda: len(site.fleet.groups()) == 2)
            for _ in range(4):
                assert (await complete(site, {"x-session-id": "mine"}))[0].status == 200
            assert sorted(request_count(each) for each in (one, two)) == [0, 4]
            for _ in range(4):
                assert (await complete(site))[0].status == 200
            assert sorted(request_count(each) for each in (one, two)) == [2, 6]

    run(scenario())


class ShutDown(CountingEngine):
    """An engine that goes away after three tokens, as one does that is told to."""

    async def generate(self, request: Any, context: Any) -> Any:
        count = 0
        async for item in super().generate(request, context):
            if count == 3:
                raise EngineShutdown("going away")
            count += 1
            yield item


def test_the_trace_of_a_moved_request_names_both_instances(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            worker(registry) as one,
            worker(registry) as two,
            frontend(registry, tmp_path) as site,
        ):
            await serve(one, model, engine=ShutDown())
            await serve(two, model, engine=CountingEngine())
            await all_there(site, 2)
            asked = {"x-muster-trace": "1"}
            lost = []
            for _ in range(2):
                reply, text = await complete(site, asked, stream=True)
                assert reply.status == 200
                parts = text.split("\n\n")
                comment = parts[-3]
                assert parts[-2] == "data: [DONE]"
                assert comment.startswith(": x-muster-trace {")
                found = json.loads(comment.removeprefix(": x-muster-trace "))
                (prompt,) = found["prompts"]
                chunks = [json.loads(part[6:]) for part in parts[:-3]]
                assert "".join(c["choices"][0]["text"] for c in chunks) == letters(1, 8)
                assert found["queue_ms"] >= 0
                assert found["engine_ms"] > 0
                assert prompt["instance"] == f"{two.instance_id:x}"
                assert len(prompt["cohort"]) == 64
                lost += prompt.get("lost", [])
                assert prompt["attempts"] == 1 + len(prompt.get("lost", []))
            expected = {"instance": f"{one.instance_id:x}", "code": "engine_shutdown", "tokens": 3}
            assert lost
            assert all(each == expected for each in lost)

            reply, _ = await complete(site)
            assert "x-muster-trace" not in reply.headers

    run(scenario())


class Shaky(CountingEngine):
    """An engine that goes away every so many tokens, counted over all its requests."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self._every = every
        self._tokens = 0

    async def generate(self, request: Any, context: Any) -> Any:
        async for item in super().generate(request, context):
            self._tokens += 1
            if self._tokens % self._every == 0:
                raise EngineShutdown("going away")
            yield item


def test_answers_are_whole_however_often_their_engines_go_away(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            worker(registry) as one,
            worker(registry) as two,
            worker(registry) as three,
            frontend(registry, tmp_path, migration_limit=1000) as site,
        ):
            for each, every in ((one, 7), (two, 11), (three, 0x7FFFFFFF)):
                await serve(each, model, engine=Shaky(every))
            await all_there(site, 3)

            async def ask(k: int) -> tuple[aiohttp.ClientResponse, str]:
                more: dict[str, Any] = {"prompt": "x" * k, "max_tokens": 40, "logprobs": 1}
                if k % 2:
                    more |= {"stream": True, "stream_options": {"include_usage": True}}
                return await complete(site, None, **more)

            replies = await asyncio.gather(*(ask(k) for k in range(1, 51)))
            for start, (reply, text) in enumerate(replies, 1):
                assert reply.status == 200, text
                if reply.content_type == "application/json":
                    parts = [json.loads(text)]
                else:
                    parts = [json.loads(part[6:]) for part in text.split("\n\n")[:-2]]
                choices = [choice for part in parts for choice in part["choices"]]
                assert "".join(choice["text"] for choice in choices) == letters(start, 40)
                scores = [
                    score
                    for choice in choices
                    if choice["logprobs"]
                    for score in choice["logprobs"]["token_logprobs"]
                ]
                assert scores == [-float(start + k) for k in range(40)]
                usage = parts[-1]["usage"]
                assert (usage["prompt_tokens"], usage["completion_tokens"]) == (start, 40)

    run(scenario())


def test_one_move_is_allowed_where_the_limit_is_one(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            worker(registry) as one,
            worker(registry) as two,
            frontend(registry, tmp_path, migration_limit=1) as site,
        ):
            await serve(one, model, engine=Shaky(1))
            await serve(two, model, engine=CountingEngine())
            await all_there(site, 2)
            for _ in range(2):
                reply, _ = await complete(site)
                assert reply.status == 200

    run(scenario())


def test_a_cards_own_router_mode_wins(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        own = RouterConfig(router_mode=RouterMode.DIRECT, kv_router_config=KvRouterConfig())
        async with worker(registry) as one, frontend(registry, tmp_path) as site:
            await serve(one, model, engine=CountingEngine(), router_config=own)
            await all_there(site, 1)
            reply, text = await complete(site)
            assert reply.status == 400
            assert "router mode is direct" in text
            named = {"x-dynamo-worker-instance-id": str(one.instance_id)}
            reply, _ = await complete(site, named)
            assert reply.status == 200

    run(scenario())


def test_a_card_that_wants_routing_by_cache_is_served_by_the_frontends_mode(
    model: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        own = RouterConfig(router_mode=RouterMode.KV, kv_router_config=KvRouterConfig())
        async with worker(registry) as one, frontend(registry, tmp_path) as site:
            await serve(one, model, engine=CountingEngine(), router_config=own)
            await all_there(site, 1)
            reply, _ = await complete(site)
            assert reply.status == 200

    run(scenario())
