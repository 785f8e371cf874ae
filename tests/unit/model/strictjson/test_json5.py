from typing import Any

import pytest

from muster.errors import CardError
from muster.model.strictjson.json5 import read_json5
from muster.model.strictjson.node import Members, Unreadable, to_json


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("// c\n1", 1),
        ("/* c\n */1/**/", 1),
        ("\ufeff\xa0\x85\u3000\u2028\v1", 1),
        ("[1,]", [1]),
        ("{a:1,}", {"a": 1}),
        ("{$_é1:1}", {"$_é1": 1}),
        ("{nullx:1}", {"nullx": 1}),
        ("{a\u0301\u203f\u200d\u0663²:1}", {"a\u0301\u203f\u200d\u0663²": 1}),
        (r"{a\u002d:1}", {"a-": 1}),
        (r"{\u0061:1}", {"a": 1}),
        ("'a\"b'", 'a"b'),
        ('"a\'b"', "a'b"),
        ('"a\\\nb"', "ab"),
        ('"a\\\r\nb"', "ab"),
        (r'"\x41\v\0\q\u00e9"', "A\v\0qé"),
        ('"a\tb\\\u2028"', "a\tb"),
        ("+7", 7),
        ("-7", -7),
        ("0x1F", 31),
        ("-0X1f", 31),
        (".5", 0.5),
        ("5.", 5.0),
        (".e3", 0.0),
        ("- /* c */ 1", -1),
        ("+\n0x10", 16),
        ("-1e3", -1000.0),
        ("-Infinity", float("-inf")),
        ("[true,false,null]", [True, False, None]),
    ],
)
def test_json5_reads_more_than_json(text: str, value: Any) -> None:
    assert to_json(read_json5(text.encode()), "") == value


def test_nan_is_a_number() -> None:
    value = to_json(read_json5(b"NaN"), "")
    assert isinstance(value, float)
    assert value != value


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "// c",
            "/* c",
            "[1,,]",
            "[,]",
            "{,}",
            "{1a:1}",
            "{a-b:1}",
            "{a}",
            "07",
            "0x",
            "True",
        ),
        *('"a\nb"', "'a", "'a\u2028'", "1 2", "{'a' 1}", "- -1", "++1", "nan", "-", "+true", "."),
        *("{null:1}", "{NaN:1}", r"{\u0031:1}", r"{\u12:1}", "{\u200da:1}", "{\u0663:1}", "{²:1}"),
    ],
)
def test_what_is_not_json5_is_refused(text: str) -> None:
    with pytest.raises(CardError, match=r"^not JSON: "):
        read_json5(text.encode())


def test_bytes_that_are_not_utf8_are_refused() -> None:
    with pytest.raises(CardError, match="not UTF-8"):
        read_json5(b"'\xff'")


@pytest.mark.parametrize(
    "text",
    [
        *("99999999999999999999999", "0xFFFFFFFFFFFFFFFFF", r"'\ud800'", r"'\ud83d\ude00'"),
        *(r'"\x4"', r'"\u12"', r'"\1"', r"'\9'"),
    ],
)
def test_what_has_no_value_is_harmless_until_read(text: str) -> None:
    assert isinstance(read_json5(text.encode()), Unreadable)


def test_repeated_keys_are_kept() -> None:
    assert read_json5(b"{a:1,a:2}") == Members([("a", 1), ("a", 2)])
