"""Carrying a prune plan out, against everything that may have changed since it was made."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from muster.clock import Clock
from muster.content.directory import check_directory
from muster.content.disk import put_back, remove_entry, store_errors
from muster.content.inventory import StoredView, scan_store
from muster.content.lease import read_leases
from muster.content.prune import GRACE_S, Judged, PrunePlan, PruneReason
from muster.content.staging import LIVE_NAMES, temporary_name
from muster.digest import Digest

__all__ = ["Pruned", "carry_out"]


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """What pruning did.

    Attributes:
        judged: Every blob of the plan, and what did become of it. One that was used meanwhile
            stayed; one that somebody else removed is left out.
        views: Names of the views removed with their blobs.
    """

    judged: tuple[Judged, ...]
    views: tuple[str, ...]

    @property
    def removed(self) -> tuple[Judged, ...]:
        """The blobs that went."""
        return tuple(each for each in self.judged if each.remove)

    @property
    def kept(self) -> tuple[Judged, ...]:
        """The blobs that stayed."""
        return tuple(each for each in self.judged if not each.remove)

    @property
    def freed_bytes(self) -> int:
        """What went took."""
        return sum(each.blob.size_bytes for each in self.removed)


def carry_out(root: Path, plan: PrunePlan, *, clock: Clock) -> Pruned:
    """Remove what ``plan`` says and nobody uses by now, then views that lead nowhere.

    Raises:
        StoreError: The disk refuses; what was removed before stays removed.
    """
    judged: list[Judged] = []
    if not check_directory(root, root / "blobs"):
        return Pruned(judged=(), views=())
    for each in plan.judged:
        if not each.remove:
            judged.append(each)
            continue
        with store_errors(f"cannot remove {each.blob.digest}"):
            done = _remove(root, each, clock)
        if done is not None:
            judged.append(done)
    return Pruned(judged=tuple(judged), views=tuple(_remove_views(root, clock)))


def _remove(root: Path, judged: Judged, clock: Clock) -> Judged | None:
    """Remove a blob, or say why not; ``None`` if it was gone already."""
    blob = judged.blob
    path = root / "blobs" / blob.digest.hex
    in_use, recent = (
        Judged(blob, False, reason) for reason in (PruneReason.IN_USE, PruneReason.RECENT)
    )
    if _is_leased(root, [blob.digest], clock):
        return in_use
    aside = path.with_name(temporary_name(path.name))
    LIVE_NAMES.add(aside.name)
    try:
        if _used_s(path) > blob.used_s:
            return recent
        path.rename(aside)
        # Who takes a lease and then finds the blob has done so before it was moved. So the lease is
        # seen now, if it was not above: no blob that somebody found under a lease is lost.
        try:
            kept = (
                in_use
                if _is_leased(root, [blob.digest], clock)
                else recent
                if _used_s(aside) > blob.used_s
                else None
            )
        except BaseException:  # nobody knows who uses it, or the user gave up
            put_back(aside, path)
            raise
        if kept is not None:
            put_back(aside, path)
            return kept
        remove_entry(aside)
    except FileNotFoundError:
        return None
    finally:
        LIVE_NAMES.discard(aside.name)
    return judged


def _used_s(path: Path) -> float:
    status = path.lstat()
    return max(status.st_mtime, status.st_atime)


def _remove_views(root: Path, clock: Clock) -> list[str]:
    """Remove views with a link to a blob that is gone: a fetch makes them again, whole."""
    removed = []
    for view in scan_store(root, now=clock.wall()).views:
        with store_errors(f"cannot remove the view {view.path}"):
            if _leads_nowhere(root, view) and not _is_busy(root, view, clock):
                _remove_view(view.path)
                removed.append(view.name)
    return removed


def _leads_nowhere(root: Path, view: StoredView) -> bool:
    return not all(os.path.lexists(root / "blobs" / digest.hex) for digest in view.links.values())


def _is_busy(root: Path, view: StoredView, clock: Clock) -> bool:
    is_new = abs(clock.wall() - view.changed_s) < GRACE_S
    return is_new or _is_leased(root, view.links.values(), clock)


def _is_leased(root: Path, digests: Iterable[Digest], clock: Clock) -> bool:
    leases = read_leases(root, now=clock.wall())
    return any(lease.covers(digest) for lease in leases for digest in digests)


def _remove_view(path: Path) -> None:
    aside = path.with_name(temporary_name(f".{path.name}"))
    LIVE_NAMES.add(aside.name)
    try:
        path.rename(aside)
        remove_entry(aside)
    except FileNotFoundError:
        return  # somebody else did
    finally:
        LIVE_NAMES.discard(aside.name)
    with contextlib.suppress(OSError):  # it has other views
        path.parent.rmdir()
