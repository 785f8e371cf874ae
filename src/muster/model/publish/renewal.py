"""What may take the place of a registration; pure.

Dynamo 1.6.1's frontends ignore a card that changes in place unless it stays in its group and keeps
its digest, and so do ours: such a change would be published and not take effect.
"""

from __future__ import annotations

import enum

from muster.discovery.records import ModelRecord
from muster.errors import ConflictError
from muster.model.card import ModelDeploymentCard
from muster.model.catalog.group import GroupKey
from muster.model.extension import CardExtension

__all__ = ["Renewal", "decide_renewal"]


class Renewal(enum.Enum):
    """What to do about a registration of what is registered already."""

    NOTHING = enum.auto()
    SWITCH = enum.auto()


def decide_renewal(
    old: ModelDeploymentCard, new: ModelDeploymentCard, record: ModelRecord
) -> Renewal:
    """Whether ``new`` may replace ``old`` under its key, and whether there is anything to do.

    Args:
        old: The card as published.
        new: The card to be published.
        record: The record of either; only the endpoint is looked at.

    Raises:
        ConflictError: It may not: name, group, digest or identity would change.
    """
    if old.to_json_str() == new.to_json_str():
        return Renewal.NOTHING
    for what, before, after in (
        ("name", old.display_name, new.display_name),
        ("group", GroupKey.of(record, old).worker_set, GroupKey.of(record, new).worker_set),
        ("mdcsum", old.mdcsum(), new.mdcsum()),
        ("identity", _identity(old), _identity(new)),
    ):
        if before != after:
            raise ConflictError(
                f"{old.display_name!r} is registered already with another card "
                f"({what} {before}, now {after})",
                hint="unregister it first; frontends ignore such a change in place",
            )
    return Renewal.SWITCH


def _identity(card: ModelDeploymentCard) -> str:
    return str(CardExtension.read(card.muster).identity)
