"""Both places for blobs keep the same promises; memory has some of its own."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster.content.memory_store import HAS_MEMORY_FILES, MemoryStore
from muster.content.store import BlobStore
from muster.content.store_protocol import Store
from muster.digest import Digest
from muster.errors import DigestMismatchError, StoreError, TooLargeError

DATA = b"tokenizer" * 1000
DIGEST = Digest.of(DATA)

needs_memory_files = pytest.mark.skipif(not HAS_MEMORY_FILES, reason="no memfd here")


@pytest.fixture(params=["disk", pytest.param("memory", marks=needs_memory_files), "directory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "disk":
        yield BlobStore(tmp_path / "cache")
        return
    memory = MemoryStore(memory_files=request.param == "memory")
    yield memory
    memory.close()


def put(store: Store, data: bytes) -> Path:
    staged = store.stage(Digest.of(data), cap_bytes=len(data), source="test")
    staged.write(data)
    return staged.commit()


def test_what_was_put_is_found(store: Store) -> None:
    assert store.find(DIGEST) is None
    path = put(store, DATA)
    assert path.read_bytes() == DATA
    assert path.read_bytes() == DATA  # each reader begins at the beginning
    assert path.stat().st_size == len(DATA)
    assert store.find(DIGEST) == path


def test_an_empty_blob_is_a_blob(store: Store) -> None:
    assert put(store, b"").read_bytes() == b""


def test_a_blob_put_twice_is_there(store: Store) -> None:
    put(store, DATA)
    assert put(store, DATA).read_bytes() == DATA


def test_wrong_bytes_are_refused(store: Store) -> None:
    staged = store.stage(DIGEST, cap_bytes=100, source="http://h/f")
    staged.write(b"other")
    with pytest.raises(DigestMismatchError, match="checksum mismatch for http://h/f"):
        staged.commit()
    assert staged.has_ended
    assert store.find(DIGEST) is None


def test_too_many_bytes_are_refused_as_they_pass(store: Store) -> None:
    staged = store.stage(DIGEST, cap_bytes=10, source="http://h/f")
    staged.write(b"0123456789")
    with pytest.raises(TooLargeError, match=r"^http://h/f body exceeds cap 10$"):
        staged.write(b"x")
    assert staged.size_bytes == 10
    staged.discard()


def test_an_ended_attempt_takes_no_more(store: Store) -> None:
    staged = store.stage(DIGEST, cap_bytes=len(DATA), source="test")
    staged.write(DATA)
    staged.discard()
    staged.discard()
    assert staged.has_ended
    with pytest.raises(StoreError, match="ended"):
        staged.write(b"")
    with pytest.raises(StoreError, match="ended"):
        staged.commit()
    assert store.find(DIGEST) is None


def memory_blob_count() -> int:
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one this directory is read with
            count += "muster-blob" in str(link.readlink())
    return count


@needs_memory_files
def test_what_is_in_memory_cannot_be_written_any_more() -> None:
    store = MemoryStore()
    path = put(store, DATA)
    with pytest.raises(OSError, match=r"not permitted|Permission denied"):
        path.write_bytes(b"X")
    assert path.read_bytes() == DATA
    store.close()


@needs_memory_files
def test_closing_lets_go_of_all_memory() -> None:
    before = memory_blob_count()
    store = MemoryStore()
    put(store, DATA)
    put(store, b"other")
    half = store.stage(DIGEST, cap_bytes=10, source="test")
    half.write(b"x")
    assert memory_blob_count() == before + 3
    half.discard()
    store.close()
    store.close()
    assert memory_blob_count() == before
    assert store.find(DIGEST) is None


@pytest.mark.parametrize(
    "memory_files", [pytest.param(True, marks=needs_memory_files), False], ids=["memory", "disk"]
)
def test_a_store_that_closes_meanwhile_takes_nothing(*, memory_files: bool) -> None:
    store = MemoryStore(memory_files=memory_files)
    staged = store.stage(DIGEST, cap_bytes=len(DATA), source="test")
    staged.write(DATA)
    store.close()
    with pytest.raises(StoreError):
        staged.commit()
    assert store.find(DIGEST) is None


def test_without_files_of_memory_a_private_directory_serves_and_goes() -> None:
    store = MemoryStore(memory_files=False)
    path = put(store, DATA)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o444
    store.close()
    assert not path.parent.exists()
