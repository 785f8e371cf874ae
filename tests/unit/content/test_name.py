import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.content.name import MAX_NAME_BYTES, check_file_name
from muster.errors import ContentError


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "weird name%20é.json",
        "a#b.json",
        "c?d.json",
        "back\\slash.json",
        "-lead",
        ".hidden",
        "...",
        "..%2fetc",
        "new\nline",
        "模型.json",
        "x" * 255,
        "é" * 127,
    ],
)
def test_every_name_a_file_system_holds_is_kept(name: str) -> None:
    assert check_file_name(name) == name


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("", "empty"),
        (".", "directory"),
        ("..", "directory"),
        ("a/b", "'/'"),
        ("../../etc/passwd", "'/'"),
        ("/", "'/'"),
        ("\0x", "NUL"),
        ("x" * 256, "256 bytes"),
        ("é" * 128, "256 bytes"),
        ("\ud800", "Unicode"),
    ],
)
def test_names_that_are_not_one_entry_are_refused(name: str, complaint: str) -> None:
    with pytest.raises(ContentError, match="unsafe file name") as caught:
        check_file_name(name)
    assert complaint in caught.value.message


def test_a_long_bad_name_is_shortened_in_the_message() -> None:
    with pytest.raises(ContentError) as caught:
        check_file_name("x" * 100_000)
    assert len(caught.value.message) < 300


@given(st.text())
def test_an_accepted_name_makes_exactly_one_entry_of_its_directory(name: str) -> None:
    try:
        check_file_name(name)
    except ContentError:
        return
    assert len(name.encode()) <= MAX_NAME_BYTES
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / name
        assert path.parent == Path(directory)
        path.write_bytes(b"")
        assert list(Path(directory).iterdir()) == [path]
