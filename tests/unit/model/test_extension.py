"""The card's own key of ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.digest import Digest
from muster.model.card import ModelDeploymentCard
from muster.model.extension import CardExtension
from muster.model.strictjson.node import Json

WHOLE = CardExtension(identity=Digest.of(b""), blobs="http://h:1/v1/blobs/", status="http://h:1")
JSON: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@pytest.mark.parametrize(
    "extension", [WHOLE, CardExtension(), CardExtension(identity=Digest.of(b"x"))]
)
def test_what_is_written_is_read_back(extension: CardExtension) -> None:
    assert CardExtension.read(extension.to_json()) == extension


def test_what_is_not_known_is_not_written() -> None:
    assert CardExtension().to_json() == {}


@given(st.dictionaries(st.sampled_from(["identity", "blobs", "status", "other"]), JSON))
def test_whatever_somebody_wrote_is_read_without_complaint(content: dict[str, Json]) -> None:
    read = CardExtension.read(content)
    assert CardExtension.read(read.to_json()) == read


@pytest.mark.parametrize(
    "content",
    [
        {"identity": "blake3:xyz", "blobs": "ftp://h/", "status": 5},
        {"identity": None, "blobs": "", "status": "file:///etc"},
        {"identity": "sha256:" + "0" * 64, "blobs": ["http://h"], "status": "//h"},
    ],
)
def test_nonsense_counts_as_absent(content: dict[str, Json]) -> None:
    assert CardExtension.read(content) == CardExtension()


def test_bases_get_the_slash_they_need_and_no_other() -> None:
    read = CardExtension.read({"blobs": "http://h/v1/blobs", "status": "https://h/"})
    assert (read.blobs, read.status) == ("http://h/v1/blobs/", "https://h")


def test_the_cards_digest_does_not_know_of_it() -> None:
    plain = ModelDeploymentCard(display_name="m", slug="m")
    extended = ModelDeploymentCard(display_name="m", slug="m", muster=WHOLE.to_json())
    assert extended.mdcsum() == plain.mdcsum()
    assert ModelDeploymentCard.from_json_str(extended.to_json_str()).muster == WHOLE.to_json()
