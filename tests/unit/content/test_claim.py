import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from muster.content.claim import CLAIM_STALE_S, Claim, stale_claim, take_claim
from muster.content.liveness import ProcessMark
from muster.content.store import BlobStore
from muster.digest import Digest

DIGEST = Digest.of(b"wanted")


def write_claim(path: Path, mark: ProcessMark, *, token: str = "other") -> None:
    """A claim as another process leaves it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode({"mark": mark, "token": token}))


def another_live_process() -> ProcessMark:
    """A mark of a process that is surely there: our parent."""
    return msgspec.structs.replace(ProcessMark.own(), pid=os.getppid(), began="")


def dead() -> ProcessMark:
    return msgspec.structs.replace(ProcessMark.own(), pid=2**22 + 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / DIGEST.hex


def take(path: Path, *, later_s: float = 0.0) -> Claim | None:
    return take_claim(path, now=time.time() + later_s)


def test_one_claim_at_a_time_in_one_process(path: Path) -> None:
    first = take(path)
    assert first is not None
    assert take(path) is None
    assert take(path, later_s=10 * CLAIM_STALE_S) is None  # we know that we work under it
    first.release()
    assert not path.exists()
    with take(path) or pytest.fail("released, and still claimed"):
        assert path.exists()
    assert not path.exists()


def test_releasing_twice_does_not_touch_the_next_one(path: Path) -> None:
    first = take(path)
    assert first is not None
    first.release()
    second = take(path)
    assert second is not None
    first.release()
    assert path.exists()
    assert take(path) is None
    second.release()


def test_a_live_process_keeps_its_claim(path: Path) -> None:
    write_claim(path, another_live_process())
    assert take(path) is None
    assert not stale_claim(path, now=time.time())


@pytest.mark.parametrize("clock_is_off_by", [CLAIM_STALE_S, -CLAIM_STALE_S - 1])
def test_a_claim_nobody_beats_is_taken_over(path: Path, clock_is_off_by: float) -> None:
    write_claim(path, another_live_process())
    claim = take(path, later_s=clock_is_off_by)
    assert claim is not None
    assert b"other" not in path.read_bytes()
    claim.release()


def test_a_dead_process_loses_its_claim_at_once(path: Path) -> None:
    write_claim(path, dead())
    assert stale_claim(path, now=time.time())
    claim = take(path)
    assert claim is not None
    claim.release()


def test_an_earlier_process_of_our_number_loses_its_claim_at_once(path: Path) -> None:
    # in a container every process of the frontend has the same number
    write_claim(path, ProcessMark.own())
    claim = take(path)
    assert claim is not None
    claim.release()


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"mark":{"pid":1}}'])
def test_what_cannot_be_read_counts_for_its_age(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    assert take(path) is None
    claim = take(path, later_s=CLAIM_STALE_S)
    assert claim is not None
    claim.release()


def test_a_claim_taken_over_by_another_stays_theirs(path: Path) -> None:
    claim = take(path)
    assert claim is not None
    path.unlink()
    write_claim(path, another_live_process())
    claim.release()
    assert b"other" in path.read_bytes()


def test_a_beat_renews_a_claim(path: Path) -> None:
    claim = take(path)
    assert claim is not None
    os.utime(path, (1.0, 1.0))
    claim._beaten -= 2.0  # as if two seconds had passed
    claim.beat()
    assert path.stat().st_mtime > 1.0
    os.utime(path, (1.0, 1.0))
    claim.beat()
    assert path.stat().st_mtime == 1.0  # not each time
    claim.release()
    claim.beat()


def test_a_claim_whose_file_has_gone_does_no_harm(path: Path) -> None:
    claim = take(path)
    assert claim is not None
    path.unlink()
    claim._beaten -= 2.0
    claim.beat()
    claim.release()
    assert not path.exists()


def test_what_the_disk_refuses_counts_as_granted(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = BlobStore(tmp_path / "file" / "cache")
    claim = store.claim(DIGEST)
    assert claim is not None
    claim.beat()
    claim.release()


def test_a_claim_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "claims").symlink_to(tmp_path / "elsewhere")
    claim = BlobStore(tmp_path / "cache").claim(DIGEST)
    assert claim is not None
    assert list((tmp_path / "elsewhere").iterdir()) == []
    claim.release()


def test_of_many_threads_one_gets_the_claim(tmp_path: Path) -> None:
    stores = [BlobStore(tmp_path) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda number: stores[number % 4].claim(DIGEST), range(40)))
    (won,) = [claim for claim in claims if claim is not None]
    won.release()
    assert list((tmp_path / "claims").iterdir()) == []


def test_a_pipe_in_a_claims_place_does_not_hang(path: Path) -> None:
    os.mkfifo(path)
    assert take(path) is None
    claim = take(path, later_s=CLAIM_STALE_S)
    assert claim is not None
    claim.release()
