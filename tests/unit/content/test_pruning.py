"""Inventory, pruning and the budget of a real store."""

import contextlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from muster.content.inventory import StoredBlob
from muster.content.prune import PrunePlan, PruneReason, plan_prune
from muster.content.staging import LIVE_NAMES
from muster.content.store import BlobStore
from muster.digest import Digest
from muster.errors import StoreError

MDCSUM, OTHER = "ab" * 32, "cd" * 32
SIZE = 1000


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "cache")


def put(store: BlobStore, name: str, *, age_s: float = 3600.0) -> Digest:
    """A blob of SIZE bytes that was last used that long ago."""
    data = name.encode().ljust(SIZE, b".")
    digest = Digest.of(data)
    with store.stage(digest, cap_bytes=SIZE, source="test") as staged:
        staged.write(data)
        path = staged.commit()
    then = time.time() - age_s
    os.utime(path, (then, then))
    return digest


def age(path: Path) -> None:
    then = time.time() - 3600
    os.utime(path, (then, then))


def everything(store: BlobStore) -> PrunePlan:
    return plan_prune(store.scan(), max_size_bytes=0, now=time.time())


def present(store: BlobStore) -> set[str]:
    return {path.name for path in (store.root / "blobs").iterdir()}


# -- inventory


def test_an_inventory_says_what_is_there_and_who_uses_it(store: BlobStore) -> None:
    a, b = put(store, "a", age_s=7200.0), put(store, "b")
    view = store.link_view("slug", MDCSUM, {"x": a, "y": a})
    store.link_view("", OTHER, {"x": b})
    with store.lease([b]) as lease:
        found = store.scan()
    blobs = {blob.digest: blob for blob in found.blobs}
    assert set(blobs) == {a, b}
    assert (found.size_bytes, found.spare_bytes) == (2 * SIZE, 0)
    assert blobs[a].views == (f"slug/{MDCSUM}",)
    assert blobs[b].views == (OTHER,)
    assert blobs[a].users == ()
    assert [user.split("@")[0] for user in blobs[b].users] == [str(os.getpid())]
    assert abs(time.time() - 7200 - blobs[a].used_s) < 600
    assert {each.name: dict(each.links) for each in found.views} == {
        f"slug/{MDCSUM}": {"x": a, "y": a},
        OTHER: {"x": b},
    }
    assert view in [each.path for each in found.views]
    del lease


def test_an_inventory_counts_what_is_no_blob_apart(store: BlobStore) -> None:
    digest = put(store, "a")
    (store.root / "blobs" / f"{digest.hex}.tmp.1.{'ab' * 16}").write_bytes(b"1234")
    store.blob_path(Digest.of(b"b")).mkdir()
    (store.root / "quarantine").mkdir()
    (store.root / "quarantine" / f"{digest.hex}.1000").write_bytes(b"12345")
    found = store.scan()
    assert found.spare_bytes == 9
    problems = {blob.digest: blob.problem for blob in found.blobs}
    assert problems == {digest: "", Digest.of(b"b"): "it is not a regular file"}


def test_a_slug_that_looks_like_a_digest_is_a_slug(store: BlobStore) -> None:
    digest = put(store, "a")
    store.link_view(OTHER, MDCSUM, {"x": digest})
    assert [view.name for view in store.scan().views] == [f"{OTHER}/{MDCSUM}"]


def test_no_store_is_an_empty_one(store: BlobStore) -> None:
    assert store.scan().blobs == ()
    assert store.prune(everything(store)).removed == ()
    assert not store.root.exists()


# -- pruning


def test_pruning_removes_what_the_plan_says_and_views_that_lead_nowhere(store: BlobStore) -> None:
    a, b = put(store, "a"), put(store, "b", age_s=600.0)
    gone = store.link_view("gone", MDCSUM, {"x": a, "y": b})
    stays = store.link_view("stays", MDCSUM, {"y": b})
    for view in (gone, stays):
        age(view)
    plan = plan_prune(store.scan(), older_than_s=1800.0, now=time.time())
    done = store.prune(plan)
    assert [each.blob.digest for each in done.removed] == [a]
    assert [each.blob.digest for each in done.kept] == [b]
    assert done.freed_bytes == SIZE
    assert done.views == (f"gone/{MDCSUM}",)
    assert present(store) == {b.hex}
    assert not gone.parent.exists()
    assert (stays / "y").exists()


def test_what_is_leased_after_the_plan_was_made_stays(store: BlobStore) -> None:
    a, b = put(store, "a"), put(store, "b")
    view = store.link_view("slug", MDCSUM, {"x": a, "y": b})
    age(view)
    plan = everything(store)
    assert len(plan.removed) == 2
    store.blob_path(b).unlink()
    before = (store.root / "blobs").stat().st_mtime_ns
    with store.lease([a]):
        done = store.prune(plan)
    assert (store.root / "blobs").stat().st_mtime_ns == before  # nor was it away for a moment
    assert [(each.blob.digest, each.reason) for each in done.kept] == [(a, PruneReason.IN_USE)]
    assert present(store) == {a.hex}
    assert view.exists()  # whoever uses a part of it may still want the name
    assert done.views == ()


class Interrupting:
    """A clock whose second look, which is the one after the blob was moved, is broken off."""

    def __init__(self, error: BaseException) -> None:
        self._error = error
        self._looks = 0

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        self._looks += 1
        if self._looks == 2:
            raise self._error
        return time.time()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(24, "Too many open files")])
def test_pruning_that_is_broken_off_loses_nothing(store: BlobStore, error: BaseException) -> None:
    digest = put(store, "a")
    plan = everything(store)
    with pytest.raises((KeyboardInterrupt, StoreError)):
        BlobStore(store.root, clock=Interrupting(error)).prune(plan)
    assert present(store) == {digest.hex}


def test_what_is_used_after_the_plan_was_made_stays(store: BlobStore) -> None:
    digest = put(store, "a")
    plan = everything(store)
    assert BlobStore(store.root).find(digest) is not None
    done = store.prune(plan)
    assert [each.reason for each in done.kept] == [PruneReason.RECENT]
    assert present(store) == {digest.hex}


def test_what_somebody_else_removed_is_no_error(store: BlobStore) -> None:
    digest = put(store, "a")
    plan = everything(store)
    store.blob_path(digest).unlink()
    assert store.prune(plan).judged == ()


def test_a_new_view_stays_even_if_it_leads_nowhere_yet(store: BlobStore) -> None:
    put(store, "a")
    view = store.link_view("slug", MDCSUM, {"x": Digest.of(b"to come")})
    store.prune(everything(store))
    assert view.exists()


def test_whatever_has_a_blobs_name_can_be_pruned(store: BlobStore) -> None:
    put(store, "a")
    path = store.blob_path(Digest.of(b"b"))
    path.mkdir()
    (path / "inner").touch()
    age(path)
    store.prune(everything(store))
    assert present(store) == set()
    assert not LIVE_NAMES


def test_nothing_is_pruned_through_a_link(store: BlobStore, tmp_path: Path) -> None:
    put(store, "a")
    plan = everything(store)
    (store.root / "blobs").rename(tmp_path / "elsewhere")
    (store.root / "blobs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="is a link"):
        store.prune(plan)
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1


def test_views_behind_a_link_are_not_ours(store: BlobStore, tmp_path: Path) -> None:
    view = store.link_view("slug", MDCSUM, {"x": put(store, "a")})
    age(view)
    (store.root / "by-slug").rename(tmp_path / "elsewhere")
    (store.root / "by-slug").symlink_to(tmp_path / "elsewhere")
    assert store.prune(everything(store)).views == ()
    assert (tmp_path / "elsewhere" / "slug" / MDCSUM).is_dir()


def stays(path: Path) -> bool:
    """Whether it is there; a pruner that sees a lease late takes a moment to put a blob back."""
    deadline = time.monotonic() + 10.0
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def test_what_is_found_under_a_lease_is_never_pruned(store: BlobStore) -> None:
    digests = [put(store, str(number)) for number in range(10)]
    stop = threading.Event()

    def use() -> tuple[int, int]:
        found = pruned = 0
        user = BlobStore(store.root)
        while not stop.is_set():
            for number, digest in enumerate(digests):
                with user.lease([digest]):
                    path = user.find(digest)
                    if path is not None:
                        assert stays(path)
                        found += 1
                if path is None:  # pruned while nobody used it
                    pruned += 1
                    with contextlib.suppress(FileNotFoundError):  # and once more already
                        put(user, str(number))
        return found, pruned

    with ThreadPoolExecutor(2) as pool:
        using = [pool.submit(use) for _ in range(2)]
        for _ in range(50):
            for digest in digests:
                with contextlib.suppress(FileNotFoundError):
                    age(store.blob_path(digest))
            store.prune(everything(store))
        stop.set()
        counts = [each.result() for each in using]
    assert sum(found for found, _ in counts) > 0
    assert sum(pruned for _, pruned in counts) > 0


# -- room


def budget(store: BlobStore, max_bytes: int) -> BlobStore:
    return BlobStore(store.root, max_bytes=max_bytes)


def test_there_is_room_within_the_budget(store: BlobStore) -> None:
    put(store, "a")
    budget(store, 2 * SIZE).make_room(SIZE)
    assert len(present(store)) == 1


def test_the_longest_unused_make_room(store: BlobStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    put(store, "old", age_s=9000.0)
    young = put(store, "young")
    budget(store, 2 * SIZE).make_room(SIZE)
    assert present(store) == {young.hex}
    assert "to make room" in caplog.text


def test_bad_blobs_make_room_before_good_ones(store: BlobStore) -> None:
    digest = put(store, "a")
    (store.root / "quarantine").mkdir()
    bad = store.root / "quarantine" / f"{digest.hex}.{int(time.time() * 1000)}"
    bad.write_bytes(b"x" * SIZE)
    budget(store, 2 * SIZE).make_room(SIZE)
    assert not bad.exists()
    assert present(store) == {digest.hex}


def test_what_is_in_use_makes_no_room(store: BlobStore) -> None:
    digest = put(store, "a")
    with store.lease([digest]), pytest.raises(StoreError, match="in use or new") as caught:
        budget(store, SIZE).make_room(1)
    assert "MUSTER_CACHE_MAX_BYTES" in caught.value.hint
    assert present(store) == {digest.hex}


def test_what_can_never_fit_costs_nobody_anything(store: BlobStore) -> None:
    digest = put(store, "a")
    with pytest.raises(StoreError):
        budget(store, SIZE).make_room(SIZE + 1)
    assert present(store) == {digest.hex}


def test_the_disk_is_not_filled(store: BlobStore, tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    free_bytes = status.f_bavail * status.f_frsize
    greedy = BlobStore(store.root, min_free_bytes=100 * free_bytes)
    with pytest.raises(StoreError, match="are free") as caught:
        greedy.make_room(0)
    assert "muster cache prune" in caught.value.hint
    assert not store.root.exists()
    store.make_room(1)
    with pytest.raises(StoreError, match="are free"):
        store.make_room(100 * free_bytes)


def test_blob_ages_count_from_the_last_use(store: BlobStore) -> None:
    digest = put(store, "a", age_s=9000.0)
    before: StoredBlob = store.scan().blobs[0]
    assert BlobStore(store.root).find(digest) is not None
    after = store.scan().blobs[0]
    assert after.used_s - before.used_s > 8000.0
    assert after.stored_s == before.stored_s
