from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.content.disk import CHUNK_BYTES
from muster.content.snapshot import Snapshot, take_snapshot
from muster.digest import Digest
from muster.errors import ContentError, DigestMismatchError, TooLargeError


def content(snapshot: Snapshot) -> bytes:
    descriptor = snapshot.open_fd()
    try:
        return os.pread(descriptor, snapshot.size_bytes + 1, 0)
    finally:
        os.close(descriptor)


@given(data=st.binary(max_size=200))
def test_a_copy_has_the_bytes_digest_and_size_of_its_source(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "source"
    path.write_bytes(data)
    snapshot = take_snapshot(path)
    assert content(snapshot) == data
    assert (snapshot.digest, snapshot.size_bytes) == (Digest.of(data), len(data))
    assert snapshot.source == path
    snapshot.close()


def test_a_large_file_is_copied_whole(tmp_path: Path) -> None:
    data = os.urandom(2 * CHUNK_BYTES + 3)
    (tmp_path / "f").write_bytes(data)
    snapshot = take_snapshot(tmp_path / "f", expected=Digest.of(data))
    assert content(snapshot) == data
    snapshot.close()


def test_nothing_done_to_the_source_changes_the_copy(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"original")
    snapshot = take_snapshot(path, directory=tmp_path)
    with path.open("r+b") as file:
        file.write(b"EDITED")
    assert content(snapshot) == b"original"
    path.unlink()
    assert content(snapshot) == b"original"
    snapshot.close()


def test_the_copy_has_no_name(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    place = tmp_path / "place"
    place.mkdir()
    snapshot = take_snapshot(tmp_path / "f", directory=place)
    assert list(place.iterdir()) == []
    snapshot.close()


def test_a_reader_reads_on_after_the_snapshot_is_closed(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"content")
    snapshot = take_snapshot(tmp_path / "f")
    descriptor = snapshot.open_fd()
    snapshot.close()
    snapshot.close()
    assert os.pread(descriptor, 100, 0) == b"content"
    os.close(descriptor)
    with pytest.raises(ContentError, match="closed"):
        snapshot.open_fd()


def test_links_are_followed_and_other_kinds_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    (tmp_path / "link").symlink_to("f")
    snapshot = take_snapshot(tmp_path / "link")
    assert content(snapshot) == b"x"
    snapshot.close()
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(ContentError, match="Not a file"):
            take_snapshot(tmp_path / name)
    for name in ("missing", "f/under", "nul\0"):
        with pytest.raises(ContentError):
            take_snapshot(tmp_path / name)


def test_a_file_that_changed_since_it_was_hashed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"now")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(DigestMismatchError, match="changed while it was being registered"):
        take_snapshot(tmp_path / "f", expected=Digest.of(b"then"))
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_file_over_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    with pytest.raises(TooLargeError, match="5 bytes, the limit is 4"):
        take_snapshot(tmp_path / "f", max_bytes=4)
    take_snapshot(tmp_path / "f", max_bytes=5).close()


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs memfd_create")
def test_where_the_disk_does_not_take_it_the_copy_is_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "f").write_bytes(b"content")
    snapshot = take_snapshot(tmp_path / "f", directory=tmp_path / "missing")
    assert content(snapshot) == b"content"
    snapshot.close()
    assert "in memory" in caplog.text


def test_a_killed_process_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"content")
    place = tmp_path / "place"
    place.mkdir()
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from muster.content.snapshot import take_snapshot\n"
        "kept = take_snapshot(sys.argv[1], directory=Path(sys.argv[2]))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, tmp_path / "f", place], check=False)
    assert ended.returncode == -9
    assert list(place.iterdir()) == []
