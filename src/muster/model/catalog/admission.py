"""Who may serve a group: the cohort seen first, for as long as it has an instance.

That is Dynamo 1.6.1's rule: a newcomer with another card can neither replace a model nor hide it.
When the last instance of the serving cohort is gone, the oldest of the others takes over.

Members that leave and come between two decisions with the same card leave no trace: their cohort
keeps its place.

Invariant: after ``decide`` no cohort is empty and the first one serves, or is about to.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from muster.model.catalog.cohort import Cohort
from muster.model.catalog.decision import Decision, Drop, Refuse
from muster.model.catalog.group import GroupKey, Member
from muster.model.catalog.status import ModelState, ModelStatus

__all__ = ["Admission"]

_INCOMPATIBLE = "incompatible"


class Admission:
    """One group's cohorts. ``join`` and ``leave`` take note; ``decide`` draws the conclusions.

    Args:
        key: The group.
        next_build_id: Gives a number no other build has.
    """

    def __init__(self, key: GroupKey, next_build_id: Callable[[], int]) -> None:
        self._key = key
        self._next_build_id = next_build_id
        self._cohorts: dict[str, Cohort] = {}
        self._active: Cohort | None = None
        self._changed = False
        self._newcomers: dict[str, None] = {}

    @property
    def active(self) -> Cohort | None:
        """The cohort that serves or is being built, as of the last ``decide``."""
        return self._active

    @property
    def is_empty(self) -> bool:
        """Whether no cohort was left at the last ``decide``."""
        return not self._cohorts

    def join(self, member: Member) -> None:
        """A member came, or its record was written again.

        The same card again is nothing new, the same content at other addresses replaces them, and
        another card counts as gone and come anew: a watch may have merged the two.
        """
        cohort = self._cohorts.get(member.mdcsum)
        if cohort is None:
            cohort = self._cohorts[member.mdcsum] = Cohort(self._key, member.mdcsum)
        known = cohort.members.get(member.key)
        if known == member:
            return
        if known is None:
            self.leave(member.key)
            self._newcomers[member.key] = None
        cohort.members[member.key] = member
        self._changed |= cohort is self._active

    def leave(self, key: str) -> None:
        """A member is gone; unknown keys are ignored."""
        self._newcomers.pop(key, None)
        for cohort in self._cohorts.values():
            if cohort.members.pop(key, None) is not None:
                self._changed |= cohort is self._active
                return

    def decide(self) -> list[Decision]:
        """What follows from everything since the last call."""
        self._cohorts = {
            mdcsum: cohort for mdcsum, cohort in self._cohorts.items() if cohort.members
        }
        first = next(iter(self._cohorts.values()), None)
        decisions: list[Decision] = []
        if self._active is not first:
            if self._active is not None:
                decisions.append(Drop(group=self._key, message=_succession(first)))
            self._active = first
            if first is not None:
                decisions.append(self.build(first))
        elif self._changed and first is not None:
            first.attempt = 0
            decisions.append(first.announce())
            if first.state is ModelState.RETRYING:
                decisions.append(self.build(first))
        self._changed = False
        return decisions + self._refusals()

    def build(self, cohort: Cohort) -> Decision:
        """Start a build from ``cohort``."""
        return cohort.start(self._next_build_id())

    def status(self) -> list[ModelStatus]:
        """One entry a cohort, oldest first."""
        return [
            cohort.status()
            if cohort is self._active
            else msgspec.structs.replace(
                cohort.status(),
                state=ModelState.REFUSED,
                code=_INCOMPATIBLE,
                message=self._why_not(cohort),
            )
            for cohort in self._cohorts.values()
        ]

    def _refusals(self) -> list[Decision]:
        newcomers, self._newcomers = self._newcomers, {}
        return [
            Refuse(
                key=key,
                model=self._key.model,
                code=_INCOMPATIBLE,
                message=self._why_not(cohort),
            )
            for key in newcomers
            for cohort in self._cohorts.values()
            if cohort is not self._active and key in cohort.members
        ]

    def _why_not(self, cohort: Cohort) -> str:
        serving = self._active.mdcsum if self._active else "none"
        return (
            f"mdcsum {cohort.mdcsum} differs from {serving}, which was seen first and keeps "
            f"{self._key.model!r} at {self._key.endpoint_id} until its last instance is gone"
        )


def _succession(successor: Cohort | None) -> str:
    gone = "its last instance is gone"
    return f"{gone}; mdcsum {successor.mdcsum} takes over" if successor else gone
