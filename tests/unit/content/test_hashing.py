import os
import threading
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from muster.content.hashing import hash_file
from muster.digest import Digest
from muster.errors import ContentError

EMPTY = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


def test_an_empty_file_has_the_digest_of_nothing(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    assert hash_file(path) == (Digest(EMPTY), 0)


@given(data=st.binary(max_size=4096))
def test_digest_and_size_are_those_of_the_content(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("hash") / "file"
    path.write_bytes(data)
    assert hash_file(path) == (Digest.of(data), len(data))


def test_a_file_of_several_pieces_hashes_as_one(tmp_path: Path) -> None:
    data = os.urandom(9 * 1024 * 1024 + 17)
    path = tmp_path / "large"
    path.write_bytes(data)
    assert hash_file(path) == (Digest(blake3(data).hexdigest()), len(data))


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"x")
    (tmp_path / "link").symlink_to("target")
    assert hash_file(tmp_path / "link") == (Digest.of(b"x"), 1)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match=r"^File not found: .*/nothing$"):
        hash_file(tmp_path / "nothing")


def test_a_link_to_nothing_is_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nothing")
    with pytest.raises(ContentError, match=r"^File not found: "):
        hash_file(tmp_path / "link")


def test_a_path_below_a_file_is_missing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ContentError, match=r"^File not found: "):
        hash_file(tmp_path / "file" / "below")


def test_a_directory_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match=r"^Not a file: "):
        hash_file(tmp_path)


def test_a_pipe_is_not_a_file_and_nobody_waits_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ContentError, match=r"^Not a file: "):
        hash_file(tmp_path / "pipe")


def test_a_path_no_file_can_have_is_unreadable() -> None:
    with pytest.raises(ContentError, match=r"^Cannot read "):
        hash_file("a\0b")


def test_an_unprintable_path_is_quoted_in_the_message(tmp_path: Path) -> None:
    with pytest.raises(ContentError) as caught:
        hash_file(tmp_path / "a\nb")
    assert "\n" not in caught.value.message


def test_a_file_that_changes_while_it_is_read_gives_digest_and_size_of_what_was_read(
    tmp_path: Path,
) -> None:
    """Whatever was read, the size is of those bytes: a prefix of zeros, of a length we are told."""
    path = tmp_path / "moving"
    path.write_bytes(bytes(8 * 1024 * 1024))
    stop = threading.Event()

    def change() -> None:
        size = 0
        while not stop.is_set():
            os.truncate(path, size % (8 * 1024 * 1024))
            size += 1_000_003

    writer = threading.Thread(target=change)
    writer.start()
    try:
        for _ in range(50):
            digest, size = hash_file(path)
            assert digest == Digest.of(bytes(size))
    finally:
        stop.set()
        writer.join()
