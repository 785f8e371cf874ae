"""Which instances of a served model's endpoint get none of its requests, and why: pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from muster.discovery.records import Instance
from muster.frontend.report import ExclusionReport
from muster.model.catalog.status import ModelStatus

__all__ = ["excluded"]

_NO_CARD = "it has registered no model"
_NO_INSTANCE = "its instance is not in the registry"


def excluded(
    cohorts: Sequence[ModelStatus],
    instances: Iterable[Instance],
    with_card: Collection[int],
    reasons: Mapping[int, str],
) -> tuple[ExclusionReport, ...]:
    """The instances that get no requests for a model at its endpoint now, by id.

    An instance that serves another model only is none of them. Of a model that is not served at all
    none is named: its state says why.

    Args:
        cohorts: The states of the model's cards at the endpoint.
        instances: All instances of the endpoint that are known.
        with_card: Ids of those that have registered any model there.
        reasons: Why instances that are known get no requests, by id, as its client has it.
    """
    served = {key for status in cohorts if status.is_served for key in status.instance_ids}
    if not any(status.is_served for status in cohorts):
        return ()
    known = {instance.instance_id: instance for instance in instances}
    found: dict[int, str] = {}
    for status in cohorts:
        if not status.is_served:
            why = f"its card is {status.state}" + (f" ({status.code})" if status.code else "")
            why += f": {status.message}" if status.message else ""
            found |= {key: why for key in status.instance_ids if key not in served}
    found |= {key: reasons[key] for key in served & known.keys() if key in reasons}
    found |= dict.fromkeys(served - known.keys(), _NO_INSTANCE)
    found |= dict.fromkeys(known.keys() - served - found.keys() - set(with_card), _NO_CARD)
    return tuple(_report(key, known.get(key), found[key]) for key in sorted(found))


def _report(instance_id: int, instance: Instance | None, reason: str) -> ExclusionReport:
    transport = instance.transport if instance is not None else None
    return ExclusionReport(
        instance=f"{instance_id:x}",
        transport=transport.kind if transport is not None else "",
        address=transport.address.partition("/")[0] if transport is not None else "",
        reason=reason,
    )
