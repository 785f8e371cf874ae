from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from muster.digest import Digest
from muster.model.card import ModelDeploymentCard
from muster.model.catalog.group import Member
from muster.model.catalog.partition import carry_on, partition

CARD = ModelDeploymentCard(display_name="M", slug="m")


def member(key: str, mdcsum: str, identity: str | None, terms: str = "t") -> Member:
    return Member(
        key=key,
        instance_id=1,
        mdcsum=mdcsum,
        identity=Digest.of(identity.encode()) if identity is not None else None,
        terms=terms,
        card=CARD,
    )


def classes(*members: Member) -> list[list[str]]:
    return [[*group] for group in partition(members).values()]


def test_where_all_say_an_identity_it_decides() -> None:
    assert classes(member("a", "X", "I"), member("b", "Y", "I"), member("c", "Y", "J")) == [
        ["a", "b"],
        ["c"],
    ]


def test_other_terms_keep_equal_files_apart() -> None:
    assert classes(member("a", "X", "I"), member("b", "Y", "I", "u")) == [["a"], ["b"]]


def test_where_one_says_none_the_cards_digest_decides_for_all() -> None:
    assert classes(member("a", "X", "I"), member("b", "Y", "I"), member("c", "X", None)) == [
        ["a", "c"],
        ["b"],
    ]


_members = st.lists(
    st.builds(
        member,
        st.text("abcdef", min_size=1, max_size=2),
        st.sampled_from("XYZ"),
        st.none() | st.sampled_from("IJ"),
        st.sampled_from("tu"),
    ),
    unique_by=lambda each: each.key,
    max_size=8,
)


@given(_members)
def test_every_member_is_in_exactly_one_class_and_none_is_empty(members: list[Member]) -> None:
    groups = partition(members)
    assert all(groups.values())
    assert sorted(key for group in groups.values() for key in group) == sorted(
        each.key for each in members
    )


@given(_members, st.lists(st.lists(st.text("abcdef", min_size=1, max_size=2), max_size=3)))
def test_every_class_is_gone_on_with_at_most_once(
    members: list[Member], former: Sequence[Sequence[str]]
) -> None:
    groups = partition(members)
    before = [(f"old {at}", keys) for at, keys in enumerate(former)]
    heirs = carry_on(before, groups)
    given_out = [heir for heir in heirs if heir is not None]
    assert len(given_out) == len({*given_out})
    assert {*given_out} <= groups.keys()
    for (_, keys), heir in zip(before, heirs, strict=True):
        if heir is not None:
            assert {*keys} & groups[heir].keys()


def test_a_class_of_the_same_name_comes_before_the_oldest_member() -> None:
    groups = {"X": {"b": member("b", "X", None)}, "Y": {"a": member("a", "Y", None)}}
    assert carry_on([("X", ["a", "b"]), ("Z", ["a"])], groups) == ["X", "Y"]
    assert carry_on([("X", ["a"])], {}) == [None]
