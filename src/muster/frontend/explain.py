"""Everything a frontend knows of its models, as one report: pure, from the states of the moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from muster.discovery.records import Instance
from muster.frontend.report import FileReport, ModelReport, ReplicaReport
from muster.model.catalog.group import Member
from muster.model.catalog.status import ModelState, ModelStatus

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
    instances: Iterable[Instance],
) -> tuple[ModelReport, ...]:
    """One entry a group and one a record that cannot be read, in the order of ``statuses``.

    Args:
        statuses: The catalog's: one a cohort, those of a group together.
        now: The time on the catalog's clock.
        since: When a status began, in seconds since the epoch.
        files: The files of a status's card.
        instances: All that are known.
    """
    addresses = {each.key: each.transport.address.partition("/")[0] for each in instances}
    groups: dict[object, list[ModelStatus]] = {}
    for status in statuses:
        groups.setdefault(status.group or status.keys, []).append(status)
    return tuple(_model(cohorts, now, since, files, addresses) for cohorts in groups.values())


def _model(
    cohorts: Sequence[ModelStatus],
    now: float,
    since: Callable[[ModelStatus], float],
    files: Callable[[ModelStatus], tuple[FileReport, ...]],
    addresses: Mapping[str, str],
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
        replicas=tuple(each for status in cohorts for each in _replicas(status, addresses)),
        aliases=card.aliases if card is not None else (),
        lora=card.lora.name if card is not None and card.lora is not None else "",
    )


def _replicas(status: ModelStatus, addresses: Mapping[str, str]) -> list[ReplicaReport]:
    members = {member.key: member for member in status.members}
    return [_replica(key, members.get(key), status, addresses) for key in status.keys]


def _replica(
    key: str, member: Member | None, status: ModelStatus, addresses: Mapping[str, str]
) -> ReplicaReport:
    base = "/".join(key.split("/")[:4])  # a LoRA's key has its slug after the instance's
    return ReplicaReport(
        key=key,
        instance=f"{member.instance_id:x}" if member is not None else "",
        address=addresses.get(base, ""),
        mdcsum=member.mdcsum if member is not None else "",
        identity=str(member.identity) if member is not None and member.identity else "",
        state=status.state,
        code=status.code,
        message=status.message,
    )
