"""Which blobs may go: a decision over an inventory, without touching a disk."""

from __future__ import annotations

import enum

import msgspec

from muster.content.inventory import Inventory, StoredBlob

__all__ = ["GRACE_S", "Judged", "PrunePlan", "PruneReason", "plan_prune"]

GRACE_S = 60.0
"""A blob used this short a time ago is left alone: who has just stored it may be about to say so."""


class PruneReason(enum.StrEnum):
    """Why a blob goes or stays."""

    OLD = "old"
    """Goes: nobody has used it for longer than asked for."""
    OVER_SIZE = "over_size"
    """Goes: the store is larger than asked for, and others were used later."""
    IN_USE = "in_use"
    """Stays: a live process uses it."""
    RECENT = "recent"
    """Stays: it was stored or used within the last minute."""
    WITHIN_LIMITS = "within_limits"
    """Stays: no limit asks for its removal."""


class Judged(msgspec.Struct, frozen=True):
    """A blob, and what is to become of it."""

    blob: StoredBlob
    remove: bool
    reason: PruneReason


class PrunePlan(msgspec.Struct, frozen=True):
    """What is to become of every blob: those used longest ago first."""

    judged: tuple[Judged, ...]

    @property
    def removed(self) -> tuple[Judged, ...]:
        """Those that go."""
        return tuple(each for each in self.judged if each.remove)

    @property
    def kept(self) -> tuple[Judged, ...]:
        """Those that stay."""
        return tuple(each for each in self.judged if not each.remove)

    @property
    def freed_bytes(self) -> int:
        """What goes takes."""
        return sum(each.blob.size_bytes for each in self.removed)


def plan_prune(
    inventory: Inventory,
    *,
    older_than_s: float | None = None,
    max_size_bytes: int | None = None,
    now: float,
    grace_s: float = GRACE_S,
) -> PrunePlan:
    """Choose what goes: what is too old, then, the longest unused first, what is too much.

    What a live process uses and what was used within ``grace_s`` stays, whatever the limits say.

    Args:
        inventory: The store.
        older_than_s: Age since the last use from which a blob goes, in seconds; ``None`` for none.
        max_size_bytes: What all blobs may take together; ``None`` for no limit.
        now: The wall clock's time, in seconds since the epoch.
        grace_s: See above, in seconds.
    """
    size_bytes = inventory.size_bytes
    judged = []
    for blob in sorted(inventory.blobs, key=lambda blob: (blob.used_s, blob.digest)):
        over_size = max_size_bytes is not None and size_bytes > max_size_bytes
        age_s = abs(now - blob.used_s)  # a clock may have been set back
        reason = _judge(blob, age_s, older_than_s, grace_s, over_size=over_size)
        remove = reason in (PruneReason.OLD, PruneReason.OVER_SIZE)
        if remove:
            size_bytes -= blob.size_bytes
        judged.append(Judged(blob, remove, reason))
    return PrunePlan(tuple(judged))


def _judge(
    blob: StoredBlob, age_s: float, older_than_s: float | None, grace_s: float, *, over_size: bool
) -> PruneReason:
    if blob.users:
        return PruneReason.IN_USE
    if age_s < grace_s:
        return PruneReason.RECENT
    if older_than_s is not None and age_s >= older_than_s:
        return PruneReason.OLD
    return PruneReason.OVER_SIZE if over_size else PruneReason.WITHIN_LIMITS
