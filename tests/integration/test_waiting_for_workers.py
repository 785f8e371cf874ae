"""Requests to a model whose only worker is full wait for a place, or are told when to come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from muster.config.settings import GuardSettings
from muster.discovery.memory import MemoryRegistry
from muster.runtime import Context
from muster.testing.fleet import FleetSite, frontend, serve
from muster.testing.loops import run
from muster.testing.runtimes import loopback_settings, runtime_in
from muster.testing.tiny_model import token_ids, write_tiny_model


class Held:
    """Answers when its gate is open; notes the prompts in the order they came."""

    def __init__(self) -> None:
        self.gate = asyncio.Semaphore(0)
        self.seen: list[int] = []

    async def generate(self, request: Any, context: Context) -> AsyncIterator[Any]:
        self.seen.append(request["token_ids"][0])
        async with asyncio.timeout(20):
            await self.gate.acquire()
        yield {"token_ids": token_ids("k"), "finish_reason": "stop"}


def test_the_first_to_come_gets_the_first_free_place(tmp_path: Path) -> None:
    async def test() -> None:
        registry, engine = MemoryRegistry(), Held()
        model = write_tiny_model(tmp_path)
        settings = loopback_settings(system_port=0, request_limit=1, queue_limit=0)
        guard = GuardSettings(queue_limit=2, queue_timeout_s=20.0)
        async with (
            runtime_in(registry, settings) as runtime,
            frontend(registry, tmp_path, guard=guard) as site,
        ):
            await serve(runtime, model, engine=engine)
            await site.listed("tiny")
            prompts = [token_ids(letter)[0] for letter in "abc"]
            tasks = []
            for prompt in prompts:
                tasks.append(asyncio.create_task(complete(site, prompt)))
                await site.until(lambda: under_way(site, engine) == len(tasks))
            status, body = await complete(site, prompts[0])
            assert status == 503
            assert "2 requests wait" in body["error"]["message"]
            assert body["error"]["code"] == "queue_exhausted"
            for _ in tasks:
                engine.gate.release()
            assert [status for status, _ in await asyncio.gather(*tasks)] == [200] * 3
            assert engine.seen == prompts

    def under_way(site: FleetSite, engine: Held) -> int:
        return len(engine.seen) + site.fleet.admission.rooms.waiting("tiny")

    async def complete(site: FleetSite, prompt: int) -> tuple[int, Any]:
        return await site.post("/v1/completions", {"model": "tiny", "prompt": [prompt]})

    run(test())
