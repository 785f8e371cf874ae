"""One suite for every registry: what ``muster.discovery.base`` promises.

A backend joins by adding a ``Backend`` to ``BACKENDS``.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import dataclasses
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import example, given, settings
from hypothesis import strategies as st

from muster.config.settings import DiscoverySettings, EtcdSettings
from muster.discovery.base import Change, Discovery, Watch
from muster.discovery.etcd.registry import EtcdDiscovery
from muster.discovery.file import FileDiscovery
from muster.discovery.memory import MemoryDiscovery, MemoryRegistry
from muster.discovery.records import INSTANCES, MODELS
from muster.errors import ConflictError, DiscoveryError, NotRegisteredError
from muster.testing.etcd_server import shared_etcd

T = TypeVar("T")


class Backend(Protocol):
    """A registry under test, as several processes see it."""

    crash_s: float
    """Longest time from a crash until nobody sees the process's records."""

    def open(self) -> Discovery:
        """A new process."""
        ...

    def crash(self, discovery: Discovery) -> None:
        """That process dies without a word."""
        ...


class MemoryBackend:
    crash_s = 0.5

    def __init__(self, _directory: Path) -> None:
        self.registry = MemoryRegistry()

    def open(self) -> Discovery:
        return MemoryDiscovery(self.registry)

    def crash(self, discovery: Discovery) -> None:
        self.registry.expire(discovery.instance_id)


class FileBackend:
    ttl_s = 1.0
    crash_s = ttl_s + 1.0

    def __init__(self, directory: Path) -> None:
        self.settings = DiscoverySettings(file_root=directory / "kv", file_ttl_s=self.ttl_s)

    def open(self) -> Discovery:
        return FileDiscovery(self.settings)

    def crash(self, discovery: Discovery) -> None:
        assert isinstance(discovery, FileDiscovery)
        discovery._keeper.stop()
        discovery._watcher.stop()
        discovery._owned._claims.clear()
        atexit.unregister(discovery.close_now)


class EtcdBackend:
    crash_s = 4.0  # etcd looks for leases that have run out every half second

    def __init__(self, _directory: Path) -> None:
        server = shared_etcd()
        if server is None:
            pytest.skip("there is no etcd on this machine")
        server.clear()
        self.settings = EtcdSettings(endpoints=(server.url,), lease_ttl_s=1)

    def open(self) -> Discovery:
        return EtcdDiscovery(self.settings)

    def crash(self, discovery: Discovery) -> None:
        assert isinstance(discovery, EtcdDiscovery)
        discovery.abandon()


BACKENDS: dict[str, Callable[[Path], Backend]] = {
    "memory": MemoryBackend,
    "file": FileBackend,
    "etcd": EtcdBackend,
}


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    return BACKENDS[request.param](tmp_path)


def run(work: Coroutine[Any, Any, T], *, limit_s: float = 30) -> T:
    """Run a test's coroutine; fails if it takes long or blocks the event loop."""

    async def limited() -> T:
        async with asyncio.timeout(limit_s):
            return await work

    with blockbuster_ctx("muster"):
        return asyncio.run(limited())


@contextlib.asynccontextmanager
async def processes(backend: Backend, count: int) -> AsyncIterator[list[Discovery]]:
    """Some processes on one registry, closed at the end."""
    opened = [backend.open() for _ in range(count)]
    try:
        yield opened
    finally:
        for discovery in opened:
            await discovery.close()


async def changes_until(watch: Watch, key: str) -> list[Change]:
    """All changes up to the first one of ``key``, which is left out."""
    seen: list[Change] = []
    async for change in watch:
        if change.key == key:
            break
        seen.append(change)
    return seen


async def state_until(watch: Watch, done: Callable[[dict[str, bytes]], bool]) -> dict[str, bytes]:
    """Apply changes to the snapshot until ``done`` is content with the result."""
    state = dict(watch.snapshot)
    if done(state):
        return state
    async for change in watch:
        if change.value is None:
            del state[change.key]
        else:
            state[change.key] = change.value
        if done(state):
            break
    return state


def test_a_registered_record_is_listed_by_everybody_with_its_exact_bytes(backend: Backend) -> None:
    async def body() -> None:
        async with processes(backend, 2) as (a, b):
            value = b'{"type":"Endpoint", "x":"\xc3\xa9"}\n'
            await a.register(INSTANCES, "ns/c/e/1f", value)
            assert await a.list(INSTANCES) == {"ns/c/e/1f": value}
            assert await b.list(INSTANCES) == {"ns/c/e/1f": value}
            assert await b.list(MODELS) == {}

    run(body())


def test_an_empty_registry_lists_nothing(backend: Backend) -> None:
    async def body() -> None:
        async with processes(backend, 1) as (a,):
            assert await a.list(INSTANCES) == {}
            assert await a.list("v1/never-seen", "a/b") == {}

    run(body())


def test_create_refuses_a_live_record_and_leaves_it_as_it_is(backend: Backend) -> None:
    async def body() -> None:
        async with processes(backend, 2) as (a, b):
            await a.register(INSTANCES, "k", b"1", create=True)
            for other in (a, b):
                with pytest.raises(ConflictError):
                    await other.register(INSTANCES, "k", b"2", create=True)
            assert await b.list(INSTANCES) == {"k": b"1"}

    run(body())


def test_register_replaces_a_record_of_ours(backend: Backend) -> None:
    async def body() -> None:
        async with processes(backend, 2) as (a, b):
            await a.register(INSTANCES, "k", b"1")
            await a.register(INSTANCES, "k", b"2")
            assert await b.list(INSTANCES) == {"k": b"2"}
            await a.deregister(INSTANCES, "k")
            assert await b.list(INSTANCES) == {}

    run(body())


def test_a_record_that_another_process_replaced_is_the_others(backend: Backend) -> None:
    async def body() -> None:
        async with processes(backend, 3) as (a, b, c):
            await a.register(INSTANCES, "k", b"a")
            await b.register(INSTANCES, "k", b"b")
            with pytest.raises(NotRegisteredError):
                await a.deregister(INSTANCES, "k")
            await a.close()
            assert await c.list(INSTANCES) == {"k": b"b"}

    run(body())


def test_deregister_removes_a_record_for_everybody(backend: Backend) -> None:
    async def body() -> None:
        async with processes(backend, 2) as (a, b):
            await a.register(INSTANCES, "k", b"1")
            await a.deregister(INSTANCES, "k")
            assert await a.list(INSTANCES) == await b.list(INSTANCES) == {}
            await b.register(INSTANCES, "k", b"2", create=True)

    run(body())


def test_deregister_of_what_we_have_not_registered_raises(backend: Backend) -> None:
    async def body() -> None:
        async with processes(backend, 2) as (a, b):
            await a.register(INSTANCES, "k", b"1")
            await a.register(INSTANCES, "twice", b"1")
            await a.deregister(INSTANCES, "twice")
            for who, bucket, key in (
                (a, INSTANCES, "other"),
                (a, INSTANCES, "twice"),
                (a, MODELS, "k"),
                (a, INSTANCES, ""),
                (a, INSTANCES, "x" * 1000),
                (b, INSTANCES, "k"),
            ):
                with pytest.raises(NotRegisteredError):
                    await who.deregister(bucket, key)
            assert await a.list(INSTANCES) == {"k": b"1"}

    run(body())


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("", {"a", "a/b", "a/b/c", "a/bc", "b"}),
        ("a", {"a", "a/b", "a/b/c", "a/bc"}),
        ("a/b", {"a/b", "a/b/c"}),
        ("a/b/", {"a/b/c"}),
        ("a/b/c", {"a/b/c"}),
        ("a/b/c/d", set()),
    ],
)
def test_prefixes_end_at_segments(backend: Backend, prefix: str, expected: set[str]) -> None:
    async def body() -> None:
        async with processes(backend, 2) as (a, b):
            for key in ("a", "a/b", "a/b/c", "a/bc", "b"):
                await a.register(INSTANCES, key, key.encode())
            assert (await b.list(INSTANCES, prefix)).keys() == expected
            async with b.watch(INSTANCES, prefix) as watch:
                assert watch.snapshot.keys() == expected
                for key in ("a", "a/b", "a/b/c", "a/bc", "b"):
                    await a.deregister(INSTANCES, key)
                gone = await state_until(watch, lambda state: not state)
                assert gone == {}

    run(body())


def test_a_watch_gives_the_snapshot_then_each_change_and_nothing_twice(backend: Backend) -> None:
    async def body() -> None:
        async with processes(backend, 2) as (a, b):
            await a.register(INSTANCES, "old", b"1")
            await a.register(INSTANCES, "leaves", b"1")
            async with b.watch(INSTANCES) as watch:
                assert watch.snapshot == {"old": b"1", "leaves": b"1"}
                await a.register(INSTANCES, "new", b"1")
                await a.deregister(INSTANCES, "leaves")
                await a.register(INSTANCES, "old", b"2")
                await a.register(MODELS, "elsewhere", b"1")
                changes: list[Change] = []
                async for change in watch:
                    changes.append(change)
                    if len(changes) == 3:
                        break
                assert sorted(changes, key=lambda change: change.key) == [
                    Change("leaves", None),
                    Change("new", b"1"),
                    Change("old", b"2"),
                ]
                await a.register(INSTANCES, "end", b"1")
                assert await changes_until(watch, "end") == []

    run(body())


def test_equal_bytes_written_again_are_no_change(backend: Backend) -> None:
    async def body() -> None:
        async with processes(backend, 2) as (a, b):
            await a.register(INSTANCES, "k", b"1")
            async with b.watch(INSTANCES) as watch:
                for _ in range(3):
                    await a.register(INSTANCES, "k", b"1")
                await a.register(INSTANCES, "end", b"1")
                assert await changes_until(watch, "end") == []

    run(body())


def test_no_gap_between_snapshot_and_changes(backend: Backend) -> None:
    """Records appear all the time while watches begin; each watch must get every one."""

    async def body() -> None:
        async with processes(backend, 2) as (a, b):
            keys = {f"ns/c/e/{number:x}" for number in range(120)}

            async def write() -> None:
                for key in keys:
                    await a.register(INSTANCES, key, key.encode())

            async def watch() -> dict[str, bytes]:
                async with b.watch(INSTANCES) as opened:
                    return await state_until(opened, lambda state: state.keys() == keys)

            async with asyncio.TaskGroup() as group:
                group.create_task(write())
                watches = [group.create_task(watch()) for _ in range(8)]
            for task in watches:
                assert task.result() == {key: key.encode() for key in keys}

    run(body())


def test_several_watches_of_one_process_are_independent(backend: Backend) -> None:
    async def body() -> None:
        async with processes(backend, 2) as (a, b):
            async with (
                b.watch(INSTANCES) as everything,
                b.watch(INSTANCES, "x") as some,
                b.watch(MODELS) as models,
            ):
                await a.register(INSTANCES, "x/1", b"1")
                await a.register(INSTANCES, "y/1", b"1")
                await a.register(MODELS, "m", b"1")
                assert await state_until(models, bool) == {"m": b"1"}
                assert await state_until(some, bool) == {"x/1": b"1"}
                both = await state_until(everything, lambda state: len(state) == 2)
                assert both == {"x/1": b"1", "y/1": b"1"}
            async with b.watch(INSTANCES, "y") as late:
                assert late.snapshot == {"y/1": b"1"}
                await a.deregister(INSTANCES, "y/1")
                assert await anext(aiter(late)) == Change("y/1", None)

    run(body())


def test_a_slow_reader_gets_one_merged_change_with_the_last_state(backend: Backend) -> None:
    async def body() -> None:
        async with (
            processes(backend, 2) as (a, b),
            b.watch(INSTANCES) as slow,
            b.watch(INSTANCES) as quick,
        ):
            for number in range(20):
                await a.register(INSTANCES, "k", b"%d" % number)
            await a.register(INSTANCES, "passing", b"1")
            await state_until(quick, lambda state: len(state) == 2)
            await a.deregister(INSTANCES, "passing")
            await a.register(INSTANCES, "end", b"1")
            await changes_until(quick, "end")
            # The quick reader has seen everything, and both are served by one publisher.
            assert await changes_until(slow, "end") == [Change("k", b"19")]

    run(body())


def test_a_watch_ends_when_the_registry_is_closed(backend: Backend) -> None:
    async def body() -> None:
        async with processes(backend, 1) as (a,), a.watch(INSTANCES) as watch:
            reader = asyncio.ensure_future(state_until(watch, lambda state: False))
            await asyncio.sleep(0)
            await a.close()
            assert await reader == {}

    run(body())


def test_a_watch_reports_the_process_own_records(backend: Backend) -> None:
    async def body() -> None:
        async with processes(backend, 1) as (a,), a.watch(INSTANCES) as watch:
            await a.register(INSTANCES, "k", b"1")
            assert await anext(aiter(watch)) == Change("k", b"1")
            await a.deregister(INSTANCES, "k")
            assert await anext(aiter(watch)) == Change("k", None)

    run(body())


def test_records_of_a_crashed_process_go_away_and_others_stay(backend: Backend) -> None:
    async def body() -> None:
        async with processes(backend, 3) as (victim, other, observer):
            await victim.register(INSTANCES, "victim", b"1")
            await other.register(INSTANCES, "other", b"1")
            async with observer.watch(INSTANCES) as watch:
                assert watch.snapshot.keys() == {"victim", "other"}
                await asyncio.to_thread(backend.crash, victim)
                async with asyncio.timeout(backend.crash_s):
                    assert await anext(aiter(watch)) == Change("victim", None)
            assert await observer.list(INSTANCES) == {"other": b"1"}
            await other.register(INSTANCES, "victim", b"2", create=True)
            assert await observer.list(INSTANCES, "victim") == {"victim": b"2"}

    run(body())


def test_a_record_outlives_its_time_to_live_while_its_process_lives(backend: Backend) -> None:
    async def body() -> None:
        async with processes(backend, 2) as (a, b):
            await a.register(INSTANCES, "k", b"1")
            async with b.watch(INSTANCES) as watch:
                # Waiting is what is tested here: nothing may happen for two times to live.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(backend.crash_s + 0.5):
                        pytest.fail(f"unexpected: {await anext(aiter(watch))}")
            assert await b.list(INSTANCES) == {"k": b"1"}

    run(body())


def test_close_removes_what_is_ours_and_is_idempotent(backend: Backend) -> None:
    async def body() -> None:
        async with processes(backend, 2) as (a, b):
            await b.register(INSTANCES, "theirs", b"1")
            for number in range(5):
                await a.register(INSTANCES, f"ours/{number}", b"1")
                await a.register(MODELS, f"ours/{number}", b"1")
            await a.close()
            await a.close()
            a.close_now()
            assert await b.list(INSTANCES) == {"theirs": b"1"}
            assert await b.list(MODELS) == {}

    run(body())


def test_close_now_needs_no_loop_and_is_safe_from_many_threads(backend: Backend) -> None:
    a, b = backend.open(), backend.open()
    run(a.register(INSTANCES, "k", b"1"))
    threads = [threading.Thread(target=a.close_now) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert run(b.list(INSTANCES)) == {}
    b.close_now()


def test_a_registry_closed_unused_and_calls_after_closing(backend: Backend) -> None:
    async def body() -> None:
        closed = backend.open()
        await closed.close()

        async def watch() -> None:
            async with closed.watch(INSTANCES):
                pytest.fail("a closed registry was watched")

        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: closed.register(INSTANCES, "k", b"1"),
            lambda: closed.deregister(INSTANCES, "k"),
            lambda: closed.list(INSTANCES),
            watch,
        ]
        for call in calls:
            with pytest.raises(DiscoveryError, match="closed"):
                await call()
        async with processes(backend, 1) as (other,):
            assert await other.list(INSTANCES) == {}

    run(body())


def test_a_close_during_registrations_leaves_nothing_behind(backend: Backend) -> None:
    async def body() -> None:
        async with processes(backend, 2) as (a, b):
            writes = [a.register(INSTANCES, f"k/{number}", b"1") for number in range(50)]
            results = await asyncio.gather(*writes, a.close(), return_exceptions=True)
            assert all(r is None or isinstance(r, DiscoveryError) for r in results)
            assert await b.list(INSTANCES) == {}

    run(body())


def test_instance_ids_are_nonzero_distinct_u64(backend: Backend) -> None:
    ids = [backend.open().instance_id for _ in range(64)]
    assert len(set(ids)) == 64
    assert all(0 < one < 1 << 64 for one in ids)
    assert max(ids) > 1 << 53, "ids must use the whole range, as Dynamo's do"


def test_of_many_creators_of_one_key_exactly_one_wins(backend: Backend) -> None:
    async def body() -> None:
        async with processes(backend, 8) as contenders:
            for round_ in range(5):
                key = f"k/{round_}"
                results = await asyncio.gather(
                    *(
                        one.register(INSTANCES, key, b"%d" % number, create=True)
                        for number, one in enumerate(contenders)
                    ),
                    return_exceptions=True,
                )
                winners = [number for number, r in enumerate(results) if r is None]
                losers = [r for r in results if r is not None]
                assert len(winners) == 1
                assert all(isinstance(r, ConflictError) for r in losers)
                listed = await contenders[0].list(INSTANCES, key)
                assert listed == {key: b"%d" % winners[0]}

    run(body())


def test_writers_replacing_one_key_never_show_half_a_record(backend: Backend) -> None:
    async def body() -> None:
        async with processes(backend, 3) as (a, b, reader):
            texts = {bytes([letter]) * 20_000 for letter in b"abcdef"}
            await a.register(INSTANCES, "k", next(iter(texts)))

            async def write(who: Discovery) -> None:
                for text in [*texts] * 5:
                    await who.register(INSTANCES, "k", text)

            async with reader.watch(INSTANCES) as watch, asyncio.TaskGroup() as group:
                writers = [group.create_task(write(a)), group.create_task(write(b))]
                while not all(task.done() for task in writers):
                    assert set((await reader.list(INSTANCES)).values()) <= texts
                    await asyncio.sleep(0)
                await a.register(INSTANCES, "end", b"1")
                assert {change.value for change in await changes_until(watch, "end")} <= texts

    run(body())


@pytest.mark.timeout(120)
def test_ten_thousand_records(backend: Backend) -> None:
    expected = {f"ns/c/e{n % 100}/{n:x}": b'{"n":%d}' % n for n in range(10_000)}
    if isinstance(backend, FileBackend):  # refreshing thousands of files takes longer than a second
        backend.settings = dataclasses.replace(backend.settings, file_ttl_s=10.0)

    async def body() -> None:
        async with processes(backend, 4) as (*writers, reader):
            async with reader.watch(INSTANCES) as watch:
                todo = iter(expected.items())

                async def write(discovery: Discovery) -> None:
                    for key, value in todo:
                        await discovery.register(INSTANCES, key, value)

                async with asyncio.TaskGroup() as group:
                    for writer in writers:
                        for _ in range(4):
                            group.create_task(write(writer))
                assert await state_until(watch, lambda s: len(s) == 10_000) == expected
            assert await reader.list(INSTANCES) == expected
            assert len(await reader.list(INSTANCES, "ns/c/e7")) == 100
            for writer in writers:
                await writer.close()
            assert await reader.list(INSTANCES) == {}

    run(body(), limit_s=100)


def test_a_thousand_records(backend: Backend) -> None:
    async def body() -> None:
        async with processes(backend, 2) as (a, b):
            expected = {f"ns/c/e/{number:x}": b'{"n":%d}' % number for number in range(1000)}
            async with b.watch(INSTANCES) as watch:
                for key, value in expected.items():
                    await a.register(INSTANCES, key, value)
                assert await state_until(watch, lambda state: len(state) == 1000) == expected
                assert await b.list(INSTANCES, "ns/c") == expected
                await a.close()
                assert await state_until(watch_state(watch, expected), lambda s: not s) == {}
            assert await b.list(INSTANCES) == {}

    run(body())


class watch_state:  # noqa: N801 - reads as a function: a watch that goes on from a known state
    def __init__(self, watch: Watch, state: dict[str, bytes]) -> None:
        self.snapshot = state
        self._watch = watch

    def __aiter__(self) -> AsyncIterator[Change]:
        return aiter(self._watch)


@pytest.mark.parametrize(
    "bucket", ["", "/", "..", "v1/../../etc", "/etc", "v1//x", "v1/", "a\0b", ".tmp_x", "a b"]
)
def test_a_bucket_that_is_no_name_is_refused(backend: Backend, bucket: str) -> None:
    async def body() -> None:
        async with processes(backend, 1) as (a,):
            with pytest.raises(DiscoveryError, match="not a bucket"):
                await a.register(bucket, "k", b"1")
            with pytest.raises(DiscoveryError, match="not a bucket"):
                await a.list(bucket)

    run(body())


@pytest.mark.parametrize(("key", "value"), [("", b"1"), ("a\ud800", b"1"), ("k", b"")])
def test_a_record_that_cannot_be_kept_is_refused(backend: Backend, key: str, value: bytes) -> None:
    async def body() -> None:
        async with processes(backend, 1) as (a,):
            with pytest.raises(DiscoveryError):
                await a.register(INSTANCES, key, value)
            assert await a.list(INSTANCES) == {}

    run(body())


@contextlib.contextmanager
def fresh_backend(name: str) -> Iterator[Backend]:
    with tempfile.TemporaryDirectory() as directory:
        yield BACKENDS[name](Path(directory))


# 20 characters of up to four bytes stay within a file name's 255 bytes after encoding.
keys = st.text(min_size=1, max_size=20)


@pytest.mark.parametrize("name", list(BACKENDS))
@settings(max_examples=30, deadline=None)
@given(records=st.dictionaries(keys, st.binary(min_size=1, max_size=64), max_size=8))
@example(records={".": b"1", "..": b"2", "../x": b"3", "a%2Fb": b"4", "a/b": b"5", "%": b"6"})
@example(records={"\0": b"1", "\n": b"2", "~": b"3", "é": b"4", "e\u0301": b"5", "A": b"6"})
@example(records={"a": b"1", "A": b"2", ".tmp_0123456789abcdef": b"3", "-_.~": b"4", " ": b"5"})
def test_any_text_is_a_key(name: str, records: dict[str, bytes]) -> None:
    async def body(backend: Backend) -> None:
        async with processes(backend, 2) as (a, b):
            async with b.watch(INSTANCES) as watch:
                for key, value in records.items():
                    await a.register(INSTANCES, key, value, create=True)
                assert await b.list(INSTANCES) == records
                assert await state_until(watch, lambda state: state == records) == records
            for key in records:
                await a.deregister(INSTANCES, key)
            assert await b.list(INSTANCES) == {}

    with fresh_backend(name) as backend:
        run(body(backend))
