"""Which members of a group belong together: a decision over their cards.

If all of them say the identity of their files, those with one identity and equal terms do, wherever
each was mounted and whoever hosts the files. If one does not (a Dynamo worker), its files can only be
compared through the card's digest, so the digest decides for all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from muster.model.catalog.group import Member

__all__ = ["carry_on", "partition"]


def partition(members: Iterable[Member]) -> dict[str, dict[str, Member]]:
    """The members by what they have in common, then by key; both in the order they are given."""
    members = list(members)
    by_identity = all(member.identity is not None for member in members)
    classes: dict[str, dict[str, Member]] = {}
    for member in members:
        name = f"{member.identity} {member.terms}" if by_identity else member.mdcsum
        classes.setdefault(name, {})[member.key] = member
    return classes


def carry_on(
    before: Sequence[tuple[str, Sequence[str]]], classes: Mapping[str, Mapping[str, Member]]
) -> list[str | None]:
    """Which class each former cohort goes on as; ``None`` if it has ended.

    A class of the same name, else the class of its oldest member that is still there. No class is
    given twice: the former cohorts are asked in their order.

    Args:
        before: The former cohorts' names and members' keys, oldest first.
        classes: What ``partition`` gives now.
    """
    where = {key: name for name, members in classes.items() for key in members}
    taken: set[str] = set()
    given: list[str | None] = []
    for name, keys in before:
        heirs = [name] if name in classes else []
        heirs += [where[key] for key in keys if key in where]
        heir = next((each for each in heirs if each not in taken), None)
        if heir is not None:
            taken.add(heir)
        given.append(heir)
    return given
