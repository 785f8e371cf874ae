"""Waiting for instances whose model cards say something."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import msgspec
import pytest

from muster.discovery.memory import MemoryRegistry
from muster.discovery.records import MODELS, ModelRecord
from muster.errors import DiscoveryError, WorkerUnavailable
from muster.runtime import Client, DistributedRuntime
from muster.runtime.calling.runtime_data import CardsSaying
from muster.testing.runtimes import runtime_in


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await scenario

    asyncio.run(limited())


def record(number: int, runtime_data: Any, lora: str | None = None) -> ModelRecord:
    card = {"display_name": "m", "runtime_config": {"runtime_data": runtime_data}}
    return ModelRecord(
        namespace="ns",
        component="comp",
        endpoint="ep",
        instance_id=number,
        card_json=msgspec.Raw(json.dumps(card).encode()),
        model_suffix=lora,
    )


@contextlib.asynccontextmanager
async def calling() -> AsyncIterator[tuple[Client, DistributedRuntime]]:
    async with runtime_in(MemoryRegistry()) as runtime:
        yield await runtime.endpoint("ns.comp.ep").client(), runtime


async def put(runtime: DistributedRuntime, *records: ModelRecord) -> None:
    for each in records:
        await runtime.discovery.register(MODELS, each.key, each.to_json())


def test_the_one_instance_whose_card_says_so_is_found_now_or_later() -> None:
    async def scenario() -> None:
        async with calling() as (client, runtime), asyncio.TaskGroup() as group:
            await put(runtime, record(1, {"group": "a"}), record(2, {"group": "b"}))
            assert await client.wait_for_instance_by_runtime_data("group", "b") == 2
            waiting = group.create_task(client.wait_for_instance_by_runtime_data("group", "c", 20))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            await put(runtime, record(3, {"group": "c"}))
            assert await waiting == 3

    run(scenario())


def test_as_many_as_are_asked_for_are_waited_for() -> None:
    async def scenario() -> None:
        async with calling() as (client, runtime), asyncio.TaskGroup() as group:
            await put(runtime, record(9, {"group": "a"}))
            waiting = group.create_task(client.wait_for_instances_by_runtime_data("group", "a", 3))
            await put(runtime, record(1, {"group": "a"}), record(2, {"group": "other"}))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            await put(runtime, record(2, {"group": "a"}))
            assert await waiting == [1, 2, 9]

    run(scenario())


def test_none_and_too_many_run_out_of_time_and_say_who_was_seen() -> None:
    async def scenario() -> None:
        async with calling() as (client, runtime):
            with pytest.raises(WorkerUnavailable, match=r"not one of .* group=a .*seen: none"):
                await client.wait_for_instance_by_runtime_data("group", "a", 0.01)
            await put(runtime, record(1, {"group": "a"}), record(0xAB, {"group": "a"}))
            with pytest.raises(WorkerUnavailable, match="seen: 1, ab"):
                await client.wait_for_instance_by_runtime_data("group", "a", 0.01)
            with pytest.raises(WorkerUnavailable, match=r"not at least 3 .*within 0\.01 s"):
                await client.wait_for_instances_by_runtime_data("group", "a", 3, timeout_s=0.01)

    run(scenario())


def test_a_registry_that_is_closed_ends_the_wait() -> None:
    async def scenario() -> None:
        async with calling() as (client, runtime):
            waiting = asyncio.ensure_future(
                client.wait_for_instance_by_runtime_data("group", "a", 20)
            )
            await asyncio.sleep(0.01)
            await runtime.close()
            with pytest.raises(DiscoveryError, match="not watched any more"):
                await waiting

    run(scenario())


def test_only_an_equal_text_counts() -> None:
    cards = CardsSaying("group", "1")
    said: list[Any] = [{"group": 1}, {"group": "11"}, {"other": "1"}, {"group": None}, {}, None]
    for number, data in enumerate(said):
        cards.put(str(number), record(number, data).to_json())
    assert cards.ids() == []
    cards.put("9", record(9, {"group": "1", "other": [1, {}]}).to_json())
    assert cards.ids() == [9]


def test_an_instance_counts_once_and_as_long_as_one_of_its_cards_says_so() -> None:
    cards = CardsSaying("group", "a")
    base, adapter = record(1, {"group": "a"}), record(1, {"group": "a"}, lora="x")
    cards.put(base.key, base.to_json())
    cards.put(adapter.key, adapter.to_json())
    assert cards.ids() == [1]
    cards.put(base.key, None)
    assert cards.ids() == [1]
    cards.put(adapter.key, record(1, {}, lora="x").to_json())
    assert cards.ids() == []


@pytest.mark.parametrize(
    "garbage",
    [b"{}", b"[", record(1, "text").to_json(), record(1, {}).to_json().replace(b"{}", b"3")],
)
def test_a_record_that_cannot_be_read_says_nothing(garbage: bytes) -> None:
    cards = CardsSaying("group", "a")
    cards.put("1", record(1, {"group": "a"}).to_json())
    cards.put("1", garbage)
    assert cards.ids() == []
