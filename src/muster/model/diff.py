"""What differs between two cards, or two JSON documents: pure comparisons, for people and programs.

Places in a document are JSON pointers (RFC 6901). Lists are compared position by position.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from muster.model.card import ModelDeploymentCard
from muster.model.identity import FileRole, IdentityFile, files_of

__all__ = ["MISSING", "CardDiff", "FileDiff", "ValueDiff", "diff_cards", "diff_json"]

MISSING = "(missing)"
"""Stands for a value that one side has not got, in text for people."""

_WITHOUT_FILES = (
    "source_path",
    "prompt_context",
    "context_length",
    "kv_cache_block_size",
    "worker_type",
    "needs",
    "router_config",
    "indexer_identity",
    "aliases",
)
"""Fields besides files that a card's digest covers (and a few of the runtime configuration)."""


class ValueDiff(msgspec.Struct, frozen=True, kw_only=True):
    """One place where two documents differ.

    Attributes:
        pointer: Where: a JSON pointer; empty for the whole document.
        left: The value there on one side; meaningless if ``in_left`` is false.
        right: The same on the other.
        in_left: Whether one side has a value there.
        in_right: Whether the other has.
    """

    pointer: str
    left: Any = None
    right: Any = None
    in_left: bool = True
    in_right: bool = True


class FileDiff(msgspec.Struct, frozen=True, kw_only=True):
    """One file that only one side has, or that has other bytes; an empty digest means missing."""

    role: str
    name: str
    left: str = ""
    right: str = ""


class CardDiff(msgspec.Struct, frozen=True, kw_only=True):
    """How two cards differ in what decides whether they can serve together."""

    files: tuple[FileDiff, ...] = ()
    fields: tuple[ValueDiff, ...] = ()

    @property
    def is_cosmetic(self) -> bool:
        """Whether only the place the model was registered from differs."""
        return not self.files and all(each.pointer == "/source_path" for each in self.fields)


def diff_json(left: Any, right: Any, pointer: str = "") -> Iterator[ValueDiff]:
    """Every place where two JSON values differ, as deep as it goes, in the order of ``left``.

    Numbers are equal if JSON says the same number: ``1`` and ``1.0`` are; ``1`` and ``true`` are not.
    """
    if isinstance(left, dict) and isinstance(right, dict):
        for key in [*left, *(key for key in right if key not in left)]:
            inner = f"{pointer}/{_escape(str(key))}"
            yield from _diff_item(left, right, key, inner)
    elif isinstance(left, list) and isinstance(right, list):
        for index in range(max(len(left), len(right))):
            inner = f"{pointer}/{index}"
            if index >= len(left):
                yield ValueDiff(pointer=inner, right=right[index], in_left=False)
            elif index >= len(right):
                yield ValueDiff(pointer=inner, left=left[index], in_right=False)
            else:
                yield from diff_json(left[index], right[index], inner)
    elif isinstance(left, bool) is not isinstance(right, bool) or left != right:
        yield ValueDiff(pointer=pointer, left=left, right=right)


def diff_cards(left: ModelDeploymentCard, right: ModelDeploymentCard) -> CardDiff:
    """What keeps two cards from being one: files by role and name, then fields."""
    return CardDiff(
        files=tuple(_diff_files([*files_of(left)], [*files_of(right)])),
        fields=tuple(diff_json(_fields(left), _fields(right))),
    )


def _diff_item(
    left: Mapping[str, Any], right: Mapping[str, Any], key: str, pointer: str
) -> Iterator[ValueDiff]:
    if key not in left:
        yield ValueDiff(pointer=pointer, right=right[key], in_left=False)
    elif key not in right:
        yield ValueDiff(pointer=pointer, left=left[key], in_right=False)
    else:
        yield from diff_json(left[key], right[key], pointer)


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _diff_files(left: Sequence[IdentityFile], right: Sequence[IdentityFile]) -> Iterator[FileDiff]:
    """By role and name. A slot that names its file differently is one file with two names."""
    ours = {_key(file): file for file in left}
    theirs = {_key(file): file for file in right}
    for key in [*ours, *(key for key in theirs if key not in ours)]:
        one, other = ours.get(key), theirs.get(key)
        if one is None or other is None or one.digest != other.digest:
            shown = one or other
            assert shown is not None  # noqa: S101 - the key is of one of the two
            yield FileDiff(
                role=shown.role,
                name=shown.name,
                left=str(one.digest) if one is not None else "",
                right=str(other.digest) if other is not None else "",
            )


def _key(file: IdentityFile) -> tuple[str, str]:
    return file.role, file.name if file.role is FileRole.EXTRA else ""


def _fields(card: ModelDeploymentCard) -> dict[str, Any]:
    """The card's own fields that its digest covers, as its JSON has them."""
    wire: dict[str, Any] = msgspec.json.decode(card.to_json_str())
    fields = {name: wire[name] for name in _WITHOUT_FILES if name in wire}
    data = wire.get("runtime_config", {}).get("runtime_data")
    return fields | ({"runtime_data": data} if data else {})
