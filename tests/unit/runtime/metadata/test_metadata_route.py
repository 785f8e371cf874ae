from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.errors import InvalidArgument
from muster.runtime.metadata.registry import MetadataKey
from muster.runtime.metadata.route import METADATA_PREFIX, format_path, parse_path

text = st.text(st.characters(exclude_categories=["Cs"]))


@given(text, text, text, text, text, text.filter(bool))
def test_a_path_reads_back_as_its_key(ns: str, c: str, e: str, slug: str, s: str, f: str) -> None:
    key = MetadataKey(ns, c, e, slug, s, f)
    path = format_path(key)
    assert path.isascii()
    assert path.count("/") == 8
    assert not set(path) & set("?#\\ %") - {"%"}
    assert parse_path(path) == key


@given(st.text())
def test_any_path_reads_as_a_key_or_is_refused(rest: str) -> None:
    try:
        key = parse_path(METADATA_PREFIX + rest)
    except InvalidArgument:
        return
    assert key is None or key.filename


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("100%.json", "100%25.json"),
        ("a#b?c", "a%23b%3Fc"),
        ("back\\slash", "back%5Cslash"),
        ("sp ace", "sp%20ace"),
        ("é.json", "%C3%A9.json"),
        ("a+b&c=d~[e]", "a+b&c=d~[e]"),
    ],
)
def test_what_a_url_parser_could_misread_is_escaped(name: str, escaped: str) -> None:
    key = MetadataKey("n", "c", "e", "s", "_base", name)
    assert format_path(key) == f"/v1/metadata/n/c/e/s/_base/{escaped}"


def test_an_empty_slug_is_an_empty_segment() -> None:
    key = MetadataKey("n", "c", "generate", "", "_base", "config.json")
    assert format_path(key) == "/v1/metadata/n/c/generate//_base/config.json"
    assert parse_path(format_path(key)) == key


def test_decoding_happens_once() -> None:
    key = parse_path("/v1/metadata/n/c/e/s/_base/a%2525b%2F..%2Fc")
    assert key is not None
    assert key.filename == "a%25b/../c"


def test_what_follows_the_fifth_part_belongs_to_the_name() -> None:
    key = parse_path("/v1/metadata/n/c/e/s/_base/../x/")
    assert key is not None
    assert key.filename == "../x/"


@pytest.mark.parametrize(
    "path", ["/v1/metadata/", "/v1/metadata/n/c/e/s/_base", "/v1/metadata/n/c/e/s/_base/", "/v1"]
)
def test_fewer_parts_are_no_metadata_path(path: str) -> None:
    assert parse_path(path) is None


@pytest.mark.parametrize("bad", ["%ff", "a%C3", "\udcff"])
def test_bytes_outside_utf8_are_refused_with_the_part_named(bad: str) -> None:
    with pytest.raises(InvalidArgument, match="Invalid UTF-8 in `filename`"):
        parse_path(f"/v1/metadata/n/c/e/s/_base/{bad}")
    with pytest.raises(InvalidArgument, match="Invalid UTF-8 in `slug`"):
        parse_path(f"/v1/metadata/n/c/e/{bad}/_base/x")


def test_a_name_that_is_not_utf8_cannot_be_put_into_a_url() -> None:
    with pytest.raises(InvalidArgument, match="UTF-8"):
        format_path(MetadataKey("n", "c", "e", "s", "_base", "\udcff"))
