import errno
import os
from pathlib import Path

import pytest

from muster.content.disk import put_back, remove_entry, store_errors
from muster.errors import StoreError


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EROFS, "a directory this process may write"),
        (errno.EACCES, "a directory this process may write"),
    ],
)
def test_what_the_disk_refuses_comes_with_something_to_do(number: int, hint: str) -> None:
    with pytest.raises(StoreError) as caught, store_errors("cannot store it"):
        raise OSError(number, os.strerror(number))
    assert caught.value.message == f"cannot store it: {os.strerror(number)}"
    assert hint in caught.value.hint
    assert "MUSTER_CACHE_DIR" in caught.value.hint


def test_a_file_gets_its_name_back(tmp_path: Path) -> None:
    aside, path = tmp_path / "aside", tmp_path / "path"
    aside.write_bytes(b"old")
    put_back(aside, path)
    assert path.read_bytes() == b"old"
    assert not aside.exists()


def test_whoever_took_the_name_meanwhile_keeps_it(tmp_path: Path) -> None:
    aside, path = tmp_path / "aside", tmp_path / "path"
    aside.write_bytes(b"old")
    path.write_bytes(b"new")
    put_back(aside, path)
    assert path.read_bytes() == b"new"
    assert not aside.exists()


@pytest.mark.parametrize("taken", [False, True])
def test_what_cannot_be_linked_is_put_back_by_renaming(tmp_path: Path, *, taken: bool) -> None:
    aside, path = tmp_path / "aside", tmp_path / "path"
    aside.mkdir()  # as on a file system without hard links
    if taken:
        path.write_bytes(b"new")
    put_back(aside, path)
    assert path.is_file() if taken else path.is_dir()
    assert not aside.exists()


def test_removing_does_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    remove_entry(tmp_path / "gone")
    remove_entry(tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept" / "file").exists()
