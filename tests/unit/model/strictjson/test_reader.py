import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.errors import CardError
from muster.model.strictjson.node import Json, Members, Unreadable, to_json
from muster.model.strictjson.reader import read
from muster.model.strictjson.writer import dump, sort_keys

# The float parser is not exact, on purpose, so floats are those it has no trouble with.
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.integers(-(10**9), 10**9).map(lambda thousandths: thousandths / 1000)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
)


def value(text: str | bytes) -> Json:
    return to_json(read(text), "")


@given(JSON)
def test_what_is_written_reads_back(data: Any) -> None:
    again = value(dump(data))
    assert dump(again) == dump(data)


@given(JSON)
def test_texts_and_nesting_are_those_of_the_standard_parser(data: Any) -> None:
    def close(ours: Any, theirs: Any) -> bool:
        if isinstance(ours, float):
            return math.isclose(ours, theirs)
        if isinstance(ours, list):
            return len(ours) == len(theirs) and all(map(close, ours, theirs))
        if isinstance(ours, dict):
            return list(ours) == list(theirs) and all(map(close, ours.values(), theirs.values()))
        return bool(ours == theirs)

    text = json.dumps(data, indent=1)
    assert close(value(text), json.loads(text))


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "{", "[", "[1", '{"a"', '{"a":', '{"a":1', "[1,]", "[,1]", '{"a":1,}', "[1 2]"),
        *("01", "1.", ".5", "+1", "-", "1e", "1e+", "NaN", "Infinity", "tru", "True", "nul"),
        *("'a'", '"', '"\t"', '"\n"', '"\\x"', '"\\u12"', '"a', "{a:1}", "{1:2}", "/*c*/1"),
        *("1 x", "{}{}", "[]]", "\ufeff1", "\x0b1", "1\x0b", "\xa01", '{"a":1]', "[1}", '"\x00"'),
    ],
)
def test_what_is_not_json_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(CardError, match=r"^not JSON: .* at line \d+ column \d+$"):
        read(text)


def test_the_place_of_an_error_counts_lines_and_columns() -> None:
    with pytest.raises(CardError, match=r"at line 3 column 2$"):
        read('{\n"a":\n x}')


@pytest.mark.parametrize("text", [" 1\t", "\n1\r", "[ ]", "{ }", '{ "a" : [ 1 , 2 ] }', '"\x7f"'])
def test_white_space_and_delete_are_allowed(text: str) -> None:
    assert value(text) == json.loads(text)


def test_repeated_keys_are_kept_for_whoever_reads_them() -> None:
    assert read('{"a":1,"a":2}') == Members([("a", 1), ("a", 2)])


def test_in_a_plain_value_the_last_of_repeated_keys_counts_in_the_first_place() -> None:
    assert dump(value('{"a":1,"b":2,"a":3}')) == '{"a":3,"b":2}'


@pytest.mark.parametrize("text", [r'"\ud800"', r'"\udc00"', r'"\ud800x"', r'"\udc00\ud800"'])
def test_half_a_surrogate_pair_is_harmless_until_read(text: str) -> None:
    node = read(text)
    assert isinstance(node, Unreadable)
    with pytest.raises(CardError, match="surrogate"):
        to_json(node, "x")


def test_a_surrogate_pair_is_one_character() -> None:
    assert value(r'"\ud83d\ude00"') == "😀"


def test_a_text_with_a_surrogate_in_it_is_refused() -> None:
    with pytest.raises(CardError, match="surrogate"):
        read('"\ud800"')


def test_bytes_that_are_not_utf8_are_refused() -> None:
    with pytest.raises(CardError, match="not UTF-8 at byte 1"):
        read(b'"\xff"')


def test_nesting_is_followed_to_127_containers() -> None:
    assert value("[" * 127 + "]" * 127) is not None
    with pytest.raises(CardError, match="recursion limit"):
        value("[" * 128 + "]" * 128)


def test_nesting_of_any_depth_is_harmless_until_read() -> None:
    depth = 200_000
    node = read('{"a":' + "[" * depth + "]" * depth + "}")
    assert isinstance(node, Members)


@pytest.mark.parametrize("text", ["1e999", '{"a":[1e999]}', '{"\\ud800":1}'])
def test_an_unreadable_part_makes_the_value_unreadable(text: str) -> None:
    with pytest.raises(CardError):
        value(text)


def test_writing_is_compact_and_escapes_only_what_must_be() -> None:
    data: Json = {"é": ['"\\\b\f\n\r\t\x00\x1f\x7f/😀', None, True, False, -1, 1.5]}
    assert dump(data) == (
        '{"é":["\\"\\\\\\b\\f\\n\\r\\t\\u0000\\u001f\x7f/😀",null,true,false,-1,1.5]}'
    )


def test_what_utf8_has_no_bytes_for_cannot_be_written() -> None:
    with pytest.raises(CardError, match="not UTF-8"):
        dump({"path": "a\udcff"})


def test_keys_are_sorted_at_every_level_and_items_are_not() -> None:
    data: Json = {"b": [{"z": 1, "é": 2, "a": 3}, 0], "a": 1}
    assert dump(sort_keys(data)) == '{"a":1,"b":[{"a":3,"z":1,"é":2},0]}'
