"""In what the cards of a model differ from the one that serves, in short: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from muster.model.card import ModelDeploymentCard
from muster.model.catalog.group import GroupKey
from muster.model.catalog.status import ModelStatus
from muster.model.diff import FileDiff, ValueDiff, diff_cards

__all__ = ["Differences"]

_MOST = 12
_MOST_PAIRS = 1000
_LONGEST = 60


class Differences:
    """Compares cards, each two of them once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[str, ...]] = {}

    def find(self, statuses: Sequence[ModelStatus]) -> Mapping[tuple[str, str], tuple[str, ...]]:
        """By worker set and mdcsum, for each card that is not the one that serves in its group.

        Cards of one mdcsum, and groups in which nothing serves, have no entry.
        """
        heads: dict[GroupKey, ModelStatus] = {}
        for status in statuses:
            if status.group is not None and status.members and status.is_served:
                heads.setdefault(status.group, status)
        found = {}
        for status in statuses:
            head = heads.get(status.group) if status.group is not None else None
            if status.group is None or head is None or head is status:
                continue
            reference = head.members[0]
            for member in status.members:
                if member.mdcsum != reference.mdcsum:
                    found[f"{status.model} {status.group.worker_set}", member.mdcsum] = (
                        self._compare(reference.mdcsum, member.mdcsum, reference.card, member.card)
                    )
        return found

    def _compare(
        self, left: str, right: str, mine: ModelDeploymentCard, theirs: ModelDeploymentCard
    ) -> tuple[str, ...]:
        known = self._known.get((left, right))
        if known is None:
            if len(self._known) >= _MOST_PAIRS:
                self._known.clear()
            diff = diff_cards(mine, theirs)
            fields = [
                each for each in diff.fields if each.pointer != "/source_path"
            ]  # keeps no cards apart
            lines = [*map(_file, diff.files), *map(_field, fields)]
            if len(lines) > _MOST:
                lines[_MOST - 1 :] = [f"and {len(lines) - _MOST + 1} more"]
            known = self._known[left, right] = tuple(lines)
        return known


def _file(diff: FileDiff) -> str:
    if not diff.left:
        return f"{diff.name}: only here"
    if not diff.right:
        return f"{diff.name}: missing here"
    return f"{diff.name}: other bytes"


def _field(diff: ValueDiff) -> str:
    name = diff.pointer.lstrip("/")
    return f"{name}: {_value(diff.in_left, diff.left)} → {_value(diff.in_right, diff.right)}"


def _value(is_there: bool, value: Any) -> str:
    if not is_there:
        return "absent"
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
