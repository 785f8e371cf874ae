from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from muster.digest import Digest
from muster.model.card import ModelDeploymentCard
from muster.model.checked_file import CheckedFile
from muster.model.diff import FileDiff, ValueDiff, diff_cards, diff_json
from muster.model.slot import Slot, SlotKind

_json = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


def at(document: Any, pointer: str) -> Any:
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        document = document[int(key)] if isinstance(document, list) else document[key]
    return document


@given(_json)
def test_a_document_does_not_differ_from_itself(document: Any) -> None:
    assert list(diff_json(document, msgspec.json.decode(msgspec.json.encode(document)))) == []


@given(_json, _json)
def test_every_difference_is_where_its_pointer_says(left: Any, right: Any) -> None:
    found = list(diff_json(left, right))
    for each in found:
        if each.in_left:
            assert at(left, each.pointer) == each.left
        if each.in_right:
            assert at(right, each.pointer) == each.right
    if not found:
        assert msgspec.json.encode(left, order="sorted") == msgspec.json.encode(
            right, order="sorted"
        )


def test_keys_lists_and_kinds() -> None:
    left = {"same": 1, "a/b": {"m~n": 1}, "list": [1, 2], "kind": 1, "gone": None}
    right = {"list": [1, 3, 4], "a/b": {"m~n": 2}, "same": 1.0, "kind": True, "new": []}
    assert list(diff_json(left, right)) == [
        ValueDiff(pointer="/a~1b/m~0n", left=1, right=2),
        ValueDiff(pointer="/list/1", left=2, right=3),
        ValueDiff(pointer="/list/2", right=4, in_left=False),
        ValueDiff(pointer="/kind", left=1, right=True),
        ValueDiff(pointer="/gone", left=None, in_right=False),
        ValueDiff(pointer="/new", right=[], in_left=False),
    ]


def card(config: bytes = b"{}", extra: tuple[str, ...] = (), **fields: Any) -> ModelDeploymentCard:
    def file(name: str, content: bytes) -> CheckedFile:
        return CheckedFile.at(f"http://h/{name}", Digest.of(content))

    return ModelDeploymentCard(
        display_name="M",
        slug="m",
        model_info=Slot(SlotKind.HF_CONFIG_JSON, file("config.json", config)),
        extra_files=tuple(file(name, name.encode()) for name in extra),
        **fields,
    )


def test_cards_differ_in_files_by_role_and_name() -> None:
    diff = diff_cards(card(extra=("a%20b", "c")), card(b"[]", extra=("c", "d")))
    assert [(each.role, each.name, bool(each.left), bool(each.right)) for each in diff.files] == [
        ("model_info", "config.json", True, True),
        ("extra", "a b", True, False),
        ("extra", "d", False, True),
    ]
    assert isinstance(diff.files[0], FileDiff)
    assert not diff.is_cosmetic


def test_cards_differ_in_the_fields_their_digest_covers() -> None:
    diff = diff_cards(card(kv_cache_block_size=16, migration_limit=1), card(kv_cache_block_size=32))
    assert diff.fields == (ValueDiff(pointer="/kv_cache_block_size", left=16, right=32),)
    assert not diff.is_cosmetic


def test_another_source_path_alone_is_cosmetic() -> None:
    diff = diff_cards(card(source_path="/mnt/a"), card(source_path="/mnt/b"))
    assert diff.is_cosmetic
    assert diff_cards(card(), card()) == diff_cards(card(), card())
    assert not diff_cards(card(), card()).files
