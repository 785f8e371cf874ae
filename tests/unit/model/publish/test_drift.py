"""Files that are no longer what was registered."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from muster.content.disk import Fingerprint
from muster.content.snapshot import Snapshot, take_snapshot
from muster.digest import Digest
from muster.model.publish.drift import Drift, News, Seen, Source, compare, find_drift
from muster.model.publish.drift_watcher import DriftWatcher
from muster.testing.loops import run

ONE, TWO = Digest.of(b"1"), Digest.of(b"2")
A = Source(Path("/a"), ONE)
PRINT = Fingerprint.of(os.stat_result(range(10)))


def test_a_file_with_other_content_or_none_has_drifted() -> None:
    for now in (TWO, None):
        found = find_drift([A], {A.path: Seen(PRINT, now)})
        assert found == {A: Drift(A.path, ONE, now)}
    assert find_drift([A], {A.path: Seen(PRINT, ONE)}) == {}
    assert find_drift([A], {}) == {}


def test_one_path_may_be_registered_with_two_contents() -> None:
    again = Source(A.path, TWO)
    assert find_drift([A, again], {A.path: Seen(PRINT, TWO)}) == {A: Drift(A.path, ONE, TWO)}


def test_each_change_is_news_once() -> None:
    two, gone = Drift(A.path, ONE, TWO), Drift(A.path, ONE, None)
    assert compare({}, {A: two}, [A]) == News((two,), ())
    assert compare({A: two}, {A: two}, [A]) == News((), ())
    assert compare({A: two}, {A: gone}, [A]) == News((gone,), ())
    assert compare({A: gone}, {}, [A]) == News((), (A,))
    assert compare({A: gone}, {}, []) == News((), ())  # no longer registered


class Told:
    """A watcher of real files, and what it told."""

    def __init__(self) -> None:
        self.sets: list[frozenset[Path]] = []
        self.watcher = DriftWatcher(0.05, self.sets.append)

    def watch(self, *paths: Path) -> list[Snapshot]:
        snapshots = [take_snapshot(path) for path in paths]
        self.watcher.watch(snapshots)
        return snapshots


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    return tmp_path / "one", tmp_path / "two"


def test_edited_replaced_and_deleted_files_are_told_and_so_is_their_return(
    files: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    one, two = files
    caplog.set_level("INFO")

    async def scenario() -> None:
        told = Told()
        told.watch(one, two)
        await told.watcher.look()
        assert told.watcher.drift() == ()
        one.write_text("other")
        two.unlink()
        await told.watcher.look()
        assert told.watcher.drift() == (
            Drift(one, Digest.of(b"one"), Digest.of(b"other")),
            Drift(two, Digest.of(b"two"), None),
        )
        await told.watcher.look()
        one.write_text("one")
        (two.parent / "new").write_text("two")
        (two.parent / "new").rename(two)
        await told.watcher.look()
        assert told.watcher.drift() == ()
        assert told.sets == [frozenset({one, two}), frozenset()]

    run(scenario())
    assert caplog.text.count("has changed on disk") == 2
    assert caplog.text.count("is as registered again") == 2


def test_a_touched_file_has_not_drifted(files: tuple[Path, Path]) -> None:
    async def scenario() -> None:
        told = Told()
        told.watch(*files)
        os.utime(files[0], (1, 1))
        await told.watcher.look()
        assert told.watcher.drift() == ()

    run(scenario())


def test_a_write_that_leaves_no_trace_in_the_files_times_is_found(
    files: tuple[Path, Path],
) -> None:
    async def scenario() -> None:
        told = Told()
        told.watch(files[0])
        times = files[0].stat()
        files[0].write_text("eno")
        os.utime(files[0], ns=(times.st_atime_ns, times.st_mtime_ns))
        await told.watcher.look()
        assert told.watcher.drift() == (Drift(files[0], Digest.of(b"one"), Digest.of(b"eno")),)

    run(scenario())


def test_a_link_that_leads_elsewhere_has_drifted(tmp_path: Path, files: tuple[Path, Path]) -> None:
    link = tmp_path / "link"
    link.symlink_to("one")

    async def scenario() -> None:
        told = Told()
        told.watch(link)
        link.unlink()
        link.symlink_to("two")
        await told.watcher.look()
        assert told.watcher.drift() == (Drift(link, Digest.of(b"one"), Digest.of(b"two")),)

    run(scenario())


def test_a_file_no_longer_watched_is_forgotten(files: tuple[Path, Path]) -> None:
    async def scenario() -> None:
        told = Told()
        snapshots = told.watch(*files)
        files[0].write_text("other")
        await told.watcher.look()
        told.watcher.watch(snapshots[1:])
        assert told.watcher.drift() == ()
        assert told.sets == [frozenset({files[0]}), frozenset()]

    run(scenario())


def test_a_file_registered_again_after_a_change_is_as_registered(files: tuple[Path, Path]) -> None:
    async def scenario() -> None:
        told = Told()
        first = told.watch(files[0])
        files[0].write_text("other")
        second = take_snapshot(files[0])
        told.watcher.watch([*first, second])
        assert told.watcher.drift() == (Drift(files[0], Digest.of(b"one"), Digest.of(b"other")),)
        told.watcher.watch([second])
        await told.watcher.look()
        assert told.watcher.drift() == ()

    run(scenario())


def test_it_looks_again_and_again(files: tuple[Path, Path]) -> None:
    async def scenario() -> None:
        told = Told()
        told.watch(*files)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(told.watcher.run())
            for content in ("x", "one", "y"):
                files[0].write_text(content)
                while bool(told.watcher.drift()) is (content == "one"):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            task.cancel()

    run(scenario())
