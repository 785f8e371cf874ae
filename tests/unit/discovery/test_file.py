from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import logging
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from blockbuster import blockbuster_ctx

from muster.clock import SYSTEM_CLOCK, Clock
from muster.config.settings import DiscoverySettings, Settings
from muster.discovery.base import Change, Discovery, Watch
from muster.discovery.file import FileDiscovery
from muster.discovery.records import INSTANCES, MODELS
from muster.errors import ConflictError, DiscoveryError, NotRegisteredError

T = TypeVar("T")

TTL = 0.9
KEY = "exp-ns/backend/generate/9536eb734130248"
FILE = "exp%2Dns%2Fbackend%2Fgenerate%2F9536eb734130248"


class ShiftedClock:
    """The system's clocks, with a wall clock somebody sets."""

    def __init__(self) -> None:
        self.shift_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time() + self.shift_s


def run(work: Coroutine[Any, Any, T]) -> T:
    async def limited() -> T:
        async with asyncio.timeout(20):
            return await work

    with blockbuster_ctx("muster"):
        return asyncio.run(limited())


@pytest.fixture
def settings(tmp_path: Path) -> DiscoverySettings:
    # The poll is so rare that what a test sees comes from notifications or timed looks.
    return DiscoverySettings(file_root=tmp_path / "kv", file_ttl_s=TTL, poll_interval_s=60)


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    return tmp_path / "kv" / "v1" / "instances"


@contextlib.asynccontextmanager
async def opened(
    settings: DiscoverySettings, clock: Clock = SYSTEM_CLOCK
) -> AsyncIterator[FileDiscovery]:
    discovery = FileDiscovery(settings, clock=clock)
    try:
        yield discovery
    finally:
        await discovery.close()


async def eventually(done: Callable[[], object], timeout_s: float = 5.0) -> None:
    """Wait until ``done()`` is true: for what only the disk can tell."""
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(done):  # noqa: ASYNC110 - a disk has no event
            await asyncio.sleep(0.005)


def files(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def plant(path: Path, value: bytes = b"{}", *, age_s: float = 0.0) -> None:
    """A record of some other process, last refreshed ``age_s`` ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(".tmp_00000000000000ff")
    temporary.write_bytes(value)
    os.utime(temporary, (time.time() - age_s,) * 2)
    temporary.rename(path)


async def next_change(watch: Watch, timeout_s: float = 5.0) -> Change:
    return await asyncio.wait_for(anext(aiter(watch)), timeout_s)


def test_records_are_files_named_as_dynamo_names_them(
    settings: DiscoverySettings, bucket: Path
) -> None:
    async def body() -> None:
        async with opened(settings) as a:
            await a.register(INSTANCES, KEY, b'{"x":1}')
            assert files(bucket) == [FILE]
            assert (bucket / FILE).read_bytes() == b'{"x":1}'
            await a.register(MODELS, "a_b.c~d/é", b"{}", create=True)
            assert files(bucket.parent / "mdc") == ["a%5Fb%2Ec%7Ed%2F%C3%A9"]
        assert files(bucket) == files(bucket.parent / "mdc") == []

    run(body())


def test_the_owner_refreshes_the_files_time_in_steps_of_a_third(
    settings: DiscoverySettings, bucket: Path
) -> None:
    async def body() -> None:
        async with opened(settings) as a:
            await a.register(INSTANCES, KEY, b"{}")
            path = bucket / FILE
            times = [path.stat().st_mtime]
            for _ in range(3):
                await eventually(lambda: path.stat().st_mtime != times[-1])
                times.append(path.stat().st_mtime)
            steps = [after - before for before, after in itertools.pairwise(times)]
            assert all(step == pytest.approx(TTL / 3, abs=0.2) for step in steps)

    run(body())


def test_a_blocked_loop_loses_nothing(settings: DiscoverySettings, bucket: Path) -> None:
    async def block() -> None:
        async with opened(settings) as owner, opened(settings) as other:
            await owner.register(INSTANCES, KEY, b"{}")
            inode = (bucket / FILE).stat().st_ino
            async with other.watch(INSTANCES) as watch:
                # The loop does nothing for three times to live; `other`'s thread judges meanwhile.
                time.sleep(3 * TTL)  # noqa: ASYNC251 - that is the point
                assert (bucket / FILE).stat().st_ino == inode, "it was removed and written anew"
                assert await other.list(INSTANCES) == {KEY: b"{}"}
                await owner.register(INSTANCES, "end", b"{}")
                assert await next_change(watch) == Change("end", b"{}")

    asyncio.run(block())


def test_a_change_is_seen_by_notification_within_a_fraction_of_a_second(
    settings: DiscoverySettings,
) -> None:
    async def body() -> None:
        async with opened(settings) as a, opened(settings) as b, b.watch(INSTANCES) as watch:
            delays = []
            for number in range(10):
                before = time.monotonic()
                await a.register(INSTANCES, "k", b"%d" % number)
                await next_change(watch)
                delays.append(time.monotonic() - before)
            assert sorted(delays)[5] < 0.1

    run(body())


def test_what_other_processes_do_to_files_is_seen(
    settings: DiscoverySettings, bucket: Path
) -> None:
    async def body() -> None:
        async with opened(settings) as a, a.watch(INSTANCES) as watch:
            path = bucket / FILE
            plant(path, b"1")
            assert await next_change(watch) == Change(KEY, b"1")
            path.write_bytes(b"2")
            assert await next_change(watch) == Change(KEY, b"2")
            plant(path, b"3")
            assert await next_change(watch) == Change(KEY, b"3")
            plant(path, b"3")
            os.utime(path)
            path.rename(bucket / "other")
            assert {await next_change(watch), await next_change(watch)} == {
                Change(KEY, None),
                Change("other", b"3"),
            }
            (bucket / "other").unlink()
            assert await next_change(watch) == Change("other", None)

    run(body())


def test_a_file_being_written_in_place_keeps_its_last_value_while_it_is_empty(
    settings: DiscoverySettings, bucket: Path
) -> None:
    async def body() -> None:
        async with opened(settings) as a, a.watch(INSTANCES) as watch:
            plant(bucket / "k", b"1")
            assert await next_change(watch) == Change("k", b"1")
            (bucket / "k").write_bytes(b"")
            (bucket / "new").write_bytes(b"")
            plant(bucket / "mark", b"1")
            assert await next_change(watch) == Change("mark", b"1")
            assert await a.list(INSTANCES) == {"k": b"1", "mark": b"1"}
            (bucket / "new").write_bytes(b"2")
            assert await next_change(watch) == Change("new", b"2")

    run(body())


def test_an_edit_of_our_file_in_place_is_seen_and_the_record_stays_ours(
    settings: DiscoverySettings, bucket: Path
) -> None:
    async def body() -> None:
        async with opened(settings) as a, opened(settings) as b:
            await a.register(INSTANCES, KEY, b"1")
            async with b.watch(INSTANCES) as watch:
                (bucket / FILE).write_bytes(b"edited")
                assert await next_change(watch) == Change(KEY, b"edited")
            await a.deregister(INSTANCES, KEY)
            assert files(bucket) == []

    run(body())


def test_a_record_that_someone_removed_is_written_anew(
    settings: DiscoverySettings, bucket: Path
) -> None:
    async def body() -> None:
        async with opened(settings) as a, opened(settings) as b:
            await a.register(INSTANCES, KEY, b"1")
            async with b.watch(INSTANCES) as watch:
                (bucket / FILE).unlink()
                assert await next_change(watch) == Change(KEY, None)
                assert await next_change(watch) == Change(KEY, b"1")
            await a.deregister(INSTANCES, KEY)
            assert files(bucket) == []

    run(body())


def test_deregistering_what_someone_removed_raises_and_it_does_not_come_back(
    settings: DiscoverySettings, bucket: Path
) -> None:
    async def body() -> None:
        async with opened(settings) as a:
            await a.register(INSTANCES, KEY, b"1")
            (bucket / FILE).unlink()
            with pytest.raises(NotRegisteredError):
                await a.deregister(INSTANCES, KEY)
            a._owned.refresh()
            assert files(bucket) == []

    run(body())


def test_ours_comes_back_when_the_one_that_replaced_it_has_gone(
    settings: DiscoverySettings, bucket: Path
) -> None:
    async def body() -> None:
        async with opened(settings) as a, opened(settings) as b:
            await a.register(INSTANCES, "k", b"a")
            plant(bucket / "k", b"foreign")
            async with b.watch(INSTANCES) as watch:
                assert watch.snapshot == {"k": b"foreign"}
                # Nobody refreshes the foreign one, so it runs out.
                assert await next_change(watch) == Change("k", None)
                assert await next_change(watch) == Change("k", b"a")

    run(body())


def remove_tree(root: Path) -> None:
    """Remove a directory that its owner may write into at the same moment."""
    for _ in range(50):
        with contextlib.suppress(OSError):
            shutil.rmtree(root)
            return
    raise AssertionError(f"{root} cannot be removed")


def test_a_removed_directory_is_made_again_and_watched_again(
    settings: DiscoverySettings, bucket: Path
) -> None:
    async def body() -> None:
        async with opened(settings) as a, opened(settings) as b:
            await a.register(INSTANCES, "a", b"1")
            async with b.watch(INSTANCES) as watch:
                assert watch.snapshot == {"a": b"1"}
                await asyncio.to_thread(remove_tree, bucket.parent.parent)
                assert await next_change(watch) == Change("a", None)
                # The owner's next refresh brings the record back, with the directory.
                assert await next_change(watch) == Change("a", b"1")
                plant(bucket / "b", b"2")
                assert await next_change(watch) == Change("b", b"2")

    run(body())


def test_a_directory_exchanged_under_a_watch_is_found_by_the_poll(
    settings: DiscoverySettings, bucket: Path
) -> None:
    async def body() -> None:
        polling = dataclasses.replace(settings, poll_interval_s=0.1, file_ttl_s=30)
        async with opened(polling) as a, a.watch(INSTANCES) as watch:
            await eventually(lambda: a._watcher._notifier)
            root = bucket.parent.parent
            root.rename(root.with_name("old"))
            plant(bucket / "k", b"1")
            assert await next_change(watch) == Change("k", b"1")
            await eventually(lambda: a._watcher._notifier and a._watcher._notifier.intact())
            (bucket / "k").write_bytes(b"2")
            assert await next_change(watch) == Change("k", b"2")

    run(body())


@pytest.mark.parametrize("age_s", [TTL + 0.5, 3600])
def test_a_leftover_is_neither_listed_nor_reported_and_any_process_removes_it(
    settings: DiscoverySettings, bucket: Path, age_s: float
) -> None:
    async def body() -> None:
        plant(bucket / "dead", age_s=age_s)
        async with opened(settings) as a:
            assert await a.list(INSTANCES) == {}
            assert files(bucket) == []
            # A name of its own each: a file that changes under a known name counts as refreshed.
            plant(bucket / "dead2", age_s=age_s)
            async with a.watch(INSTANCES) as watch:
                assert watch.snapshot == {}
                plant(bucket / "dead3", age_s=age_s)
                plant(bucket / "alive")
                assert await next_change(watch) == Change("alive", b"{}")
                await eventually(lambda: files(bucket) == ["alive"])

    run(body())


def test_a_process_that_only_serves_removes_leftovers_too(
    settings: DiscoverySettings, bucket: Path
) -> None:
    async def body() -> None:
        async with opened(dataclasses.replace(settings, poll_interval_s=0.1)) as a:
            await a.register(INSTANCES, "mine", b"{}")
            plant(bucket / "dead", age_s=3600)
            await eventually(lambda: files(bucket) == ["mine"])

    run(body())


def test_create_succeeds_over_a_leftover_and_not_over_a_living_record(
    settings: DiscoverySettings, bucket: Path
) -> None:
    async def body() -> None:
        plant(bucket / "dead", age_s=3600)
        plant(bucket / "alive")
        async with opened(settings) as a:
            await a.register(INSTANCES, "dead", b"1", create=True)
            with pytest.raises(ConflictError):
                await a.register(INSTANCES, "alive", b"1", create=True)
            assert await a.list(INSTANCES) == {"dead": b"1", "alive": b"{}"}

    run(body())


def test_of_many_creators_over_one_leftover_exactly_one_wins(
    settings: DiscoverySettings, bucket: Path
) -> None:
    async def body() -> None:
        lasting = dataclasses.replace(settings, file_ttl_s=30)
        async with contextlib.AsyncExitStack() as stack:
            contenders = [await stack.enter_async_context(opened(lasting)) for _ in range(6)]
            for round_ in range(30):
                key = f"k{round_}"
                plant(bucket / key, b"dead", age_s=3600)
                results = await asyncio.gather(
                    *(
                        one.register(INSTANCES, key, b"%d" % i, create=True)
                        for i, one in enumerate(contenders)
                    ),
                    return_exceptions=True,
                )
                winner = results.index(None)
                losers = results[:winner] + results[winner + 1 :]
                assert all(isinstance(result, ConflictError) for result in losers)
                assert (bucket / key).read_bytes() == b"%d" % winner

    run(body())


def test_an_owner_that_died_is_reported_at_its_time_to_live_without_a_poll(
    settings: DiscoverySettings, bucket: Path
) -> None:
    async def body() -> None:
        async with opened(settings) as a, a.watch(INSTANCES) as watch:
            plant(bucket / "k")
            born = time.monotonic()
            assert await next_change(watch) == Change("k", b"{}")
            os.utime(bucket / "k")
            assert await next_change(watch) == Change("k", None)
            assert TTL - 0.1 < time.monotonic() - born < TTL + 1.0
            await eventually(lambda: not files(bucket))

    run(body())


def test_a_dead_record_is_found_among_many_that_are_refreshed_all_the_time(
    settings: DiscoverySettings, bucket: Path
) -> None:
    async def body() -> None:
        async with opened(settings) as a, opened(settings) as b, a.watch(INSTANCES) as watch:
            await b.register(INSTANCES, "alive", b"{}")
            assert await next_change(watch) == Change("alive", b"{}")
            plant(bucket / "dead")
            assert await next_change(watch) == Change("dead", b"{}")
            busy = True

            async def touch() -> None:
                while busy:
                    os.utime(bucket / "alive")
                    await asyncio.sleep(0.003)

            async with asyncio.TaskGroup() as group:
                group.create_task(touch())
                assert await next_change(watch, TTL + 1.0) == Change("dead", None)
                busy = False

    run(body())


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_jump_of_the_wall_clock_changes_nothing_for_known_records(
    settings: DiscoverySettings, bucket: Path, jump_s: float
) -> None:
    async def body() -> None:
        clock = ShiftedClock()
        polling = dataclasses.replace(settings, poll_interval_s=0.1)
        async with opened(settings) as owner, opened(polling, clock) as viewer:
            await owner.register(INSTANCES, "alive", b"{}")
            plant(bucket / "dying")
            inode = (bucket / "alive").stat().st_ino
            async with viewer.watch(INSTANCES) as watch:
                assert watch.snapshot.keys() == {"alive", "dying"}
                clock.shift_s = jump_s
                # The next thing that happens is the end of the one that nobody refreshes.
                assert await next_change(watch, TTL + 1.0) == Change("dying", None)
            assert await viewer.list(INSTANCES) == {"alive": b"{}"}
            assert (bucket / "alive").stat().st_ino == inode

    run(body())


def test_temporary_files_are_no_records_and_those_of_dead_writers_are_deleted(
    settings: DiscoverySettings, bucket: Path
) -> None:
    bucket.mkdir(parents=True)

    async def body() -> None:
        for name, age_s in ((".tmp_0123456789abcdef", 3600), (".tmp_fedcba9876543210", 5)):
            (bucket / name).write_bytes(b"{")
            os.utime(bucket / name, (time.time() - age_s,) * 2)
        async with opened(settings) as a:
            assert await a.list(INSTANCES) == {}
            assert files(bucket) == [".tmp_fedcba9876543210"]

    run(body())


def test_what_is_no_record_is_ignored_and_named_once_in_the_log(
    settings: DiscoverySettings, bucket: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.mkdir(parents=True)

    async def body() -> None:
        names = ["not-encoded", "lower%2fcase", "%", "%41"]
        for name in names:
            (bucket / name).write_bytes(b"{}")
        (bucket / "directory").mkdir()
        (bucket / "link").symlink_to("/etc/hostname")
        os.mkfifo(bucket / "pipe")
        plant(bucket / "good")
        async with opened(settings) as a:
            for _ in range(3):
                assert await a.list(INSTANCES) == {"good": b"{}"}
        named = [record.facts["path"] for record in caplog.records if hasattr(record, "facts")]
        assert sorted(named) == sorted(str(bucket / name) for name in names)

    with caplog.at_level(logging.WARNING, "muster.discovery"):
        run(body())


def test_a_file_name_that_is_no_text_does_not_stop_the_watch(
    settings: DiscoverySettings, bucket: Path
) -> None:
    async def body() -> None:
        lasting = dataclasses.replace(settings, file_ttl_s=60)
        async with opened(lasting) as a, a.watch(INSTANCES) as watch:
            plant(bucket / "one", b"1")
            assert await next_change(watch) == Change("one", b"1")
            (bucket / "\udcff\udcfe").write_bytes(b"{}")
            plant(bucket / "two", b"2")
            assert await next_change(watch) == Change("two", b"2")
            plant(bucket / "three", b"3")
            assert await next_change(watch) == Change("three", b"3")

    run(body())


def test_a_root_that_cannot_be_used_is_an_error_of_ours(
    settings: DiscoverySettings, tmp_path: Path
) -> None:
    async def body() -> None:
        (tmp_path / "kv").write_text("a file where a directory should be")
        async with opened(settings) as a:

            async def watch() -> None:
                async with a.watch(INSTANCES):
                    pytest.fail("watched a file")

            for call in (a.register(INSTANCES, "k", b"1"), a.list(INSTANCES), watch()):
                with pytest.raises(DiscoveryError, match=re.escape(str(tmp_path))) as caught:
                    await call
                assert "DYN_FILE_KV" in caught.value.hint

    run(body())


def test_a_key_too_long_for_a_file_name_is_refused_with_the_numbers(
    settings: DiscoverySettings,
) -> None:
    async def body() -> None:
        async with opened(settings) as a:
            await a.register(INSTANCES, "x" * 255, b"1")
            with pytest.raises(DiscoveryError, match="258 bytes; 255"):
                await a.register(INSTANCES, "x" * 255 + "/", b"1")

    run(body())


def test_a_record_that_cannot_be_deleted_stays_ours(
    settings: DiscoverySettings, bucket: Path
) -> None:
    async def body() -> None:
        async with opened(settings) as a:
            await a.register(INSTANCES, "k", b"1")
            inode = (bucket / "k").stat().st_ino
            (bucket / "k").unlink()
            # A directory in its place, taken for our file: it cannot be unlinked.
            (bucket / "k").mkdir()
            a._owned._claims[str(bucket / "k")].inode = (bucket / "k").stat().st_ino
            with pytest.raises(DiscoveryError, match="cannot delete"):
                await a.deregister(INSTANCES, "k")
            (bucket / "k").rmdir()
            a._owned._claims[str(bucket / "k")].inode = inode
            await eventually(lambda: (bucket / "k").is_file())
            await a.deregister(INSTANCES, "k")

    run(body())


def test_refreshing_goes_on_after_a_time_of_failure_and_says_so_once(
    settings: DiscoverySettings, bucket: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with opened(settings) as a:
            await a.register(INSTANCES, "k", b"1")
            root = bucket.parent.parent
            await asyncio.to_thread(shutil.rmtree, root)
            root.write_text("in the way")
            a._owned.refresh()
            a._owned.refresh()
            root.unlink()
            await eventually((bucket / "k").exists)

    with caplog.at_level(logging.INFO, "muster.discovery.owned"):
        asyncio.run(body())
    assert [record.getMessage() for record in caplog.records] == [
        "cannot refresh a record of ours",
        "someone removed a record of ours; wrote it anew",
        "a record of ours is fresh again",
    ]


def test_a_forked_child_does_not_remove_its_parents_records(
    settings: DiscoverySettings, bucket: Path
) -> None:
    async def body() -> None:
        async with opened(settings) as a:
            await a.register(INSTANCES, "k", b"1")
            child = FileDiscovery(settings)
            child._owner_pid = os.getpid() + 1
            child._owned = a._owned
            await child.close()
            assert files(bucket) == ["k"]

    run(body())


@pytest.mark.parametrize(
    ("environ", "root"),
    [
        ({}, "/tmp/dynamo_store_kv"),
        ({"TMPDIR": ""}, "/tmp/dynamo_store_kv"),
        ({"TMPDIR": "/scratch"}, "/scratch/dynamo_store_kv"),
        ({"TEMP": "/elsewhere", "TMP": "/elsewhere"}, "/tmp/dynamo_store_kv"),
        ({"TMPDIR": "/scratch", "DYN_FILE_KV": "/kv"}, "/kv"),
    ],
)
def test_the_registry_lies_where_dynamo_looks(environ: dict[str, str], root: str) -> None:
    assert FileDiscovery(Settings.load(environ=environ).discovery)._root() == root


def test_an_unused_registry_leaves_no_trace(settings: DiscoverySettings, tmp_path: Path) -> None:
    async def body() -> None:
        async with opened(settings):
            pass
        assert files(tmp_path) == []

    run(body())


def test_it_is_a_discovery(settings: DiscoverySettings) -> None:
    discovery: Discovery = FileDiscovery(settings)
    assert discovery.instance_id > 0
