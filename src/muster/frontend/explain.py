"""Everything a frontend knows of its models, as one report: pure, from the states of the moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from muster.discovery.records import Instance
from muster.frontend.card_notes import card_notes
from muster.frontend.exclusions import excluded
from muster.frontend.report import FileReport, ModelReport, ReplicaReport
from muster.model.catalog.group import GroupKey, Member
from muster.model.catalog.status import ModelState, ModelStatus
from muster.names import EndpointId

__all__ = ["explain"]

_BEST_FIRST = (
    ModelState.SERVING,
    ModelState.LOADING,
    ModelState.VERIFYING,
    ModelState.FETCHING,
    ModelState.SEEN,
    ModelState.RETRYING,
    ModelState.REFUSED,
)


def explain(
    statuses: Sequence[ModelStatus],
    *,
    now: float,
    since: Callable[[ModelStatus], float],
    files: Callable[[ModelStatus], tuple[FileReport, ...]],
    instances: Sequence[Instance],
    exclusions: Callable[[GroupKey], Mapping[int, str]],
) -> tuple[ModelReport, ...]:
    """One entry a group and one a record that cannot be read, in the order of ``statuses``.

    Args:
        statuses: The catalog's: one a cohort, those of a group together.
        now: The time on the catalog's clock.
        since: When a status began, in seconds since the epoch.
        files: The files of a status's card.
        instances: All that are known.
        exclusions: Why instances of a group get no requests, by id.
    """
    known = {each.key: each for each in instances}
    at = _by_endpoint(instances)
    with_card: dict[EndpointId, set[int]] = {}
    for status in statuses:
        if status.group is not None:
            with_card.setdefault(status.group.endpoint_id, set()).update(status.instance_ids)
    groups: dict[object, list[ModelStatus]] = {}
    for status in statuses:
        groups.setdefault(status.group or status.keys, []).append(status)
    found = []
    for group, cohorts in groups.items():
        model = _model(cohorts, now, since, files, known)
        if isinstance(group, GroupKey):
            endpoint = group.endpoint_id
            left_out = excluded(
                cohorts, at.get(endpoint, ()), with_card[endpoint], exclusions(group)
            )
            model = msgspec.structs.replace(model, excluded=left_out)
        found.append(model)
    return tuple(found)


def _by_endpoint(instances: Iterable[Instance]) -> dict[EndpointId, list[Instance]]:
    found: dict[EndpointId, list[Instance]] = {}
    for instance in instances:
        found.setdefault(instance.endpoint_id, []).append(instance)
    return found


def _model(
    cohorts: Sequence[ModelStatus],
    now: float,
    since: Callable[[ModelStatus], float],
    files: Callable[[ModelStatus], tuple[FileReport, ...]],
    instances: Mapping[str, Instance],
) -> ModelReport:
    head = min(cohorts, key=lambda status: _BEST_FIRST.index(status.state))
    card = head.members[0].card if head.members else None
    return ModelReport(
        model=head.model,
        state=head.state,
        code=head.code,
        message=head.message,
        endpoint=str(head.group.endpoint_id) if head.group is not None else "",
        worker_set=head.group.worker_set if head.group is not None else "",
        mdcsum=head.mdcsum or "",
        identity=head.identity,
        attempt=head.attempt,
        retry_in_s=None if head.retry_at is None else round(max(0.0, head.retry_at - now), 3),
        since=since(head),
        files=files(head),
        replicas=tuple(each for status in cohorts for each in _replicas(status, instances)),
        aliases=card.aliases if card is not None else (),
        lora=card.lora.name if card is not None and card.lora is not None else "",
        notes=card_notes(card.runtime_config) if card is not None else (),
    )


def _replicas(status: ModelStatus, instances: Mapping[str, Instance]) -> list[ReplicaReport]:
    members = {member.key: member for member in status.members}
    return [_replica(key, members.get(key), status, instances) for key in status.keys]


def _replica(
    key: str, member: Member | None, status: ModelStatus, instances: Mapping[str, Instance]
) -> ReplicaReport:
    base = "/".join(key.split("/")[:4])  # a LoRA's key has its slug after the instance's
    instance = instances.get(base)
    transport = instance.transport if instance is not None else None
    return ReplicaReport(
        key=key,
        instance=f"{member.instance_id:x}" if member is not None else "",
        address=transport.address.partition("/")[0] if transport is not None else "",
        transport=transport.kind if transport is not None else "",
        mdcsum=member.mdcsum if member is not None else "",
        identity=str(member.identity) if member is not None and member.identity else "",
        state=status.state,
        code=status.code,
        message=status.message,
    )
