import os
import resource
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from muster.content.staging import LIVE_NAMES
from muster.content.store import BlobStore
from muster.digest import Digest
from muster.errors import ContentError, DigestMismatchError, StoreError, TooLargeError

DATA = b"tokenizer" * 1000
DIGEST = Digest.of(DATA)
EMPTY = Digest.parse("blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262")
MDCSUM = "ab" * 32


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "cache")


def put(store: BlobStore, data: bytes) -> Path:
    with store.stage(Digest.of(data), cap_bytes=len(data), source="test") as staged:
        staged.write(data)
        return staged.commit()


def entries(store: BlobStore) -> list[str]:
    blobs = store.root / "blobs"
    return sorted(path.name for path in blobs.iterdir()) if blobs.exists() else []


def replace(path: Path, data: bytes) -> None:
    """Put other bytes where a read-only blob is, as a careless tool would."""
    path.unlink()
    path.write_bytes(data)


# -- staging


def test_a_committed_blob_is_named_by_its_digest_and_read_only(store: BlobStore) -> None:
    path = put(store, DATA)
    assert path == store.root / "blobs" / DIGEST.hex
    assert path.read_bytes() == DATA
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert entries(store) == [DIGEST.hex]


def test_directories_are_private(store: BlobStore) -> None:
    put(store, DATA)
    view = store.link_view("slug", MDCSUM, {"a": DIGEST})
    for directory in (store.root, store.root / "blobs", view, view.parent, view.parent.parent):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700, directory


def test_bytes_may_come_in_pieces(store: BlobStore) -> None:
    with store.stage(DIGEST, cap_bytes=len(DATA), source="test") as staged:
        for start in range(0, len(DATA), 777):
            staged.write(memoryview(DATA)[start : start + 777])
        assert staged.size_bytes == len(DATA)
        assert staged.commit().read_bytes() == DATA


def test_an_empty_blob_is_a_blob(store: BlobStore) -> None:
    with store.stage(EMPTY, cap_bytes=0, source="test") as staged:
        staged.commit()
    found = store.find(EMPTY)
    assert found is not None
    assert found.read_bytes() == b""


def test_wrong_bytes_are_refused_and_leave_nothing(store: BlobStore) -> None:
    with store.stage(DIGEST, cap_bytes=100, source="http://h/f") as staged:
        staged.write(b"other")
        with pytest.raises(DigestMismatchError) as caught:
            staged.commit()
    assert caught.value.message == f"checksum mismatch for http://h/f: expected {DIGEST}"
    assert entries(store) == []


def test_too_many_bytes_are_refused_as_they_pass(store: BlobStore) -> None:
    with store.stage(DIGEST, cap_bytes=10, source="http://h/f") as staged:
        staged.write(b"0123456789")
        with pytest.raises(TooLargeError, match=r"^http://h/f body exceeds cap 10$"):
            staged.write(b"x")
        assert staged.size_bytes == 10
    assert entries(store) == []


def test_an_unfinished_blob_leaves_nothing(store: BlobStore) -> None:
    with store.stage(DIGEST, cap_bytes=len(DATA), source="test") as staged:
        staged.write(DATA)
        assert len(entries(store)) == 1
    assert entries(store) == []
    assert not LIVE_NAMES


def test_staging_touches_no_disk_before_the_first_write(store: BlobStore) -> None:
    store.stage(DIGEST, cap_bytes=1, source="test")
    assert not store.root.exists()


def test_an_ended_attempt_takes_no_more_bytes(store: BlobStore) -> None:
    # else the tail of a file would be stored under the digest of all of it
    staged = store.stage(DIGEST, cap_bytes=len(DATA), source="test")
    staged.write(DATA[:10])
    staged.discard()
    with pytest.raises(StoreError, match="ended"):
        staged.write(DATA[10:])
    with pytest.raises(StoreError, match="ended"):
        staged.commit()
    assert entries(store) == []


def test_a_second_commit_is_refused_and_the_blob_stays(store: BlobStore) -> None:
    staged = store.stage(DIGEST, cap_bytes=len(DATA), source="test")
    staged.write(DATA)
    path = staged.commit()
    with pytest.raises(StoreError):
        staged.commit()
    assert path.read_bytes() == DATA


def test_a_blob_staged_twice_is_there_once(store: BlobStore) -> None:
    with (
        store.stage(DIGEST, cap_bytes=len(DATA), source="a") as one,
        store.stage(DIGEST, cap_bytes=len(DATA), source="b") as two,
    ):
        one.write(DATA)
        two.write(DATA)
        assert len(entries(store)) == 2
        one.commit()
        two.commit()
    assert entries(store) == [DIGEST.hex]


def test_many_threads_and_stores_put_one_blob(tmp_path: Path) -> None:
    stores = [BlobStore(tmp_path) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda number: put(stores[number % 4], DATA), range(40)))
    assert [path.read_bytes() for path in paths] == [DATA]
    assert entries(stores[0]) == [DIGEST.hex]


@contextmanager
def file_size_limit(limit_bytes: int) -> Iterator[None]:
    """Make every write beyond ``limit_bytes`` of a file fail, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_takes_no_more_is_a_store_error_and_leaves_nothing(store: BlobStore) -> None:
    with store.stage(DIGEST, cap_bytes=len(DATA), source="test") as staged:
        staged.write(DATA[:100])
        with file_size_limit(1000), pytest.raises(StoreError, match="cannot write") as caught:
            staged.write(DATA[100:])
        assert "MUSTER_CACHE_DIR" in caught.value.hint
    assert entries(store) == []


def test_a_root_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = BlobStore(tmp_path / "file" / "cache")
    with pytest.raises(StoreError):
        store.prepare()
    with pytest.raises(StoreError):
        put(store, DATA)
    with pytest.raises(StoreError):
        store.link_view("s", MDCSUM, {"a": DIGEST})
    with pytest.raises(StoreError):
        store.find(DIGEST)


def test_a_relative_root_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = BlobStore(Path("cache"))
    assert store.root == tmp_path / "cache"
    monkeypatch.chdir("/")
    assert put(store, DATA).is_relative_to(tmp_path)


# -- finding


def test_what_is_not_there_is_not_found(store: BlobStore) -> None:
    assert store.find(DIGEST) is None


def test_a_blob_is_found_by_another_process(store: BlobStore) -> None:
    path = put(store, DATA)
    assert BlobStore(store.root).find(DIGEST) == path


@pytest.mark.parametrize(
    "bad",
    [DATA[:-1], DATA + b"x", b"", bytes([DATA[0] ^ 1]) + DATA[1:], DATA[:-1] + b"\0"],
    ids=["truncated", "longer", "empty", "first bit", "last byte"],
)
def test_a_bad_blob_is_moved_away_and_can_be_stored_again(
    store: BlobStore, bad: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = put(store, DATA)
    replace(path, bad)
    assert BlobStore(store.root).find(DIGEST) is None
    assert "failed verification" in caplog.text
    assert entries(store) == []
    assert put(store, DATA).read_bytes() == DATA


def test_a_blob_that_goes_bad_later_is_noticed(store: BlobStore) -> None:
    path = put(store, DATA)
    assert store.find(DIGEST) == path
    replace(path, b"other")
    assert store.find(DIGEST) is None


def test_a_blob_written_in_place_is_noticed(store: BlobStore) -> None:
    path = put(store, DATA)
    path.chmod(0o644)
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"X")
    # a write within the clock's grain may keep the time; a later one never does
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert store.find(DIGEST) is None


def test_an_unchanged_blob_is_hashed_once(store: BlobStore) -> None:
    path = put(store, DATA)
    other = BlobStore(store.root)
    assert other.find(DIGEST) == path
    # Same identity, size and time, other bytes: only a second hashing could tell.
    status = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(b"X")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert other.find(DIGEST) == path


def test_a_link_in_a_blobs_place_is_not_followed(store: BlobStore, tmp_path: Path) -> None:
    path = put(store, DATA)
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert BlobStore(store.root).find(DIGEST) is None
    assert elsewhere.read_bytes() == DATA
    assert entries(store) == []


def test_a_pipe_in_a_blobs_place_does_not_hang(store: BlobStore) -> None:
    put(store, DATA).unlink()
    os.mkfifo(store.blob_path(DIGEST))
    assert store.find(DIGEST) is None
    assert entries(store) == []


def test_a_directory_in_a_blobs_place_is_moved_aside(store: BlobStore) -> None:
    put(store, DATA).unlink()
    store.blob_path(DIGEST).mkdir()
    assert store.find(DIGEST) is None
    assert put(store, DATA).read_bytes() == DATA


def test_finding_while_others_replace_never_gives_wrong_bytes(store: BlobStore) -> None:
    put(store, DATA)
    stop = threading.Event()

    def spoil() -> None:
        path = store.root / "spoiler"
        while not stop.is_set():
            path.write_bytes(b"bad")
            path.replace(store.blob_path(DIGEST))
            put(store, DATA)

    with ThreadPoolExecutor(1) as pool:
        spoiling = pool.submit(spoil)
        readers = [BlobStore(store.root) for _ in range(200)]
        for reader in readers:
            reader.find(DIGEST)
        stop.set()
        spoiling.result()
    put(store, DATA)
    assert store.find(DIGEST) == store.blob_path(DIGEST)
    assert entries(store) == [DIGEST.hex]


# -- views


def test_a_view_has_dynamos_layout_and_absolute_links(store: BlobStore) -> None:
    blob = put(store, DATA)
    view = store.link_view("acme_tiny", MDCSUM, {"tokenizer.json": DIGEST})
    assert (
        view
        == store.root / "by-slug" / "acme_tiny" / MDCSUM
        == store.view_directory("acme_tiny", MDCSUM)
    )
    assert (view / "tokenizer.json").readlink() == blob
    assert (view / "tokenizer.json").read_bytes() == DATA


def test_an_empty_slug_has_its_view_one_level_higher(store: BlobStore) -> None:
    assert store.link_view("", MDCSUM, {}) == store.root / "by-slug" / MDCSUM


def test_linking_again_changes_nothing(store: BlobStore) -> None:
    view = store.link_view("s", MDCSUM, {"a": DIGEST})
    before = (view / "a").lstat()
    store.link_view("s", MDCSUM, {"a": DIGEST})
    assert (view / "a").lstat() == before


def test_a_wrong_link_is_replaced(store: BlobStore) -> None:
    view = store.link_view("s", MDCSUM, {"a": DIGEST, "b": DIGEST})
    (view / "b").unlink()
    (view / "b").write_bytes(b"not a link")
    store.link_view("s", MDCSUM, {"a": EMPTY, "b": EMPTY})
    assert {(view / name).readlink() for name in "ab"} == {store.blob_path(EMPTY)}
    assert sorted(path.name for path in view.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "\0", "x" * 256])
def test_an_unsafe_name_makes_nothing(store: BlobStore, name: str) -> None:
    with pytest.raises(ContentError):
        store.link_view("s", MDCSUM, {"good": DIGEST, name: DIGEST})
    assert not store.root.exists()


@pytest.mark.parametrize(
    ("slug", "mdcsum"),
    [("../x", MDCSUM), ("A", MDCSUM), ("s", "../../x"), ("s", ""), ("s", MDCSUM.upper())],
)
def test_an_unsafe_slug_or_digest_makes_nothing(store: BlobStore, slug: str, mdcsum: str) -> None:
    with pytest.raises(ContentError):
        store.link_view(slug, mdcsum, {"a": DIGEST})
    assert not store.root.exists()


def test_many_threads_make_one_view(tmp_path: Path) -> None:
    names = {f"file {number}": DIGEST for number in range(20)}
    stores = [BlobStore(tmp_path) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        views = set(
            pool.map(lambda number: stores[number % 4].link_view("s", MDCSUM, names), range(40))
        )
    (view,) = views
    assert sorted(path.name for path in view.iterdir()) == sorted(names)
    assert {(view / name).readlink() for name in names} == {stores[0].blob_path(DIGEST)}


def test_preparing_sweeps_leftovers(store: BlobStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    put(store, DATA)
    left = store.root / "blobs" / f"{DIGEST.hex}.tmp.{2**22 + 1}.{'cd' * 16}"
    left.write_bytes(b"half")
    os.utime(left, (1.0, 1.0))
    store.prepare()
    assert entries(store) == [DIGEST.hex]
    assert "leftover" in caplog.text
