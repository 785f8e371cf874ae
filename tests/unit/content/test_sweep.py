import os
import time
from pathlib import Path

import msgspec
import pytest

from muster.content.liveness import ProcessMark
from muster.content.staging import LIVE_NAMES, temporary_name
from muster.content.store import BlobStore
from muster.content.sweep import ORPHAN_AGE_S, STALE_AGE_S, is_abandoned, sweep
from muster.digest import Digest

_HEX = "ab" * 32
_UUID = "cd" * 16


def _judge(name: str, age_s: float, *, lives: bool) -> bool:
    return is_abandoned(name, age_s=age_s, process_lives=lambda _: lives)


@pytest.mark.parametrize(
    "name",
    [f"{_HEX}.tmp.1.{_UUID}", f"{_HEX}.bad.1.{_UUID}", f".tmp.1.{_UUID}", f".{_HEX}.tmp.1.{_UUID}"],
)
def test_a_dead_process_file_is_abandoned_after_a_minute(name: str) -> None:
    assert _judge(name, ORPHAN_AGE_S, lives=False)
    assert not _judge(name, ORPHAN_AGE_S - 1, lives=False)


def test_a_live_process_file_is_abandoned_after_a_day() -> None:
    name = f"{_HEX}.tmp.1.{_UUID}"
    assert not _judge(name, STALE_AGE_S - 1, lives=True)
    assert _judge(name, STALE_AGE_S, lives=True)


@pytest.mark.parametrize(
    "name",
    [_HEX, f"{_HEX}.tmp", f"{_HEX}.tmp.1.short", f"{_HEX}.lock", "config.json", "x.tmp.1." + _UUID],
)
def test_other_names_are_never_abandoned(name: str) -> None:
    assert not _judge(name, 10 * STALE_AGE_S, lives=False)


def test_a_file_of_an_earlier_process_with_our_number_is_abandoned_but_ours_is_not() -> None:
    # in a container every process of the frontend has the same number
    name = f"{_HEX}.tmp.{os.getpid()}.{_UUID}"
    assert _judge(name, ORPHAN_AGE_S, lives=True)
    LIVE_NAMES.add(name)
    try:
        assert not _judge(name, 10 * STALE_AGE_S, lives=True)
    finally:
        LIVE_NAMES.discard(name)


def test_sweeping_removes_leftovers_everywhere_and_nothing_else(tmp_path: Path) -> None:
    blobs, view, slugless = (
        tmp_path / "blobs",
        tmp_path / "by-slug" / "m" / _HEX,
        tmp_path / "by-slug" / _HEX,
    )
    for directory in (blobs, view, slugless):
        directory.mkdir(parents=True)
    dead = 2**22 + 1  # above the largest process number of a default kernel
    left = [
        blobs / f"{_HEX}.tmp.{dead}.{_UUID}",
        view / f".tmp.{dead}.{_UUID}",
        slugless / f".tmp.{dead}.{_UUID}",
    ]
    kept = [blobs / _HEX, view / "config.json", blobs / temporary_name(_HEX)]
    for path in [*left[:1], *kept]:
        path.write_bytes(b"x")
    for path in left[1:]:
        path.symlink_to(kept[0])
    LIVE_NAMES.add(kept[2].name)
    try:
        now = kept[0].stat().st_mtime + 10 * ORPHAN_AGE_S
        assert sorted(sweep(tmp_path, now=now)) == sorted(left)
    finally:
        LIVE_NAMES.discard(kept[2].name)
    assert all(path.exists() for path in kept)
    assert not any(os.path.lexists(path) for path in left)


def test_sweeping_nothing_is_fine(tmp_path: Path) -> None:
    assert sweep(tmp_path / "missing", now=0.0) == []


def test_sweeping_removes_what_dead_processes_left_of_everything(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    digest = Digest.of(b"x")
    mark = msgspec.structs.replace(ProcessMark.own(), pid=2**22 + 1)
    half_a_view = tmp_path / "by-slug" / "m" / f".{_HEX}.tmp.{mark.pid}.{_UUID}"
    claim = tmp_path / "claims" / digest.hex
    lease = tmp_path / "leases" / f"{mark.pid}.{_UUID}.json"
    bad = tmp_path / "quarantine" / f"{_HEX}.1000"
    half_a_view.mkdir(parents=True)
    (half_a_view / "a").symlink_to(tmp_path / "blobs" / _HEX)
    for path, text in (
        (claim, {"mark": mark, "token": ""}),
        (lease, {"mark": mark, "blobs": []}),
        (bad, "bad"),
    ):
        path.parent.mkdir()
        path.write_bytes(msgspec.json.encode(text))
    os.utime(half_a_view, (1.0, 1.0))
    own_claim = store.claim(Digest.of(b"y"))
    assert own_claim is not None
    with own_claim, store.lease([digest]):
        assert sorted(sweep(tmp_path, now=time.time())) == sorted([half_a_view, claim, lease, bad])
        assert len(list((tmp_path / "claims").iterdir())) == 1
        assert len(list((tmp_path / "leases").iterdir())) == 1
    assert not any(map(os.path.lexists, (half_a_view, claim, lease, bad)))


@pytest.mark.parametrize("place", ["blobs", "by-slug", "claims", "leases", "quarantine"])
def test_nothing_is_swept_through_a_link(tmp_path: Path, place: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    names = [_HEX, f"{_HEX}.tmp.{2**22 + 1}.{_UUID}", f"{_HEX}.1000", "1.x.json"]
    for name in names:
        (elsewhere / name).touch()
        os.utime(elsewhere / name, (1.0, 1.0))
    root = tmp_path / "cache"
    root.mkdir()
    (root / place).symlink_to(elsewhere)
    assert sweep(root, now=time.time()) == []
    assert sorted(path.name for path in elsewhere.iterdir()) == sorted(names)
