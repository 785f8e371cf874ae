"""What is in a store: its blobs, who uses them, and the views that give them names.

Only the names, sizes and times of files are looked at. Whether a blob's bytes are right is known
after ``BlobStore.verify``.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from muster.content.disk import store_errors
from muster.content.lease import read_leases
from muster.content.quarantine import list_quarantine
from muster.digest import Digest

__all__ = ["Inventory", "StoredBlob", "StoredView", "scan_store"]

_HEX = re.compile(r"[0-9a-f]{64}")


class StoredBlob(msgspec.Struct, frozen=True, kw_only=True):
    """A file under a blob's name.

    Attributes:
        digest: The name.
        size_bytes: Its size.
        stored_s: When it was stored, in seconds since the epoch.
        used_s: When it was last used, as far as the file system knows; not before ``stored_s``.
        problem: Why it cannot be a blob, whatever its bytes; mostly empty.
        users: Live processes that use it, as ``<pid>@<host>``.
        views: Views that link it, as ``<slug>/<mdcsum>``.
    """

    digest: Digest
    size_bytes: int
    stored_s: float
    used_s: float
    problem: str = ""
    users: tuple[str, ...] = ()
    views: tuple[str, ...] = ()


class StoredView(msgspec.Struct, frozen=True, kw_only=True):
    """A view.

    Attributes:
        name: ``<slug>/<mdcsum>``, or ``<mdcsum>`` for an empty slug.
        path: Its directory.
        changed_s: When an entry was last added or removed, in seconds since the epoch.
        links: The blob behind each name; entries that link no blob of this store are left out.
    """

    name: str
    path: Path
    changed_s: float
    links: Mapping[str, Digest]


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """All of a store at about one moment.

    Attributes:
        root: The store's root.
        blobs: By digest.
        views: By name.
        spare_bytes: What unfinished and bad blobs take.
    """

    root: Path
    blobs: tuple[StoredBlob, ...]
    views: tuple[StoredView, ...]
    spare_bytes: int

    @property
    def size_bytes(self) -> int:
        """What all blobs take."""
        return sum(blob.size_bytes for blob in self.blobs)


def scan_store(root: Path, *, now: float) -> Inventory:
    """List what is under ``root``, which need not exist.

    Args:
        root: The store's root.
        now: The wall clock's time, in seconds since the epoch.

    Raises:
        StoreError: It cannot be read.
    """
    with store_errors(f"cannot read the cache {root}"):
        leases = [lease for lease in read_leases(root, now=now) if lease.is_held]
        views = sorted(_views(root), key=lambda view: view.name)
        linked: dict[Digest, list[str]] = {}
        for view in views:
            for digest in set(view.links.values()):
                linked.setdefault(digest, []).append(view.name)
        blobs = []
        spare_bytes = sum(each.size_bytes for each in list_quarantine(root))
        for name, status in _entries(root / "blobs"):
            if not _HEX.fullmatch(name):
                spare_bytes += status.st_size
                continue
            digest = Digest(name)
            blobs.append(
                StoredBlob(
                    digest=digest,
                    size_bytes=status.st_size,
                    stored_s=status.st_mtime,
                    used_s=max(status.st_mtime, status.st_atime),
                    problem="" if stat.S_ISREG(status.st_mode) else "it is not a regular file",
                    users=tuple(lease.user for lease in leases if lease.covers(digest)),
                    views=tuple(linked.get(digest, ())),
                )
            )
    blobs.sort(key=lambda blob: blob.digest)
    return Inventory(root=root, blobs=tuple(blobs), views=tuple(views), spare_bytes=spare_bytes)


def _views(root: Path) -> Iterator[StoredView]:
    for name, status in _directories(root / "by-slug"):
        path = root / "by-slug" / name
        inner = list(_directories(path))
        if _HEX.fullmatch(name) and not inner:  # a card with an empty slug
            yield _view(root, path, name, status)
        for mdcsum, inner_status in inner:
            if _HEX.fullmatch(mdcsum):
                yield _view(root, path / mdcsum, f"{name}/{mdcsum}", inner_status)


def _directories(directory: Path) -> Iterator[tuple[str, os.stat_result]]:
    return ((name, status) for name, status in _entries(directory) if stat.S_ISDIR(status.st_mode))


def _view(root: Path, path: Path, name: str, status: os.stat_result) -> StoredView:
    links = {}
    for entry, _ in _entries(path):
        with contextlib.suppress(OSError):
            target = (path / entry).readlink()
            if target.parent == root / "blobs" and _HEX.fullmatch(target.name):
                links[entry] = Digest(target.name)
    return StoredView(name=name, path=path, changed_s=status.st_mtime, links=links)


def _entries(directory: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Entries that are still there when they are looked at; none of a missing directory or a link."""
    if directory.is_symlink():
        return
    try:
        entries = list(os.scandir(directory))
    except FileNotFoundError:
        return
    for entry in entries:
        with contextlib.suppress(FileNotFoundError):
            yield entry.name, entry.stat(follow_symlinks=False)
