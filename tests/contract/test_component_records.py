"""Configuration documents and watched keys (rows C10, C11), one suite over every registry."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster.config.settings import DiscoverySettings, EtcdSettings
from muster.discovery.base import Discovery
from muster.discovery.etcd.registry import EtcdDiscovery
from muster.discovery.file import FileDiscovery
from muster.discovery.keys import MAX_RECORD_BYTES
from muster.discovery.memory import MemoryDiscovery, MemoryRegistry
from muster.errors import ConflictError, DiscoveryError, InvalidArgument, NotRegisteredError
from muster.runtime import Component, DistributedRuntime, KeyState
from muster.runtime.components.documents import DOCUMENTS
from muster.runtime.components.watched_keys import WATCHED
from muster.testing.etcd_server import shared_etcd
from muster.testing.loops import run
from muster.testing.runtimes import loopback_settings


class Backend(Protocol):
    """A registry under test; each ``open`` is a process."""

    def open(self) -> Discovery: ...


class MemoryBackend:
    def __init__(self, _directory: Path) -> None:
        self.registry = MemoryRegistry()

    def open(self) -> Discovery:
        return MemoryDiscovery(self.registry)


class FileBackend:
    def __init__(self, directory: Path) -> None:
        self.settings = DiscoverySettings(file_root=directory / "kv")

    def open(self) -> Discovery:
        return FileDiscovery(self.settings)


ETCD_LIMIT_BYTES = 1_500_000
"""Of a request, as etcd is configured by default."""


class EtcdBackend:
    def __init__(self, _directory: Path) -> None:
        server = shared_etcd()
        if server is None:
            pytest.skip("there is no etcd on this machine")
        server.clear()
        self.settings = EtcdSettings(endpoints=(server.url,), lease_ttl_s=2)

    def open(self) -> Discovery:
        return EtcdDiscovery(self.settings)


BACKENDS: dict[str, Callable[[Path], Backend]] = {
    "memory": MemoryBackend,
    "file": FileBackend,
    "etcd": EtcdBackend,
}


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    return BACKENDS[request.param](tmp_path)


class Fleet:
    """Processes on one registry."""

    def __init__(self, backend: Backend, stack: contextlib.AsyncExitStack) -> None:
        self._backend = backend
        self._stack = stack

    async def process(self) -> DistributedRuntime:
        runtime = DistributedRuntime(
            settings=loopback_settings(), discovery=self._backend.open(), handle_signals=False
        )
        return await self._stack.enter_async_context(runtime)

    async def component(self, path: str = "ns.comp") -> Component:
        namespace, _, name = path.rpartition(".")
        return (await self.process()).namespace_of(namespace).component_of(name)


@contextlib.asynccontextmanager
async def fleet_on(backend: Backend) -> AsyncIterator[Fleet]:
    async with contextlib.AsyncExitStack() as stack:
        yield Fleet(backend, stack)


def instance_of(component: Component) -> int:
    return component.endpoint("any").connection_id()


# -- documents -------------------------------------------------------------------------------


def test_c10_a_published_document_is_listed_and_read_by_others(backend: Backend) -> None:
    content = {"engine": "echo", "limits": {"batch": 8}, "features": ["chat", None, 1.5, "é"]}

    async def scenario() -> None:
        async with fleet_on(backend) as fleet:
            publisher, reader = await fleet.component(), await fleet.component()
            published = await publisher.publish_document("build info/2026.yaml", content)
            assert published.publishers == (instance_of(publisher),)
            assert await reader.list_documents() == {"build info/2026.yaml": (published,)}
            read = await reader.read_document("build info/2026.yaml")
            assert read == published
            assert read.content == content
            assert read.digest.startswith("blake3:")

    run(scenario())


def test_c10_a_document_belongs_to_its_component(backend: Backend) -> None:
    async def scenario() -> None:
        async with fleet_on(backend) as fleet:
            for path in ("ns.comp", "ns.comp2", "ns2.comp", "ns.sub.comp"):
                await (await fleet.component(path)).publish_document("card", path)
            for path in ("ns.comp", "ns.comp2", "ns2.comp", "ns.sub.comp"):
                listed = await (await fleet.component(path)).list_documents()
                assert [each.content for each in listed["card"]] == [path]
            assert await (await fleet.component("ns.other")).list_documents() == {}

    run(scenario())


def test_c10_replicas_that_agree_share_one_document(backend: Backend) -> None:
    async def scenario() -> None:
        async with fleet_on(backend) as fleet:
            one, two, three = [await fleet.component() for _ in range(3)]
            await one.publish_document("card", {"a": 1, "b": 2})
            await two.publish_document("card", {"b": 2, "a": 1})
            document = await three.read_document("card")
            assert document.publishers == tuple(sorted(map(instance_of, (one, two))))

    run(scenario())


def test_c10_replicas_that_differ_are_told_apart(backend: Backend) -> None:
    async def scenario() -> None:
        async with fleet_on(backend) as fleet:
            one, two, three = [await fleet.component() for _ in range(3)]
            await one.publish_document("card", "odd")
            await two.publish_document("card", "even")
            same = await three.publish_document("card", "even")
            most, least = (await one.list_documents())["card"]
            assert (most.content, least.content) == ("even", "odd")  # that of most comes first
            assert most.digest == same.digest
            with pytest.raises(ConflictError) as caught:
                await one.read_document("card")
            for component in (one, two, three):
                assert str(instance_of(component)) in str(caught.value)
            assert (await one.read_document("card", digest=least.digest)).content == "odd"
            chosen = await one.read_document("card", instance_id=instance_of(three))
            assert chosen == most
            with pytest.raises(NotRegisteredError, match="with digest blake3:no"):
                await one.read_document("card", digest="blake3:no")

    run(scenario())


def test_c10_publishing_again_replaces_and_withdrawing_takes_back(backend: Backend) -> None:
    async def scenario() -> None:
        async with fleet_on(backend) as fleet:
            publisher, other = await fleet.component(), await fleet.component()
            await publisher.publish_document("card", 1)
            await publisher.publish_document("card", 2)
            assert (await other.read_document("card")).content == 2
            with pytest.raises(NotRegisteredError):
                await other.withdraw_document("card")
            await publisher.withdraw_document("card")
            with pytest.raises(NotRegisteredError, match="nobody publishes the document 'card'"):
                await other.read_document("card")
            with pytest.raises(NotRegisteredError):
                await publisher.withdraw_document("card")

    run(scenario())


def test_c10_documents_end_with_their_publisher(backend: Backend) -> None:
    async def scenario() -> None:
        async with fleet_on(backend) as fleet:
            reader, leaving = await fleet.component(), await fleet.process()
            await leaving.namespace("ns").component("comp").publish_document("card", 1)
            assert (await reader.read_document("card")).content == 1
            await leaving.close()
            assert await reader.list_documents() == {}

    run(scenario())


def test_c10_a_document_may_be_as_large_as_a_record(backend: Backend) -> None:
    async def scenario() -> None:
        async with fleet_on(backend) as fleet:
            component = await fleet.component()
            limit = ETCD_LIMIT_BYTES if isinstance(backend, EtcdBackend) else MAX_RECORD_BYTES
            large = "x" * (limit - 1000)
            await component.publish_document("large", large)
            assert (await component.read_document("large")).content == large
            with pytest.raises(DiscoveryError, match=r"the limit is|too large|larger than max"):
                await component.publish_document("large", large * 2)

    run(scenario())


def test_c10_a_bad_name_or_content_is_refused(backend: Backend) -> None:
    async def scenario() -> None:
        async with fleet_on(backend) as fleet:
            component = await fleet.component()
            for name in ("", "a\ud800"):
                with pytest.raises(InvalidArgument, match="document's name"):
                    await component.publish_document(name, 1)
                with pytest.raises(InvalidArgument, match="document's name"):
                    await component.read_document(name)
            with pytest.raises(InvalidArgument, match="the document 'card' is not a JSON value"):
                await component.publish_document("card", float("nan"))
            assert await component.list_documents() == {}

    run(scenario())


@pytest.mark.parametrize(
    "value",
    [
        b"not json",
        b"[]",
        b'{"type":"Document"}',
        b'{"type":"Other","namespace":"ns","component":"comp","name":"card","instance_id":7,"digest":"","content":1}',
        b'{"type":"Document","namespace":"ns","component":"comp","name":"x","instance_id":7,"digest":"","content":1}',
        b'{"type":"Document","namespace":"ns","component":"comp","name":"card","instance_id":7,"digest":"","content":"\\ud800"}',
    ],
)
def test_c10_a_record_that_is_no_document_is_left_out(backend: Backend, value: bytes) -> None:
    async def scenario() -> None:
        async with fleet_on(backend) as fleet:
            stranger, component = await fleet.process(), await fleet.component()
            await stranger.discovery.register(DOCUMENTS, "ns/comp/card/7", value)
            published = await component.publish_document("card", 1)
            assert await component.list_documents() == {"card": (published,)}

    run(scenario())


def test_c10_a_digest_is_of_the_content_whatever_the_record_says(backend: Backend) -> None:
    async def scenario() -> None:
        async with fleet_on(backend) as fleet:
            stranger, component = await fleet.process(), await fleet.component()
            record = {"type": "Document", "namespace": "ns", "component": "comp", "name": "card",
                      "instance_id": 7, "digest": "blake3:lie", "content": {"a": 1}}  # fmt: skip
            await stranger.discovery.register(
                DOCUMENTS, "ns/comp/card/7", msgspec.json.encode(record)
            )
            published = await component.publish_document("card", {"a": 1})
            (found,) = (await component.list_documents())["card"]
            assert found.digest == published.digest
            assert 7 in found.publishers

    run(scenario())


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)


@given(values=st.dictionaries(NAMES, st.integers(0, 3), min_size=1, max_size=4))
@settings(max_examples=20)
@pytest.mark.parametrize("kind", sorted(BACKENDS))
def test_c10_c11_every_name_is_one(
    kind: str, values: dict[str, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def scenario() -> None:
        backend = BACKENDS[kind](tmp_path_factory.mktemp("registry"))
        async with fleet_on(backend) as fleet:
            component = await fleet.component()
            for name, value in values.items():
                await component.publish_document(name, value)
                await component.write_key(name, value)
            listed = await component.list_documents()
            assert {name: each[0].content for name, each in listed.items()} == values
            async with component.watch_key() as states:
                assert {
                    each.name: each.value for each in await first(states, len(values))
                } == values

    run(scenario())


# -- watched keys ----------------------------------------------------------------------------


async def first(states: Any, count: int) -> list[KeyState]:
    """The first states of a watch."""
    found: list[KeyState] = []
    async for state in states:
        found.append(state)
        if len(found) == count:
            return found
    raise AssertionError(f"the watch ended after {found}")


def test_c11_a_component_sees_what_others_write_under_its_path(backend: Backend) -> None:
    async def scenario() -> None:
        async with fleet_on(backend) as fleet:
            component, writer = await fleet.component(), await fleet.component()
            await writer.write_key("max batch", 8)
            async with component.watch_key("max batch") as states:
                seen = aiter(states)
                assert await anext(seen) == KeyState(
                    name="max batch", is_set=True, value=8, writer=instance_of(writer)
                )
                await component.write_key("other", 1)
                await writer.write_key("max batch", {"most": [16]})
                assert (await anext(seen)).value == {"most": [16]}
                await writer.delete_key("max batch")
                assert await anext(seen) == KeyState(name="max batch", is_set=False)
                await writer.write_key("max batch", None)
                assert await anext(seen) == KeyState(
                    name="max batch", is_set=True, value=None, writer=instance_of(writer)
                )

    run(scenario())


def test_c11_all_keys_of_a_component_can_be_watched_at_once(backend: Backend) -> None:
    async def scenario() -> None:
        async with fleet_on(backend) as fleet:
            component, other = await fleet.component(), await fleet.component("ns.comp2")
            await component.write_key("b", 1)
            await component.write_key("a", 2)
            await other.write_key("a", 3)
            async with component.watch_key() as states:
                seen = aiter(states)
                assert [
                    (each.name, each.value) for each in (await anext(seen), await anext(seen))
                ] == [
                    ("a", 2),
                    ("b", 1),
                ]
                await component.delete_key("a")
                assert (await anext(seen)) == KeyState(name="a", is_set=False)

    run(scenario())


def test_c11_the_last_writer_has_the_key(backend: Backend) -> None:
    async def scenario() -> None:
        async with fleet_on(backend) as fleet:
            one, two = await fleet.component(), await fleet.component()
            await one.write_key("k", 1)
            await two.write_key("k", 2)
            with pytest.raises(NotRegisteredError):
                await one.delete_key("k")
            async with one.watch_key("k") as states:
                (state,) = await first(states, 1)
                assert (state.value, state.writer) == (2, instance_of(two))

    run(scenario())


def test_c11_a_key_goes_with_its_writer(backend: Backend) -> None:
    async def scenario() -> None:
        async with fleet_on(backend) as fleet:
            component, leaving = await fleet.component(), await fleet.process()
            await leaving.namespace("ns").component("comp").write_key("k", 1)
            async with component.watch_key("k") as states:
                seen = aiter(states)
                assert (await anext(seen)).is_set
                await leaving.close()
                assert not (await anext(seen)).is_set

    run(scenario())


def test_c11_a_record_that_is_no_key_counts_as_none(backend: Backend) -> None:
    async def scenario() -> None:
        async with fleet_on(backend) as fleet:
            component, stranger = await fleet.component(), await fleet.process()
            await stranger.discovery.register(WATCHED, "ns/comp/k", b"{}")
            async with component.watch_key("k") as states:
                seen = aiter(states)
                await component.write_key("k", 1)
                assert (await anext(seen)).value == 1
                await stranger.discovery.register(WATCHED, "ns/comp/k", b'{"type":"Watched"}')
                assert not (await anext(seen)).is_set

    run(scenario())


def test_c11_a_watch_ends_when_the_registry_is_closed(backend: Backend) -> None:
    async def scenario() -> None:
        async with fleet_on(backend) as fleet:
            component = await fleet.component()
            process = await fleet.process()
            async with process.namespace("ns").component("comp").watch_key("k") as states:
                await component.write_key("k", 1)
                seen = aiter(states)
                assert (await anext(seen)).value == 1
                await process.close()
                assert [each async for each in seen] == []

    run(scenario())


def test_c11_a_callback_gets_each_state_and_may_fail(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with fleet_on(backend) as fleet:
            component, writer = await fleet.component(), await fleet.component()
            await writer.write_key("k", 1)
            seen: asyncio.Queue[Any] = asyncio.Queue()

            async def react(state: KeyState) -> None:
                seen.put_nowait(state.value)
                if state.value == 1:
                    raise RuntimeError("no ones, please")

            async with await component.on_key("k", react):
                assert await seen.get() == 1
                await writer.write_key("k", 2)
                assert await seen.get() == 2
            await writer.write_key("k", 3)
            async with await component.on_key("k", lambda state: seen.put_nowait(state.value)):
                assert await seen.get() == 3
            assert seen.empty()

    run(scenario())
    (record,) = [
        each for each in caplog.records if each.name == "muster.runtime.components.watched_keys"
    ]
    assert "no ones, please" in str(record.exc_info)


def test_c11_a_callback_may_end_its_own_reaction(backend: Backend) -> None:
    async def scenario() -> None:
        async with fleet_on(backend) as fleet:
            component = await fleet.component()
            seen: asyncio.Queue[Any] = asyncio.Queue()

            async def once(state: KeyState) -> None:
                seen.put_nowait(state.value)
                await reaction.close()

            reaction = await component.on_key(None, once)
            await component.write_key("k", 1)
            assert await seen.get() == 1
            await component.write_key("k", 2)
            async with component.watch_key("k") as states:
                await first(states, 1)  # the registry has told everybody
            assert seen.empty()

    run(scenario())


def test_c11_reactions_end_with_the_runtime(backend: Backend) -> None:
    async def scenario() -> None:
        async with fleet_on(backend) as fleet:
            process = await fleet.process()
            component = process.namespace("ns").component("comp")
            began, ended = asyncio.Event(), asyncio.Event()

            async def hang(state: KeyState) -> None:
                began.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    ended.set()

            await component.on_key("k", hang)
            await component.write_key("k", 1)
            await began.wait()
            await process.close()
            assert ended.is_set()
            with pytest.raises(DiscoveryError):
                await component.on_key("k", hang)

    run(scenario())


def test_c11_a_bad_key_is_refused(backend: Backend) -> None:
    async def scenario() -> None:
        async with fleet_on(backend) as fleet:
            component = await fleet.component()
            for name in ("", "a\ud800"):
                with pytest.raises(InvalidArgument, match="key's name"):
                    await component.write_key(name, 1)
                with pytest.raises(InvalidArgument, match="key's name"):
                    await component.on_key(name, print)
            with pytest.raises(InvalidArgument, match="the key 'k' is not a JSON value"):
                await component.write_key("k", object())

    run(scenario())
