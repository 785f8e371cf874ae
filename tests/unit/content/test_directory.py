import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from muster.content.directory import can_be_trusted, check_directory, make_private_directory
from muster.content.store import BlobStore
from muster.digest import Digest
from muster.errors import StoreError

DATA = b"tokenizer"
DIGEST = Digest.of(DATA)
MDCSUM = "ab" * 32
ROOT = 0

as_root = pytest.mark.skipif(os.geteuid() != ROOT, reason="only root can give files away")


def put(store: BlobStore) -> Path:
    with store.stage(DIGEST, cap_bytes=100, source="test") as staged:
        staged.write(DATA)
        return staged.commit()


def link(store: BlobStore) -> Path:
    return store.link_view("slug", MDCSUM, {"a": DIGEST})


@pytest.mark.parametrize(
    ("owner", "user", "trusted"),
    [(1000, 1000, True), (ROOT, 1000, True), (1001, 1000, False), (1001, ROOT, True)],
)
def test_whose_directories_may_be_relied_on(owner: int, user: int, *, trusted: bool) -> None:
    assert can_be_trusted(owner, user=user) is trusted


def test_what_is_made_is_private_and_what_exists_keeps_its_mode(tmp_path: Path) -> None:
    root = tmp_path / "above" / "cache"
    make_private_directory(root, root / "a" / "b")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (root, root / "a", root / "a" / "b")] == [
        0o700
    ] * 3
    (root / "a").chmod(0o750)
    make_private_directory(root, root / "a" / "b")
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o750


def test_a_directory_that_is_missing_is_no_error(tmp_path: Path) -> None:
    assert not check_directory(tmp_path / "cache", tmp_path / "cache" / "blobs")


@pytest.mark.parametrize(
    ("place", "use"),
    [
        (".", put),
        (".", link),
        (".", BlobStore.prepare),
        ("blobs", put),
        ("blobs", BlobStore.prepare),
        ("by-slug", link),
        ("by-slug/slug", link),
        (f"by-slug/slug/{MDCSUM}", link),
    ],
)
def test_a_link_in_a_directorys_place_is_refused_and_nothing_is_written_through_it(
    tmp_path: Path, place: str, use: Callable[[BlobStore], object]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    trap = tmp_path / "cache" / place
    trap.parent.mkdir(parents=True, exist_ok=True)
    trap.symlink_to(elsewhere)
    with pytest.raises(StoreError, match="is a link") as caught:
        use(BlobStore(tmp_path / "cache"))
    assert str(trap) in caught.value.message
    assert "remove it" in caught.value.hint
    assert list(elsewhere.iterdir()) == []


def test_nothing_is_believed_that_lies_behind_a_link(tmp_path: Path) -> None:
    put(BlobStore(tmp_path / "elsewhere"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "blobs").symlink_to(tmp_path / "elsewhere" / "blobs")
    with pytest.raises(StoreError, match="is a link"):
        BlobStore(tmp_path / "cache").find(DIGEST)


def test_links_above_the_root_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "real")
    store = BlobStore(tmp_path / "home" / "cache")
    put(store)
    assert (link(store) / "a").read_bytes() == DATA
    assert store.find(DIGEST) == tmp_path / "home" / "cache" / "blobs" / DIGEST.hex


def test_a_file_in_a_directorys_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "blobs").touch()
    with pytest.raises(StoreError, match="is not a directory"):
        put(BlobStore(tmp_path / "cache"))


AS_ANOTHER_USER = """
import os, sys
from pathlib import Path
from muster.content.store import BlobStore
from muster.digest import Digest
from muster.errors import StoreError

os.setgroups([])
os.setgid(4001)
os.setuid(4001)
store = BlobStore(Path(sys.argv[1]))
digest = Digest.of(b"tokenizer")
staged = store.stage(digest, cap_bytes=9, source="test")
for use in (lambda: staged.write(b"tokenizer"), lambda: store.find(digest)):
    try:
        use()
    except StoreError as error:
        print(error.diagnostics())
"""


@as_root
@pytest.mark.parametrize("place", [".", "blobs"])
def test_another_users_directory_is_refused(place: str) -> None:
    # not in tmp_path, which other users cannot reach
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        cache = Path(directory) / "cache"
        put(BlobStore(cache))
        for path in (cache, cache / "blobs", cache / "blobs" / DIGEST.hex):
            os.chown(path, 4001, 4001)
        os.chown(cache / place, 4002, 4002)
        (cache / place).chmod(0o777)
        done = subprocess.run(
            [sys.executable, "-c", AS_ANOTHER_USER, str(cache)],
            capture_output=True,
            check=True,
            text=True,
            timeout=60,
        )
    assert done.stdout.count("belongs to user 4002, and this process runs as user 4001") == 2
    assert done.stdout.count("chown") == 2


def test_a_place_where_anybody_may_replace_the_cache_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o777)
    for _ in range(2):
        BlobStore(tmp_path / "cache").prepare()
    assert [record.message for record in caplog.records if "any user" in record.message] == [
        caplog.records[0].message
    ]
    assert "chmod o-w" in caplog.text


@pytest.mark.parametrize("mode", [0o1777, 0o700, 0o755])
def test_other_places_are_not_warned_of(
    tmp_path: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(mode)
    BlobStore(tmp_path / "cache").prepare()
    assert caplog.text == ""
