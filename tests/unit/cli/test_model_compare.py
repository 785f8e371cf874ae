from __future__ import annotations

import json

from muster.cli.model_compare import Comparison, FileComparison, compare_bytes, describe
from muster.model.diff import ValueDiff

BASE = FileComparison(role="model_info", name="config.json", left="a", right="b")


def told(file: FileComparison, *fields: ValueDiff) -> list[str]:
    comparison = Comparison(
        mdcsum="0" * 64,
        keys=("k",),
        same_identity=False,
        files=(file,),
        fields=fields,
        cosmetic=False,
    )
    return list(describe(comparison))


def test_json_is_compared_by_content() -> None:
    same = compare_bytes(BASE, b'{"a": 1, "b": 2}', b'{"b":2,"a":1}')
    assert same.kind == "layout"
    assert told(same) == ["model_info config.json: the same content, written differently"]
    other = compare_bytes(BASE, b'{"a": 1}', b'{"a": 2, "c": null}')
    assert other.kind == "json"
    assert told(other) == [
        "model_info config.json /a: 1 -> 2",
        "model_info config.json /c: (missing) -> null",
    ]


def test_text_is_compared_by_lines_and_bytes_by_size() -> None:
    text = compare_bytes(BASE, b"one\ntwo\n", b"one\n2\n")
    assert text.kind == "text"
    assert [line.strip() for line in told(text)[1:]] == ["@@ -1,2 +1,2 @@", "one", "-two", "+2"]
    binary = compare_bytes(BASE, b"\0\1", b"\0\1\2")
    assert told(binary) == ["model_info config.json: 2 bytes -> 3 bytes"]


def test_long_values_and_many_places_are_cut_for_people() -> None:
    left = {str(number): "x" * 100 for number in range(30)}
    right = dict.fromkeys(left, "y" * 100)
    lines = told(compare_bytes(BASE, json.dumps(left).encode(), json.dumps(right).encode()))
    assert len(lines) == 21
    assert "... and 10 more places" in lines[-1]
    assert all(len(line) < 200 for line in lines)


def test_what_only_one_side_has_is_said() -> None:
    assert told(FileComparison(role="extra", name="n", kind="added", right_bytes=3)) == [
        "extra n: only here (3 bytes)"
    ]
    assert told(FileComparison(role="extra", name="n", kind="removed", left_bytes=3)) == [
        "extra n: missing here (3 bytes)"
    ]
    unknown = told(FileComparison(role="extra", name="n", error="404"))
    assert unknown == ["extra n: could not be compared: 404"]
    field = ValueDiff(pointer="/aliases", left=["a"], in_right=False)
    assert told(BASE, field)[0] == 'card /aliases: ["a"] -> (missing)'
