"""Instances kept up to date from a registry, whatever it does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from muster.config.settings import RequestPlaneSettings
from muster.discovery.memory import MemoryDiscovery, MemoryRegistry
from muster.discovery.records import INSTANCES, Instance, Transport
from muster.errors import Disconnected, DiscoveryError
from muster.names import EndpointId
from muster.runtime.calling.instance_source import InstanceSource
from muster.tasks import TaskOwner
from muster.testing.fragile import FragileDiscovery
from muster.testing.virtual_time import run_in_virtual_time

ENDPOINT = EndpointId("n", "c", "e")


def record(number: int, address: str = "127.0.0.1:80/p") -> bytes:
    return Instance(
        namespace="n",
        component="c",
        endpoint="e",
        instance_id=number,
        transport=Transport("tcp", address),
    ).to_json()


class Site:
    """A registry that may fail, a process that writes to it, and a source that watches it."""

    def __init__(self) -> None:
        registry = MemoryRegistry()
        self.workers = MemoryDiscovery(registry)
        self.registry = FragileDiscovery(MemoryDiscovery(registry))
        self.source = InstanceSource(self.registry, ENDPOINT, RequestPlaneSettings())

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[InstanceSource]:
        """Run the source."""
        tasks = TaskOwner("test")
        tasks.start(self.source.run(), name="source")
        try:
            yield self.source
        finally:
            await tasks.close()

    async def put(self, key: str, value: bytes) -> None:
        """Write a record."""
        await self.workers.register(INSTANCES, f"n/c/e/{key}", value)

    async def drop(self, key: str) -> None:
        """Remove a record."""
        await self.workers.deregister(INSTANCES, f"n/c/e/{key}")

    async def until(self, *ids: int) -> None:
        """Wait until these instances are known and no others."""
        async with asyncio.timeout(60):
            while set(self.source.set.members) != set(ids):
                await self.source.change()


def test_what_is_there_at_first_and_every_change_is_known() -> None:
    async def scenario() -> None:
        site = Site()
        await site.put("1", record(1))
        async with site.watching() as source:
            await source.ready()
            assert source.set.free() == (1,)
            await site.put("2", record(2))
            await site.until(1, 2)
            await site.drop("1")
            await site.until(2)

    run_in_virtual_time(scenario())


def test_a_registry_that_was_never_read_is_an_error_until_it_is() -> None:
    async def scenario() -> None:
        site = Site()
        site.registry.broken.add("watch")
        await site.put("1", record(1))
        async with site.watching() as source:
            with pytest.raises(DiscoveryError, match="told to fail"):
                await source.ready()
            site.registry.broken.clear()
            await site.until(1)
            await source.ready()

    run_in_virtual_time(scenario())


def test_the_last_known_instances_serve_while_the_registry_is_away() -> None:
    async def scenario() -> None:
        site = Site()
        await site.put("1", record(1))
        await site.put("2", record(2))
        async with site.watching() as source:
            await source.ready()
            site.registry.broken.add("watch")
            site.registry.cut()
            await asyncio.sleep(10)
            await site.drop("1")
            await site.put("3", record(3))
            await source.ready()
            assert source.set.free() == (1, 2)
            site.registry.broken.clear()
            await site.until(2, 3)

    run_in_virtual_time(scenario())


def test_an_avoided_instance_stays_avoided_when_the_registry_comes_back_unchanged() -> None:
    async def scenario() -> None:
        site = Site()
        await site.put("1", record(1))
        async with site.watching() as source:
            await source.ready()
            source.set.loads[1].reserve()
            source.set.loads[1].refused(Disconnected("it broke"))
            site.registry.cut()
            await source.change()
            assert source.set.free() == ()

    run_in_virtual_time(scenario())


def test_a_changed_address_under_the_same_key_is_followed() -> None:
    async def scenario() -> None:
        site = Site()
        await site.put("1", record(1))
        async with site.watching() as source:
            await source.ready()
            await site.put("1", record(1, "127.0.0.1:81/p"))
            await source.change()
            assert source.set.members[1].instance.transport.address == "127.0.0.1:81/p"

    run_in_virtual_time(scenario())


def test_a_record_that_names_another_id_under_its_key_replaces_the_first() -> None:
    async def scenario() -> None:
        site = Site()
        await site.put("1", record(1))
        async with site.watching() as source:
            await source.ready()
            await site.put("1", record(9))
            await site.until(9)
            await site.drop("1")
            await site.until()

    run_in_virtual_time(scenario())


def test_an_instance_with_two_keys_is_gone_with_the_last_of_them() -> None:
    async def scenario() -> None:
        site = Site()
        await site.put("1", record(1))
        await site.put("other", record(1))
        async with site.watching() as source:
            await source.ready()
            await site.drop("1")
            await source.change()
            assert set(source.set.members) == {1}
            await site.drop("other")
            await site.until()

    run_in_virtual_time(scenario())


@pytest.mark.parametrize(
    "garbage",
    [
        b"{}",
        b"null",
        b'{"instance_id": "x"}',
        b'{"type": "Model"}',
        record(2).replace(b'"tcp"', b'"tcp":"a","nats_tcp"'),
    ],
)
def test_a_record_that_cannot_be_read_is_skipped_with_a_reason(garbage: bytes) -> None:
    async def scenario() -> None:
        site = Site()
        await site.put("1", record(1))
        await site.put("2", garbage)
        async with site.watching() as source:
            await source.ready()
            assert source.set.free() == (1,)
            assert "not an instance record" in source.skipped["n/c/e/2"]
            await site.put("2", record(2))
            await site.until(1, 2)
            assert source.skipped == {}

    run_in_virtual_time(scenario())


def test_garbage_in_the_place_of_a_good_record_leaves_the_good_one() -> None:
    async def scenario() -> None:
        site = Site()
        await site.put("1", record(1))
        async with site.watching() as source:
            await source.ready()
            await site.put("1", b"{}")
            await source.change()
            assert source.set.free() == (1,)
            assert set(source.skipped) == {"n/c/e/1"}
            await site.drop("1")
            await site.until()
            assert source.skipped == {}

    run_in_virtual_time(scenario())


def test_what_vanished_while_the_registry_was_away_is_forgotten_skipped_or_not() -> None:
    async def scenario() -> None:
        site = Site()
        await site.put("1", record(1))
        await site.put("2", b"{}")
        async with site.watching() as source:
            await source.ready()
            site.registry.broken.add("watch")
            site.registry.cut()
            await asyncio.sleep(5)
            await site.drop("1")
            await site.drop("2")
            site.registry.broken.clear()
            await site.until()
            assert source.skipped == {}

    run_in_virtual_time(scenario())


def test_a_closed_registry_ends_the_source_and_says_so() -> None:
    async def scenario() -> None:
        site = Site()
        await site.put("1", record(1))
        async with site.watching() as source:
            await source.ready()
            await site.registry.close()
            while not source.closed:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.1)
            with pytest.raises(DiscoveryError, match="not watched any more"):
                await source.ready()

    run_in_virtual_time(scenario())
