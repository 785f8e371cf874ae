"""Who may serve a group: one cohort at a time, chosen by a policy.

By default that is Dynamo 1.6.1's rule: a newcomer with another card can neither replace a model nor
hide it, and when the last instance of the serving cohort is gone, the oldest of the others takes
over. Under another policy a challenger is built beside the one that serves, and takes its place when
it can. A cohort that has never served and cannot be built lets the next one try.

Members that leave and come between two decisions with the same card leave no trace: their cohort
keeps its place.

Invariant: after ``decide`` no cohort is empty, and every member is in exactly one.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from muster.model.catalog.cohort import Cohort
from muster.model.catalog.decision import Build, Decision, Drop, Refuse
from muster.model.catalog.group import GroupKey, Member
from muster.model.catalog.partition import carry_on, partition
from muster.model.catalog.policy import CohortPolicy, PolicyRule, choose_cohort
from muster.model.catalog.reason import Reason
from muster.model.catalog.status import ModelState, ModelStatus

__all__ = ["Admission"]

_YIELDS_AFTER = 2
"""Failures in a row after which a cohort that has never served lets the next one try."""


class Admission:
    """One group's cohorts. ``join`` and ``leave`` take note; ``decide`` draws the conclusions.

    Args:
        key: The group.
        next_build_id: Gives a number no other build has.
        policy: How the one that serves is chosen.
    """

    def __init__(
        self, key: GroupKey, next_build_id: Callable[[], int], policy: CohortPolicy
    ) -> None:
        self._key = key
        self._next_build_id = next_build_id
        self._policy = policy
        self._members: dict[str, Member] = {}
        self._cohorts: list[Cohort] = []
        self._active: Cohort | None = None
        self._challenger: Cohort | None = None
        self._refused: set[str] = set()

    @property
    def is_empty(self) -> bool:
        """Whether no cohort was left at the last ``decide``."""
        return not self._cohorts

    def join(self, member: Member) -> None:
        """A member came, or its record was written again.

        The same card again is nothing new, the same content at other addresses replaces them, and
        another card counts as gone and come anew: a watch may have merged the two.
        """
        known = self._members.get(member.key)
        if known is not None and known.mdcsum != member.mdcsum:
            self.leave(member.key)
        self._members[member.key] = member

    def leave(self, key: str) -> None:
        """A member is gone; unknown keys are ignored."""
        self._members.pop(key, None)
        self._refused.discard(key)

    def decide(self) -> list[Decision]:
        """What follows from everything since the last call."""
        before = dict(self._active.members) if self._active is not None else {}
        self._regroup()
        eligible = [each for each in self._cohorts if self._policy.may_serve(self._key.model, each)]
        chosen = choose_cohort(eligible, self._active, self._policy.rule)
        decisions: list[Decision] = []
        if self._active is not None and self._active not in eligible:
            decisions.append(Drop(group=self._key, message=_succession(chosen)))
            self._active = None
        elif self._active is not None and self._active.members != before:
            decisions += self._members_changed(self._active)
        decisions += self._give_turn(chosen)
        return decisions + self._refusals()

    def fetching(
        self, build_id: int, *, files_done: int, files_total: int, verifying: bool
    ) -> None:
        """Note how far a build is; a stale one is ignored."""
        cohort = self._running(build_id)
        if cohort is not None:
            cohort.state = ModelState.VERIFYING if verifying else ModelState.FETCHING
            cohort.files_done, cohort.files_total = files_done, files_total

    def loading(self, build_id: int) -> None:
        """Note that a build has its files; a stale one is ignored."""
        cohort = self._running(build_id)
        if cohort is not None:
            cohort.state = ModelState.LOADING

    def built(self, build_id: int) -> list[Decision]:
        """A build succeeded: its cohort serves. Nothing for a build that was called off."""
        cohort = self._running(build_id)
        if cohort is None:
            return []
        cohort.succeed()
        self._active, self._challenger = cohort, None
        self._refused -= cohort.members.keys()
        return [cohort.announce(), *self._refusals()]

    def failed(
        self, build_id: int, *, code: str, message: str, now: float, retry_max_s: float
    ) -> None:
        """A build failed; a stale one is ignored."""
        cohort = self._running(build_id)
        if cohort is not None:
            cohort.fail(code, message, now=now, retry_max_s=retry_max_s)

    def hurry(self, now: float) -> None:
        """Let a build that is waited for be due at ``now``."""
        for cohort in self._contenders():
            if cohort.retry_at is not None:
                cohort.retry_at = min(cohort.retry_at, now)

    def due(self, now: float) -> list[Decision]:
        """Builds whose pause is over, after a cohort that cannot be built has let the next one try."""
        decisions: list[Decision] = []
        for cohort in self._contenders():
            if cohort.retry_at is None or cohort.retry_at > now:
                continue
            successor = self._next_after(cohort) if cohort is self._active else None
            if successor is None:
                decisions.append(self._build(cohort))
                continue
            # It waits for its turn now, not for a time of its own.
            cohort.state = ModelState.SEEN
            self._active = successor
            self._refused -= successor.members.keys()
            if successor.retry_at is None or successor.retry_at <= now:
                decisions.append(self._build(successor))
            else:
                successor.state = ModelState.RETRYING
        return decisions + self._refusals()

    def next_retry_at(self) -> float | None:
        """When ``due`` next has something."""
        times = [each.retry_at for each in self._contenders() if each.retry_at is not None]
        return min(times, default=None)

    def status(self) -> list[ModelStatus]:
        """One entry a cohort, oldest first."""
        return [self._status_of(cohort) for cohort in self._cohorts]

    # ----------------------------------------------------------------------------------------

    def _regroup(self) -> None:
        classes = partition(self._members.values())
        before = [(cohort.name, self._staying(cohort)) for cohort in self._cohorts]
        # The one that serves is asked first: whatever else is split or merged, it goes on.
        order = sorted(range(len(before)), key=lambda at: self._cohorts[at] is not self._active)
        heirs = carry_on([before[at] for at in order], classes)
        going_on: dict[str, Cohort] = {}
        for at, name in zip(order, heirs, strict=True):
            if name is not None:
                going_on[name] = self._cohorts[at]
        cohorts = [cohort for cohort in self._cohorts if cohort in going_on.values()]
        for name, members in classes.items():
            cohort = going_on.get(name)
            if cohort is None:
                cohort = Cohort(self._key, name)
                cohorts.append(cohort)
            cohort.name, cohort.members = name, members
        self._cohorts = cohorts
        if self._challenger not in cohorts:
            self._challenger = None

    def _staying(self, cohort: Cohort) -> list[str]:
        """The keys of its members that are still there with the card they had."""
        return [
            key
            for key, member in cohort.members.items()
            if key in self._members and self._members[key].mdcsum == member.mdcsum
        ]

    def _members_changed(self, active: Cohort) -> list[Decision]:
        active.attempt = 0
        decisions: list[Decision] = [active.announce()]
        if active.state is ModelState.RETRYING:
            decisions.append(self._build(active))
        return decisions

    def _give_turn(self, chosen: Cohort | None) -> list[Decision]:
        """Start what is to serve, beside what does."""
        if chosen is None or chosen is self._active or chosen is self._challenger:
            if chosen is self._active and self._challenger is not None:
                self._called_off(self._challenger)
                self._challenger = None
            return []
        if self._challenger is not None:
            self._called_off(self._challenger)
        if self._active is not None and self._active.state is ModelState.SERVING:
            self._challenger = chosen
        else:
            if self._active is not None:
                self._called_off(self._active)
            self._active, self._challenger = chosen, None
        return [] if chosen.build_id is not None else [self._build(chosen)]

    def _called_off(self, cohort: Cohort) -> None:
        """Forget a build that is not wanted any more."""
        cohort.build_id = cohort.retry_at = None
        cohort.state = ModelState.SEEN

    def _build(self, cohort: Cohort) -> Build:
        return cohort.start(self._next_build_id())

    def _contenders(self) -> list[Cohort]:
        return [each for each in (self._active, self._challenger) if each is not None]

    def _running(self, build_id: int) -> Cohort | None:
        return next((each for each in self._contenders() if each.build_id == build_id), None)

    def _next_after(self, cohort: Cohort) -> Cohort | None:
        """Who tries instead of a cohort that has failed; ``None`` if it goes on itself."""
        if cohort.has_served or cohort.attempt < _YIELDS_AFTER:
            return None
        others = [each for each in self._cohorts if self._policy.may_serve(self._key.model, each)]
        at = others.index(cohort)
        ring = [*others[at + 1 :], *others[:at]]
        return next(iter(ring), None)

    def _status_of(self, cohort: Cohort) -> ModelStatus:
        status = cohort.status()
        if cohort in self._contenders() or cohort.state is ModelState.RETRYING:
            return status
        code, message = self._why_not(cohort)
        return msgspec.structs.replace(status, state=ModelState.REFUSED, code=code, message=message)

    def _refusals(self) -> list[Decision]:
        """What has not been said yet of members that are not served."""
        decisions: list[Decision] = []
        for cohort in self._cohorts:
            if cohort in self._contenders():
                self._refused -= cohort.members.keys()
                continue
            code, message = self._why_not(cohort)
            for key in cohort.members:
                if key not in self._refused:
                    self._refused.add(key)
                    decisions.append(
                        Refuse(
                            group=self._key,
                            key=key,
                            model=self._key.model,
                            code=code,
                            message=message,
                        )
                    )
        return decisions

    def _why_not(self, cohort: Cohort) -> tuple[Reason, str]:
        model, endpoint = self._key.model, self._key.endpoint_id
        mine = f"mdcsum {cohort.mdcsum}"
        if not self._policy.may_serve(model, cohort):
            pins = ", ".join(self._policy.pins[model])
            return Reason.NOT_PINNED, f"{mine} is not what {model!r} is pinned to ({pins})"
        theirs = self._active.mdcsum if self._active else "none"
        if self._policy.rule is PolicyRule.MAJORITY:
            why = f"which more replicas of {model!r} at {endpoint} have"
            return Reason.MINORITY, f"{mine} differs from {theirs}, {why}"
        why = f"which was seen first and keeps {model!r} at {endpoint} until its last instance is gone"
        return Reason.INCOMPATIBLE, f"{mine} differs from {theirs}, {why}"


def _succession(successor: Cohort | None) -> str:
    gone = "its last instance is gone"
    return f"{gone}; mdcsum {successor.mdcsum} takes over" if successor else gone
