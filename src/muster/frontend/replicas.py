"""Who a card's files may be fetched from: the members of a build, and where their instances are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from muster.discovery.records import Instance
from muster.model.catalog.group import Member
from muster.model.fetch.replica import Replica

__all__ = ["instance_host", "replicas_of"]


def replicas_of(
    members: Sequence[Member], instances: Iterable[Instance], healthy: Collection[int]
) -> list[Replica]:
    """The members as places to fetch from, in their order.

    Args:
        members: Of the build.
        instances: Instances of the group's endpoint, as far as they are known.
        healthy: Ids of those that may get requests now. An instance nobody knows counts as healthy.
    """
    known = {instance.instance_id: instance for instance in instances}
    return [
        Replica(
            card=member.card,
            key=member.key,
            host=instance_host(known[member.instance_id]) if member.instance_id in known else None,
            healthy=member.instance_id in healthy or member.instance_id not in known,
        )
        for member in members
    ]


def instance_host(instance: Instance) -> str | None:
    """The host in an instance's address, or, if its transport has none (NATS), in its record.

    ``None`` if neither says it.
    """
    if instance.transport.kind not in ("tcp", "http"):
        return instance.host
    authority = instance.transport.address.rpartition("://")[2].partition("/")[0]
    if authority.startswith("["):
        return authority[1:].partition("]")[0] or None
    host, colon, _ = authority.rpartition(":")
    return (host if colon else authority) or None
