"""JSON files as model authors write them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from muster.errors import CardError
from muster.llm.json_file import read_json_object, read_text


def read(tmp_path: Path, text: str) -> dict[str, object]:
    path = tmp_path / "config.json"
    path.write_text(text)
    return read_json_object(path)


def test_numbers_that_only_python_writes(tmp_path: Path) -> None:
    value = read(tmp_path, '{"a": [0.0, Infinity], "b": NaN}')
    assert value["a"] == [0.0, math.inf]
    assert isinstance(value["b"], float)
    assert math.isnan(value["b"])


def test_comments_trailing_commas_and_a_byte_order_mark(tmp_path: Path) -> None:
    text = '\ufeff{ // why\n "a": [1, 2,], /* and\n how */ "b": "// no, /* comment */, ]",\n}'
    assert read(tmp_path, text) == {"a": [1, 2], "b": "// no, /* comment */, ]"}


def test_escaped_quotes_do_not_end_a_string(tmp_path: Path) -> None:
    assert read(tmp_path, '{"a": "\\"//x", "b": 1,}') == {"a": '"//x', "b": 1}


@pytest.mark.parametrize("text", ["", "{", '{"a": }', "{'a': 1}", "[" * 100_000])
def test_what_is_not_json_is_refused_by_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(CardError, match=r"config\.json is not JSON"):
        read(tmp_path, text)


def test_another_top_level_than_an_object_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="holds list, expected a JSON object"):
        read(tmp_path, "[]")


def test_a_missing_file_is_a_card_error(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="cannot read"):
        read_json_object(tmp_path / "config.json")


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert read_text(path, max_bytes=5) == "12345"
    with pytest.raises(CardError, match="larger than 4 bytes"):
        read_text(path, max_bytes=4)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"ab\xff")
    with pytest.raises(CardError, match="not UTF-8 text: invalid start byte at byte 2"):
        read_text(path)
