"""Which models to serve, from which instances, and why the others are not: decisions, no I/O.

The catalog is told what the registry says and how builds went, with the time as a value, and
answers with what to do. Records fall into groups: one model at one endpoint with one set of
surfaces. Within a group all instances must carry the same card; ``Admission`` says which one serves.
A LoRA's record has a model name of its own and so a group of its own.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping

from muster.discovery.base import Change
from muster.discovery.records import ModelRecord
from muster.errors import MusterError
from muster.model.card import ModelDeploymentCard
from muster.model.catalog.admission import Admission
from muster.model.catalog.decision import Decision, Refuse
from muster.model.catalog.group import GroupKey, Member, name_in
from muster.model.catalog.policy import CohortPolicy
from muster.model.catalog.reason import Reason
from muster.model.catalog.status import ModelState, ModelStatus

__all__ = ["Catalog"]


@dataclasses.dataclass(frozen=True, slots=True)
class _Unreadable:
    """A record that is no card; what was good under its key before stays."""

    model: str
    code: str
    message: str


class Catalog:
    """All models of a registry as one frontend sees them. Pure; one thread.

    Args:
        retry_max_s: Longest pause between builds of a cohort.
        policy: How the card that serves a group is chosen.
        namespace: Look at this namespace only; ``None`` or empty means all.
        namespace_prefix: Look at namespaces that start so; wins over ``namespace``.
    """

    def __init__(
        self,
        *,
        retry_max_s: float,
        policy: CohortPolicy | None = None,
        namespace: str | None = None,
        namespace_prefix: str | None = None,
    ) -> None:
        self._retry_max_s = retry_max_s
        self._policy = policy or CohortPolicy()
        self._namespace = namespace or None
        self._namespace_prefix = namespace_prefix or None
        self._groups: dict[GroupKey, Admission] = {}
        self._group_of: dict[str, GroupKey] = {}
        self._unreadable: dict[str, _Unreadable] = {}
        self._next_build_id = itertools.count(1).__next__

    def apply(self, changes: Iterable[Change]) -> list[Decision]:
        """Take in changes of the model bucket and decide once, on their sum.

        A record that is written again with another card counts as gone and come anew. A record that
        cannot be read is refused, and what was good under its key before stays.
        """
        decisions: list[Decision] = []
        touched: dict[GroupKey, None] = {}
        for change in changes:
            if change.value is None:
                self._unreadable.pop(change.key, None)
                self._remove(change.key, touched)
            else:
                decisions += self._put(change.key, change.value, touched)
        for key in touched:
            decisions += self._groups[key].decide()
            if self._groups[key].is_empty:
                del self._groups[key]
        return decisions

    def sync(self, records: Mapping[str, bytes]) -> list[Decision]:
        """Take in a full listing: what is not in it is gone. Idempotent; heals a lossy watch.

        Records seen for the first time count as seen in key order.
        """
        known = {*self._group_of, *self._unreadable}
        gone = [Change(key, None) for key in sorted(known - records.keys())]
        return self.apply([*gone, *(Change(key, records[key]) for key in sorted(records))])

    def fetching(
        self, build_id: int, *, files_done: int, files_total: int, verifying: bool = False
    ) -> None:
        """Note that a build has ``files_done`` of ``files_total`` files; a stale build is ignored.

        Args:
            build_id: Which.
            files_done: Files that are settled.
            files_total: Files of the card.
            verifying: Whether all bytes are here and the last ones are being compared.
        """
        for group in self._groups.values():
            group.fetching(
                build_id, files_done=files_done, files_total=files_total, verifying=verifying
            )

    def loading(self, build_id: int) -> None:
        """Note that a build has its files and loads them; a stale build is ignored."""
        for group in self._groups.values():
            group.loading(build_id)

    def built(self, build_id: int) -> list[Decision]:
        """A build succeeded: its group is served by its members as they are now.

        Returns:
            ``Members`` first; nothing for a build that was dropped or replaced meanwhile: its result
            is not to be used.
        """
        return [each for group in self._groups.values() for each in group.built(build_id)]

    def failed(self, build_id: int, *, code: str, message: str, now: float) -> None:
        """A build failed; it is due again after a pause, or at once if members changed meanwhile.

        A stale build is ignored.

        Args:
            build_id: Which.
            code: The error's stable code.
            message: Why, for people; must hold no secrets.
            now: The time in seconds, on the clock that ``due`` is asked with.
        """
        for group in self._groups.values():
            group.failed(
                build_id, code=code, message=message, now=now, retry_max_s=self._retry_max_s
            )

    def hurry(self, group: GroupKey, now: float) -> None:
        """What a group's next build waited for has come: it is due at ``now``."""
        if group in self._groups:
            self._groups[group].hurry(now)

    def due(self, now: float) -> list[Decision]:
        """Builds whose pause is over at ``now``."""
        return [each for group in self._groups.values() for each in group.due(now)]

    def next_retry_at(self) -> float | None:
        """When ``due`` next has something; ``None`` if nothing waits."""
        times = [group.next_retry_at() for group in self._groups.values()]
        return min((time for time in times if time is not None), default=None)

    def status_of(self, group: GroupKey) -> list[ModelStatus]:
        """The entries of one group; none if it is gone."""
        found = self._groups.get(group)
        return found.status() if found is not None else []

    def status(self) -> list[ModelStatus]:
        """One entry a cohort and one an unreadable record, by model name, then group, then age."""
        entries = [entry for group in self._groups.values() for entry in group.status()]
        entries += [
            ModelStatus(
                model=bad.model,
                state=ModelState.REFUSED,
                code=bad.code,
                message=bad.message,
                keys=(key,),
            )
            for key, bad in self._unreadable.items()
        ]
        return sorted(entries, key=lambda entry: (entry.model, str(entry.group or "")))

    def _put(self, key: str, value: bytes, touched: dict[GroupKey, None]) -> list[Decision]:
        model = ""
        try:
            record = ModelRecord.from_json(value)
            if not self._wanted(record.namespace):
                self._unreadable.pop(key, None)
                self._remove(key, touched)
                return []
            model = name_in(record)
            card = ModelDeploymentCard.from_json_str(bytes(record.card_json))
            member = Member.of(key, record, card)
        except MusterError as error:
            return self._refuse(key, _Unreadable(model, error.code, error.message))
        except Exception as error:  # noqa: BLE001 - anybody's record must not end the catalog
            text = f"reading it broke: {type(error).__name__}: {error}"
            return self._refuse(key, _Unreadable(model, Reason.INTERNAL, text))
        self._unreadable.pop(key, None)
        self._join(GroupKey.of(record, card), member, touched)
        return []

    def _refuse(self, key: str, bad: _Unreadable) -> list[Decision]:
        if not self._wanted(key.partition("/")[0]) or self._unreadable.get(key) == bad:
            return []
        self._unreadable[key] = bad
        return [Refuse(key=key, model=bad.model, code=bad.code, message=bad.message)]

    def _wanted(self, namespace: str) -> bool:
        if self._namespace_prefix:
            return namespace.startswith(self._namespace_prefix)
        return self._namespace is None or namespace == self._namespace

    def _join(self, key: GroupKey, member: Member, touched: dict[GroupKey, None]) -> None:
        if self._group_of.get(member.key, key) != key:
            self._remove(member.key, touched)
        self._group_of[member.key] = key
        if key not in self._groups:
            self._groups[key] = Admission(key, self._next_build_id, self._policy)
        self._groups[key].join(member)
        touched[key] = None

    def _remove(self, key: str, touched: dict[GroupKey, None]) -> None:
        group_key = self._group_of.pop(key, None)
        if group_key is not None:
            self._groups[group_key].leave(key)
            touched[group_key] = None
