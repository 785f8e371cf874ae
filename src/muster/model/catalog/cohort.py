"""The instances of a group that can serve together, and how the build from their card stands."""

from __future__ import annotations

import dataclasses

from muster.model.catalog.decision import Build, Members
from muster.model.catalog.group import GroupKey, Member
from muster.model.catalog.status import ModelState, ModelStatus

__all__ = ["Cohort", "retry_delay_s"]


def retry_delay_s(attempt: int, max_s: float) -> float:
    """Pause after the ``attempt``-th failure in a row (from 1): 1, 2, 4, 8, 16 s, then ``max_s``."""
    return min(float(2 ** min(attempt - 1, 30)), max_s)


@dataclasses.dataclass(slots=True, eq=False)
class Cohort:
    """State of one card, or of cards with the same files and terms, within one group.

    Never empty while a group holds it. ``name`` is what its members have in common. ``build_id`` is
    set while a build runs; ``retry_at`` while one is waited for. ``has_served`` tells a cohort that
    once worked from one that never did.
    """

    group: GroupKey
    name: str
    members: dict[str, Member] = dataclasses.field(default_factory=dict)
    state: ModelState = ModelState.SEEN
    build_id: int | None = None
    retry_at: float | None = None
    attempt: int = 0
    code: str = ""
    message: str = ""
    files_done: int = 0
    files_total: int = 0
    has_served: bool = False
    _built_from: dict[str, Member] = dataclasses.field(default_factory=dict)

    @property
    def mdcsum(self) -> str:
        """The digest of the card it is built from, or would be."""
        built = next(iter(self._built_from.values()), None)
        member = built or next(iter(self.members.values()))
        return member.mdcsum

    @property
    def identity(self) -> str:
        """The identity of its files, if all its members say one; else empty."""
        said = {member.identity for member in self.members.values()}
        return str(next(iter(said))) if len(said) == 1 and None not in said else ""

    def digests(self) -> set[str]:
        """Every digest it may be pinned by: hexadecimal digits."""
        found = {member.mdcsum for member in self.members.values()}
        return found | {
            member.identity.hex for member in self.members.values() if member.identity is not None
        }

    def in_key_order(self) -> list[Member]:
        """The members, by key."""
        return [self.members[key] for key in sorted(self.members)]

    def instance_ids(self) -> tuple[int, ...]:
        """The members' instances, by key."""
        return tuple(dict.fromkeys(member.instance_id for member in self.in_key_order()))

    def announce(self) -> Members:
        """Say who the members are."""
        return Members(group=self.group, instance_ids=self.instance_ids())

    def start(self, build_id: int) -> Build:
        """Begin a build. After each failure in a row another member comes first."""
        self.build_id, self.retry_at, self.state = build_id, None, ModelState.SEEN
        self.files_done = self.files_total = 0
        members = self.in_key_order()
        first = self.attempt % len(members)
        members = [*members[first:], *members[:first]]
        self._built_from = {member.key: member for member in members}
        return Build(
            build_id=build_id,
            group=self.group,
            mdcsum=members[0].mdcsum,
            members=tuple(members),
            attempt=self.attempt,
        )

    def succeed(self) -> None:
        """The build is done; the model is served."""
        self.build_id, self.state, self.has_served = None, ModelState.SERVING, True
        self.attempt, self.code, self.message = 0, "", ""

    def fail(self, code: str, message: str, *, now: float, retry_max_s: float) -> None:
        """The build failed; set when to try again: at once if the members changed while it ran."""
        self.build_id, self.state = None, ModelState.RETRYING
        self.code, self.message = code, message
        if self._built_from != self.members:
            self.attempt, self.retry_at = 0, now
        else:
            self.attempt += 1
            self.retry_at = now + retry_delay_s(self.attempt, retry_max_s)

    def status(self) -> ModelStatus:
        """How it stands, if it is the one that serves its group."""
        return ModelStatus(
            model=self.group.model,
            group=self.group,
            mdcsum=self.mdcsum,
            identity=self.identity,
            state=self.state,
            code=self.code,
            message=self.message,
            keys=tuple(sorted(self.members)),
            members=tuple(self.in_key_order()),
            instance_ids=self.instance_ids(),
            files_done=self.files_done,
            files_total=self.files_total,
            attempt=self.attempt,
            retry_at=self.retry_at,
        )
