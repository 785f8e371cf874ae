"""A whole runtime as its status server shows it: health, canary, callbacks, LoRAs, metrics, its end."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from muster.config.settings import HealthSettings, Settings, SystemSettings
from muster.discovery.memory import MemoryRegistry
from muster.errors import ConfigError
from muster.runtime import Context, DistributedRuntime
from muster.runtime.shutdown import Phase
from muster.testing.loops import run
from muster.testing.runtimes import loopback_settings, runtime_in

ENDPOINT = "ns.comp.generate"


def with_status(*, health: HealthSettings | None = None, **system: Any) -> Settings:
    return dataclasses.replace(
        loopback_settings(),
        system=SystemSettings(host="127.0.0.1", port=0, **system),
        health=health or HealthSettings(),
    )


class Page:
    """The status server of a runtime."""

    def __init__(self, runtime: DistributedRuntime, session: aiohttp.ClientSession) -> None:
        self._runtime = runtime
        self._session = session

    async def ask(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        url = f"{self._runtime.status_url}{path}"
        async with self._session.request(method, url, **more) as answer:
            return answer.status, await answer.json(content_type=None)

    async def health(self) -> tuple[int, Any]:
        return await self.ask("GET", "/health")

    async def metrics(self) -> str:
        async with self._session.get(f"{self._runtime.status_url}/metrics") as answer:
            return await answer.text()

    async def until(self, check: Callable[[int, Any], bool]) -> Any:
        while True:
            status, body = await self.health()
            if check(status, body):
                return body
            await asyncio.sleep(0.02)


def on_page(settings: Settings, work: Callable[[DistributedRuntime, Page], Any]) -> None:
    async def scenario() -> None:
        async with (
            runtime_in(MemoryRegistry(), settings) as runtime,
            aiohttp.ClientSession() as session,
        ):
            await work(runtime, Page(runtime, session))

    run(scenario())


async def echo(request: Any, context: Context) -> AsyncIterator[Any]:
    yield request


def test_a_process_is_ready_while_what_it_serves_is_registered() -> None:
    async def work(runtime: DistributedRuntime, page: Page) -> None:
        status, body = await page.health()
        assert (status, body["status"], body["endpoints"]) == (503, "notready", {})
        endpoint = runtime.endpoint(ENDPOINT)
        await runtime.serve(endpoint.id(), echo)
        status, body = await page.health()
        assert (status, body["status"]) == (200, "ready")
        assert body["endpoints"] == {"generate": "ready"}
        assert body["instance_id"] == f"{runtime.instance_id:x}"
        await endpoint.unregister_endpoint_instance()
        status, body = await page.health()
        assert status == 503
        assert "ns/comp/generate" in str(body["reasons"])
        assert (await page.ask("GET", "/live"))[0] == 200
        await endpoint.register_endpoint_instance()
        assert (await page.health())[0] == 200
        runtime.set_health_status(False)
        assert (await page.health())[0] == 503
        runtime.set_health_status(True)
        assert (await page.health())[0] == 200

    on_page(with_status(), work)


def test_a_wedged_engine_turns_not_ready_and_comes_back_by_itself() -> None:
    wedged = asyncio.Event()

    async def engine(request: Any, context: Context) -> AsyncIterator[Any]:
        if wedged.is_set():
            await asyncio.sleep(3600)
        yield request

    async def work(runtime: DistributedRuntime, page: Page) -> None:
        endpoint = runtime.endpoint(ENDPOINT)
        await runtime.serve(endpoint.id(), engine, health_check_payload={"probe": 1})
        await page.until(lambda status, _: status == 200)
        wedged.set()
        body = await page.until(lambda status, _: status == 503)
        assert "no item within 0.1 s" in str(body["reasons"])
        wedged.clear()
        await page.until(lambda status, _: status == 200)
        counts = [
            line
            for line in (await page.metrics()).splitlines()
            if line.startswith("dynamo_component_requests_total{")
        ]
        assert all(line.endswith(" 0.0") for line in counts), counts  # probes do not count

    health = HealthSettings(canary=True, canary_wait_s=0.1, canary_timeout_s=0.1)
    on_page(with_status(health=health), work)


def test_items_of_real_requests_stand_in_for_the_canary() -> None:
    probes: list[Any] = []

    async def engine(request: Any, context: Context) -> AsyncIterator[Any]:
        if request == {"probe": 1}:
            probes.append(request)
            await asyncio.sleep(3600)
        while not context.is_stopped():
            yield 1
            await asyncio.sleep(0.01)

    async def work(runtime: DistributedRuntime, page: Page) -> None:
        endpoint = runtime.endpoint(ENDPOINT)
        await runtime.serve(endpoint.id(), engine, health_check_payload={"probe": 1})
        await page.until(lambda status, body: "canary failed" in str(body.get("reasons")))
        client = await endpoint.client()
        context = Context()
        async for _ in await client.direct({}, runtime.instance_id, context=context):
            if (await page.health())[0] == 200:
                context.stop_generating()
        assert probes

    health = HealthSettings(canary=True, canary_wait_s=0.3, canary_timeout_s=0.1)
    on_page(with_status(health=health), work)


def test_engine_routes_and_loras_are_the_worker_s_own() -> None:
    loaded: dict[str, str] = {}

    async def load(request: Any, context: Context) -> AsyncIterator[Any]:
        loaded[request["lora_name"]] = request["source"]["uri"]
        yield {"status": "success", "lora_name": request["lora_name"], "lora_id": 7}

    async def profile(body: dict[str, Any]) -> dict[str, Any]:
        return {"got": body}

    async def work(runtime: DistributedRuntime, page: Page) -> None:
        runtime.register_engine_route("profile", profile)
        assert await page.ask("POST", "/engine/profile", json={"n": 1}) == (200, {"got": {"n": 1}})
        assert (await page.ask("GET", "/engine/none"))[0] == 404
        wanted = {"lora_name": "small", "source": {"uri": "file:///lora"}}
        status, body = await page.ask("POST", "/v1/loras", json=wanted)
        assert status >= 400
        assert "load_lora" in str(body)
        await runtime.serve(runtime.endpoint("ns.comp.load_lora").id(), load)
        status, body = await page.ask("POST", "/v1/loras", json=wanted)
        assert (status, body["lora_id"]) == (200, 7)
        assert loaded == {"small": "file:///lora"}

    on_page(with_status(lora_enabled=True), work)


def test_metrics_of_requests_and_users_carry_the_labels_of_their_place() -> None:
    async def work(runtime: DistributedRuntime, page: Page) -> None:
        endpoint = runtime.namespace("exp-ns").component("comp").endpoint("generate")
        mine = endpoint.metrics.counter("words", "Words said.", ["language"])
        endpoint.component().metrics.gauge("spare", "Spare places.").set(3)
        await runtime.serve(endpoint.id(), echo, metrics_labels=[("tier", "gold")])
        client = await endpoint.client()
        assert [i async for i in await client.direct({}, runtime.instance_id, annotated=False)]
        mine.labels("en").inc(2)
        text = await page.metrics()
        place = 'dynamo_component="comp",dynamo_endpoint="generate",dynamo_namespace="exp_ns"'
        worker = f'worker_id="{runtime.instance_id:x}"'
        requests = next(
            line
            for line in text.splitlines()
            if line.startswith("dynamo_component_requests_total{")
        )
        for part in (*place.split(","), worker, 'tier="gold"'):
            assert part in requests
        assert requests.endswith(" 1.0")
        words = next(
            line for line in text.splitlines() if line.startswith("dynamo_component_words")
        )
        assert 'language="en"' in words
        assert words.endswith(" 2.0")
        assert "dynamo_component_spare{" in text
        assert "dynamo_work_handler_pool_capacity 10000.0" in text
        with pytest.raises(ConfigError, match="words"):
            endpoint.metrics.gauge("words", "Another thing of that name.")

    on_page(with_status(), work)


def test_the_end_has_named_steps_in_their_order() -> None:
    async def work(runtime: DistributedRuntime, page: Page) -> None:
        seen: list[Phase] = []

        async def slow(request: Any, context: Context) -> AsyncIterator[Any]:
            yield 1
            seen.append(runtime.phase)
            while runtime.phase is not Phase.DRAINING:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.01)
            status, body = await page.health()
            assert status == 503
            assert "shutting down" in str(body["reasons"])
            assert (await page.ask("GET", "/live"))[0] == 200
            assert await runtime.discovery.list("v1/instances") == {}
            seen.append(runtime.phase)
            yield 2

        async def withdraw() -> None:
            seen.append(runtime.phase)

        endpoint = runtime.endpoint(ENDPOINT)
        await runtime.serve(endpoint.id(), slow)
        runtime.on_withdraw(withdraw)
        client = await endpoint.client()
        items = await client.direct({}, runtime.instance_id, annotated=False)
        got = []
        async for item in items:
            got.append(item)
            runtime.shutdown()
        await runtime.wait_closed()
        assert got == [1, 2]
        assert seen == [Phase.RUNNING, Phase.WITHDRAWING, Phase.DRAINING]
        assert runtime.phase is Phase.CLOSED

    on_page(with_status(), work)
