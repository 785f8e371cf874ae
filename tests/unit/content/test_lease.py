import os
import time
from pathlib import Path

import msgspec
import pytest

from muster.content.lease import LEASE_S, HeldLease, holds, read_leases
from muster.content.liveness import ProcessMark
from muster.content.store import BlobStore
from muster.digest import Digest

A, B = Digest.of(b"a"), Digest.of(b"b")
OWN = ProcessMark.own()
DEAD = msgspec.structs.replace(OWN, pid=2**22 + 1)
ELSEWHERE = msgspec.structs.replace(OWN, host="elsewhere")


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "cache")


def read(store: BlobStore, *, later_s: float = 0.0) -> list[HeldLease]:
    return read_leases(store.root, now=time.time() + later_s)


def held(store: BlobStore) -> set[Digest]:
    return {digest for digest in (A, B) if any(lease.covers(digest) for lease in read(store))}


@pytest.mark.parametrize(
    ("mark", "age_s", "expected"),
    [
        (OWN, 10 * LEASE_S, True),  # it lives, however busy it is
        (DEAD, 0.0, False),  # it is dead, whatever the file's age
        (ELSEWHERE, LEASE_S - 1, True),
        (ELSEWHERE, LEASE_S, False),
        (None, LEASE_S - 1, True),
        (None, LEASE_S, False),
    ],
)
def test_when_a_lease_holds(mark: ProcessMark | None, age_s: float, *, expected: bool) -> None:
    assert holds(mark, age_s=age_s) is expected


def test_a_lease_covers_its_blobs_until_it_is_released(store: BlobStore) -> None:
    lease = store.lease([A])
    assert held(store) == {A}
    lease.replace([B])
    assert held(store) == {B}
    assert lease.blobs == {B}
    lease.release()
    lease.release()
    assert held(store) == set()
    assert read(store) == []


def test_a_released_lease_does_not_come_back(store: BlobStore) -> None:
    with store.lease([A]) as lease:
        pass
    lease.beat()
    lease.replace([B])
    assert read(store) == []


def test_leases_of_one_process_do_not_get_in_each_others_way(store: BlobStore) -> None:
    one, two = store.lease([A]), store.lease([B])
    one.release()
    assert held(store) == {B}
    two.release()


def test_a_lease_says_whose_it_is(store: BlobStore) -> None:
    with store.lease([A]):
        (found,) = read(store)
    assert found.user == f"{os.getpid()}@{OWN.host}"
    assert found.path.name.startswith(f"{os.getpid()}.")


def test_a_beat_renews_a_lease_and_puts_a_lost_one_back(store: BlobStore) -> None:
    with store.lease([A]) as lease:
        (found,) = read(store)
        os.utime(found.path, (1.0, 1.0))
        lease.beat()
        assert found.path.stat().st_mtime > 1.0
        found.path.unlink()
        assert held(store) == set()
        lease.beat()
        assert held(store) == {A}


def test_where_the_disk_refuses_a_lease_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with BlobStore(tmp_path / "cache").lease([A]) as lease:
        lease.beat()
        lease.replace([B])
        assert lease.blobs == {B}
        (tmp_path / "cache").unlink()  # it takes it now
        lease.beat()
        assert held(BlobStore(tmp_path / "cache")) == {B}


@pytest.mark.parametrize("text", [b"", b"{", b"[]"])
def test_a_lease_that_cannot_be_read_covers_everything_for_a_while(
    store: BlobStore, text: bytes
) -> None:
    path = store.root / "leases" / "1.x.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(text)
    assert held(store) == {A, B}
    assert not any(lease.covers(A) for lease in read(store, later_s=LEASE_S))


def test_other_files_are_no_leases(store: BlobStore) -> None:
    with store.lease([A]):
        (store.root / "leases" / "README").touch()
        assert len(read(store)) == 1


def test_a_pipe_in_a_leases_place_does_not_hang(store: BlobStore) -> None:
    store.prepare()
    (store.root / "leases").mkdir(mode=0o700)
    os.mkfifo(store.root / "leases" / "1.pipe.json")
    (found,) = read(store)
    assert found.blobs is None
