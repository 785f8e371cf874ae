"""Keys under a component's path: any names, told apart, and short enough for a file's name."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.errors import InvalidArgument
from muster.names import encode_file_name
from muster.runtime.components.component_path import check_key_name, component_key

NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)


@pytest.mark.parametrize(
    ("segments", "key"),
    [
        (("ns", "comp", "card.json"), "ns/comp/card.json"),
        (("a.b", "c-d", "e_f", "1f"), "a.b/c-d/e_f/1f"),
        (("n", "c", "a/b"), "n/c/a%2Fb"),
        (("n", "c", "100%"), "n/c/100%25"),
        (("n", "c", "é"), "n/c/%C3%A9"),
        (("n", "c", "=x"), "n/c/%3Dx"),
        (("n", "c"), "n/c"),
    ],
)
def test_a_key_has_a_segment_a_name(segments: tuple[str, ...], key: str) -> None:
    assert component_key(*segments) == key


def test_a_long_name_has_a_digest_for_its_segment() -> None:
    long = component_key("n", "c", "x" * 300)
    assert re.fullmatch(r"n/c/=[0-9a-f]{32}", long)
    assert long != component_key("n", "c", "x" * 301)


@given(st.lists(NAME, min_size=3, max_size=3))
def test_every_key_of_an_instance_fits_a_files_name(names: list[str]) -> None:
    assert len(encode_file_name(component_key(*names, f"{2**64 - 1:x}"))) <= 255


@given(st.tuples(NAME, NAME), st.tuples(NAME, NAME))
def test_different_names_have_different_keys(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (component_key(*one) == component_key(*other)) is (one == other)


@pytest.mark.parametrize(
    ("name", "complaint"), [("", "must not be empty"), ("a\ud800", "not valid Unicode")]
)
def test_a_name_that_no_registry_can_carry_is_refused(name: str, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        check_key_name(name, what="document")
