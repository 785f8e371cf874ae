"""Room for what is about to be stored: on the disk, and within the store's own budget."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from muster.clock import Clock
from muster.content.disk import remove_entry, store_errors
from muster.content.inventory import Inventory, scan_store
from muster.content.prune import plan_prune
from muster.content.pruning import carry_out
from muster.content.quarantine import list_quarantine
from muster.errors import StoreError
from muster.log import facts

__all__ = ["make_room", "require_free_space"]

logger = logging.getLogger(__name__)


def require_free_space(root: Path, needed_bytes: int, *, min_free_bytes: int) -> None:
    """See that ``needed_bytes`` more leave ``min_free_bytes`` of the disk free.

    Raises:
        StoreError: They would not, or the disk cannot be looked at.
    """
    place = next(path for path in (root, *root.parents) if path.exists())
    with store_errors(f"cannot look at the disk of {root}"):
        status = os.statvfs(place)
    free_bytes = status.f_bavail * status.f_frsize
    if free_bytes - needed_bytes < min_free_bytes:
        raise StoreError(
            f"no room in {root}: {needed_bytes} bytes are needed, {free_bytes} are free and "
            f"{min_free_bytes} are to stay so",
            hint="free some space (muster cache prune), or set MUSTER_CACHE_DIR to a directory on "
            "another disk",
        )


def make_room(root: Path, needed_bytes: int, *, max_bytes: int, clock: Clock) -> None:
    """See that the store has at most ``max_bytes`` once ``needed_bytes`` more are in it.

    What went bad goes first, then blobs that nobody uses, those used longest ago first.

    Raises:
        StoreError: What is in use leaves no room, or the disk refuses.
    """
    if needed_bytes <= max_bytes:
        inventory = scan_store(root, now=clock.wall())
        if _excess(inventory, needed_bytes, max_bytes) <= 0:
            return
        for each in list_quarantine(root):
            with contextlib.suppress(OSError):
                remove_entry(each.path)
        inventory = scan_store(root, now=clock.wall())
        wanted_bytes = inventory.size_bytes - _excess(inventory, needed_bytes, max_bytes)
        plan = plan_prune(inventory, max_size_bytes=max(0, wanted_bytes), now=clock.wall())
        for done in carry_out(root, plan, clock=clock).removed:
            logger.info(
                "removed a blob nobody uses, to make room",
                extra=facts(blob=done.blob.digest, size_bytes=done.blob.size_bytes),
            )
        if _excess(scan_store(root, now=clock.wall()), needed_bytes, max_bytes) <= 0:
            return
    raise StoreError(
        f"no room in {root}: {needed_bytes} bytes are needed, the cache may have {max_bytes}, and "
        "all that is in it is in use or new",
        hint="MUSTER_CACHE_MAX_BYTES sets how much it may have",
    )


def _excess(inventory: Inventory, needed_bytes: int, max_bytes: int) -> int:
    """By how many bytes the store would be too large."""
    return inventory.size_bytes + inventory.spare_bytes + needed_bytes - max_bytes
