from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from muster.discovery.directory import TEMP_PREFIX, RecordDirectory
from muster.discovery.inotify import InotifyNotifier
from muster.discovery.notifier import Notifier, open_notifier
from muster.discovery.wake import Wake
from muster.discovery.watchfiles_notifier import WatchfilesNotifier
from muster.errors import DiscoveryError

WAIT_S = 10.0
Opener = Callable[[Sequence[RecordDirectory]], Notifier]

linux = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


@pytest.fixture(
    params=[pytest.param(InotifyNotifier, marks=linux), WatchfilesNotifier],
    ids=["inotify", "watchfiles"],
)
def opener(request: pytest.FixtureRequest) -> Opener:
    kind: Opener = request.param
    return kind


@pytest.fixture
def wake() -> Iterator[Wake]:
    wake = Wake()
    wake.open()
    yield wake
    wake.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "bucket"


def changes(notifier: Notifier, wake: Wake, wanted: set[str]) -> set[str]:
    """What was named until all that is wanted was."""
    seen: set[str] = set()
    while not wanted <= seen:
        changed = notifier.wait(WAIT_S, wake)
        assert changed is not None
        seen |= changed
    return seen


def test_files_that_are_written_linked_renamed_and_deleted_are_named(
    opener: Opener, wake: Wake, directory: Path, tmp_path: Path
) -> None:
    notifier = opener([RecordDirectory(str(directory))])
    try:
        (tmp_path / "outside").write_bytes(b"1")
        written, linked, renamed = directory / "a", directory / "b", directory / "c"
        written.write_bytes(b"1")
        os.link(written, linked)
        (tmp_path / "outside").rename(renamed)
        assert changes(notifier, wake, {str(written), str(linked), str(renamed)})
        with renamed.open("ab") as appended:
            appended.write(b"2")
        changes(notifier, wake, {str(renamed)})
        linked.unlink()
        assert str(written) not in changes(notifier, wake, {str(linked)})
    finally:
        notifier.close()


def test_a_directory_that_is_missing_is_made_and_several_are_watched(
    opener: Opener, wake: Wake, tmp_path: Path
) -> None:
    places = [tmp_path / "one" / "deep", tmp_path / "two"]
    notifier = opener([RecordDirectory(str(place)) for place in places])
    try:
        assert notifier.paths == {str(place) for place in places}
        for place in places:
            (place / "k").write_bytes(b"1")
        changes(notifier, wake, {str(place / "k") for place in places})
    finally:
        notifier.close()


def test_a_wake_from_another_thread_ends_the_wait(
    opener: Opener, wake: Wake, directory: Path
) -> None:
    notifier = opener([RecordDirectory(str(directory))])
    found: list[set[str] | None] = [{"nothing yet"}]
    waiting = threading.Thread(target=lambda: found.append(notifier.wait(WAIT_S, wake)))
    waiting.start()
    try:
        wake.set()
        waiting.join(WAIT_S)
        assert not found[-1]
    finally:
        waiting.join(WAIT_S)
        notifier.close()


def test_the_time_that_is_over_names_nothing(opener: Opener, wake: Wake, directory: Path) -> None:
    notifier = opener([RecordDirectory(str(directory))])
    try:
        assert not notifier.wait(0.01, wake)
    finally:
        notifier.close()


def test_only_a_notifier_that_may_drop_changes_says_to_look_at_everything_when_time_is_over(
    wake: Wake, directory: Path
) -> None:
    notifier = WatchfilesNotifier([RecordDirectory(str(directory))])
    try:
        assert notifier.wait(0.01, wake) is None
    finally:
        notifier.close()


@linux
def test_the_kernel_drops_nothing_when_time_is_over(wake: Wake, directory: Path) -> None:
    notifier = InotifyNotifier([RecordDirectory(str(directory))])
    try:
        assert notifier.wait(0.01, wake) == set()
    finally:
        notifier.close()


def test_a_directory_that_is_not_what_it_was_is_noticed(
    opener: Opener, wake: Wake, directory: Path
) -> None:
    notifier = opener([RecordDirectory(str(directory))])
    try:
        assert notifier.intact()
        directory.rename(directory.with_name("elsewhere"))
        assert not notifier.intact()
        directory.mkdir()
        assert not notifier.intact()
    finally:
        notifier.close()


def test_what_cannot_be_watched_is_an_error_of_ours(opener: Opener, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DiscoveryError):
        opener([RecordDirectory(str(tmp_path / "file"))])


@linux
def test_a_lease_that_is_refreshed_wakes_nobody(wake: Wake, directory: Path) -> None:
    notifier = open_notifier([RecordDirectory(str(directory))])
    assert isinstance(notifier, InotifyNotifier)
    try:
        leased, other = directory / "leased", directory / "other"
        leased.write_bytes(b"1")
        changes(notifier, wake, {str(leased)})
        os.utime(leased)
        (directory / f"{TEMP_PREFIX}1").write_bytes(b"half")
        other.write_bytes(b"2")
        assert changes(notifier, wake, {str(other)}) == {str(other)}
    finally:
        notifier.close()


@linux
def test_a_directory_made_in_the_place_of_a_removed_one_is_another(
    wake: Wake, directory: Path
) -> None:
    notifier = InotifyNotifier([RecordDirectory(str(directory))])
    try:
        directory.rmdir()
        directory.mkdir()  # it may have the same inode
        assert changes(notifier, wake, {str(directory)}) == {str(directory)}
        assert not notifier.intact()
    finally:
        notifier.close()


@linux
def test_more_changes_than_the_kernel_notes_say_to_look_at_everything(
    wake: Wake, directory: Path
) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 100_000:
        pytest.skip(f"this kernel notes {limit} changes")
    notifier = InotifyNotifier([RecordDirectory(str(directory))])
    try:
        name = directory / "k"
        for _ in range(limit // 2 + 10):
            name.touch()
            name.unlink()
        while notifier.wait(1000, wake) is not None:  # the test's own limit ends it otherwise
            pass
        assert not wake.is_set()
        (directory / "after").write_bytes(b"1")
        changes(notifier, wake, {str(directory / "after")})
    finally:
        notifier.close()


def test_a_wake_has_a_descriptor_only_while_it_is_open() -> None:
    wake = Wake()
    wake.set()
    with pytest.raises(ValueError, match="not open"):
        wake.fileno()
    wake.open()
    wake.open()
    assert os.read(wake.fileno(), 1)
    for _ in range(100_000):  # more than a pipe holds
        wake.set()
    wake.clear()
    with pytest.raises(BlockingIOError):
        os.read(wake.fileno(), 1)
    assert not wake.wait(0)
    wake.close()
    wake.close()
    wake.set()
    assert wake.wait(0)
