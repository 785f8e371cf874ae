"""What the catalog tells its shell to do."""

from __future__ import annotations

import msgspec

from muster.model.catalog.group import GroupKey, Member

__all__ = ["Build", "Decision", "Drop", "Members", "Refuse"]


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """Fetch and load a group's model; report with ``build_id``. Replaces a build of the group.

    ``members`` is never empty; the first is the one to ask first. ``attempt`` counts the failures
    in a row before this build.
    """

    build_id: int
    group: GroupKey
    mdcsum: str
    members: tuple[Member, ...]
    attempt: int


class Drop(msgspec.Struct, frozen=True, kw_only=True):
    """Stop serving a group, or call off its build."""

    group: GroupKey
    message: str


class Members(msgspec.Struct, frozen=True, kw_only=True):
    """The instances that may get a group's requests, from now on; in key order."""

    group: GroupKey
    instance_ids: tuple[int, ...]


class Refuse(msgspec.Struct, frozen=True, kw_only=True):
    """A record is not served; said once for each reason.

    ``model`` is empty if nobody knows it; ``group`` is ``None`` for a record that cannot be read.
    """

    group: GroupKey | None = None
    key: str
    model: str
    code: str
    message: str


Decision = Build | Drop | Members | Refuse
