import os
from pathlib import Path

import pytest

from muster.content import quarantine
from muster.content.disk import Fingerprint
from muster.content.quarantine import Quarantined, list_quarantine, set_aside, superfluous
from muster.content.store import BlobStore
from muster.digest import Digest

DATA = b"tokenizer" * 1000
DIGEST = Digest.of(DATA)
NOW = 1_700_000_000.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "blobs").mkdir()
    return tmp_path


def blob(root: Path, data: bytes) -> Path:
    path = root / "blobs" / DIGEST.hex
    path.write_bytes(data)
    return path


def kept(root: Path) -> list[Path]:
    return [each.path for each in list_quarantine(root)]


def test_a_bad_blob_is_kept_for_a_look(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = blob(root, b"bad")
    seen = Fingerprint.of(path.lstat())
    assert set_aside(root, path, seen, "its bytes hash to x", now=NOW)
    assert not path.exists()
    (where,) = kept(root)
    assert where.read_bytes() == b"bad"
    assert where.name == f"{DIGEST.hex}.{int(NOW * 1000)}"
    assert "failed verification" in caplog.text


def test_two_bad_ones_at_one_moment_are_both_kept(root: Path) -> None:
    for data in (b"bad", b"worse"):
        path = blob(root, data)
        set_aside(root, path, Fingerprint.of(path.lstat()), "bad", now=NOW)
    assert sorted(path.read_bytes() for path in kept(root)) == [b"bad", b"worse"]


def test_a_good_one_that_has_replaced_it_is_not_moved(root: Path) -> None:
    path = blob(root, b"bad")
    seen = Fingerprint.of(path.lstat())
    good = root / "good"
    good.write_bytes(DATA)
    good.replace(path)
    before = path.lstat().st_ino, path.parent.stat().st_mtime_ns
    assert not set_aside(root, path, seen, "bad", now=NOW)
    assert (path.lstat().st_ino, path.parent.stat().st_mtime_ns) == before  # not for a moment
    assert kept(root) == []


def test_one_that_has_gone_is_no_error(root: Path) -> None:
    path = blob(root, b"bad")
    seen = Fingerprint.of(path.lstat())
    path.unlink()
    assert not set_aside(root, path, seen, "bad", now=NOW)


def entry(number: int, *, age_s: float = 0.0, size_bytes: int = 1) -> Quarantined:
    return Quarantined(Path(str(number)), size_bytes, NOW - age_s)


def test_only_so_much_is_kept_and_the_oldest_goes_first() -> None:
    many = [entry(number, age_s=number) for number in range(20)]
    assert superfluous(many, now=NOW) == many[quarantine.KEPT_ENTRIES :]
    large = [entry(number, size_bytes=quarantine.KEPT_BYTES // 2) for number in range(3)]
    assert superfluous(large, now=NOW) == large[2:]
    old = [entry(0), entry(1, age_s=quarantine.KEPT_S)]
    assert superfluous(old, now=NOW) == old[1:]


def test_a_blob_that_goes_bad_time_and_again_does_not_fill_the_disk(root: Path) -> None:
    for number in range(quarantine.KEPT_ENTRIES + 5):
        path = blob(root, b"bad %d" % number)
        set_aside(root, path, Fingerprint.of(path.lstat()), "bad", now=NOW + number)
    assert len(kept(root)) == quarantine.KEPT_ENTRIES
    assert not any(path.read_bytes() == b"bad 0" for path in kept(root))


def spoil(path: Path, how: str) -> None:
    """Make a stored blob bad, as a careless or hostile neighbour would."""
    match how:
        case "written through a link":
            link = path.with_name("link")
            link.symlink_to(path)
            path.chmod(0o644)
            link.write_bytes(b"other")
            link.unlink()
        case "truncated":
            path.chmod(0o644)
            os.truncate(path, 10)
        case "bit flipped":
            path.chmod(0o644)
            before = path.stat()
            path.write_bytes(bytes([DATA[0] ^ 1]) + DATA[1:])
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        case "pipe":
            path.unlink()
            os.mkfifo(path)
        case "directory":
            path.unlink()
            path.mkdir()
            (path / "inner").touch()
        case "link":
            path.rename(path.with_name("elsewhere"))
            path.symlink_to(path.with_name("elsewhere"))
        case _:
            path.unlink()
            path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    "how",
    ["written through a link", "truncated", "bit flipped", "pipe", "directory", "link", "device"],
)
def test_whatever_becomes_of_a_blob_it_is_stored_again(root: Path, how: str) -> None:
    def put() -> Path:
        with store.stage(DIGEST, cap_bytes=len(DATA), source="test") as staged:
            staged.write(DATA)
            return staged.commit()

    store = BlobStore(root)
    spoil(put(), how)
    assert BlobStore(root).find(DIGEST) is None
    assert len(kept(root)) == 1
    assert put().read_bytes() == DATA
    assert BlobStore(root).find(DIGEST) == store.blob_path(DIGEST)


def test_verifying_leaves_a_bad_blob_if_asked_to(root: Path) -> None:
    store = BlobStore(root)
    path = blob(root, b"bad")
    assert "its bytes hash to" in (store.verify(DIGEST, set_aside=False) or "")
    assert path.exists()
    assert "its bytes hash to" in (store.verify(DIGEST) or "")
    assert not path.exists()
    assert store.verify(DIGEST) is None
    assert store.empty_quarantine() == 1
    assert kept(root) == []


def test_verifying_is_no_use_of_a_blob(root: Path) -> None:
    path = blob(root, DATA)
    os.utime(path, (1000.0, 2000.0))
    store = BlobStore(root)
    assert store.verify(DIGEST) == ""
    assert path.stat().st_atime == 1000.0
    assert store.find(DIGEST) == path
    assert path.stat().st_atime > 2000.0
    assert path.stat().st_mtime == 2000.0
