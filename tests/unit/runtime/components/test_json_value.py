from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.errors import InvalidArgument
from muster.runtime.components.json_value import json_text

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
)


@given(JSON)
def test_a_value_reads_back_and_its_text_is_its_own(value: Any) -> None:
    text = json_text(value, what="it")
    assert json.loads(text) == value
    assert json_text(json.loads(text), what="it") == text


def test_the_order_of_members_means_nothing() -> None:
    assert json_text({"b": 1, "a": [2]}, what="it") == json_text({"a": [2], "b": 1}, what="it")


def test_structs_are_values_too() -> None:
    class Limits(msgspec.Struct):
        most: int

    assert json_text({"limits": Limits(3)}, what="it") == b'{"limits":{"most":3}}'


def _nested() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize("value", [math.nan, [-math.inf], {"a": object()}, "\ud800", _nested()])
def test_what_json_cannot_carry_is_refused(value: Any) -> None:
    with pytest.raises(InvalidArgument, match="the thing is not a JSON value"):
        json_text(value, what="the thing")
