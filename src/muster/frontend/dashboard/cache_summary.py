"""What is in the cache, by model: pure, from the store's inventory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from muster.content.inventory import Inventory, StoredBlob
from muster.frontend.dashboard.view import CacheEntry, CacheView

__all__ = ["summarise_cache"]

_MOST = 100


def summarise_cache(inventory: Inventory, max_bytes: int | None) -> CacheView:
    """The cache's contents by view, the last used first, and the blobs that no view links."""
    blobs = {blob.digest: blob for blob in inventory.blobs}
    entries = [
        _entry(view.name, [blobs[digest] for digest in {*view.links.values()} if digest in blobs])
        for view in inventory.views
    ]
    loose = [blob for blob in inventory.blobs if not blob.views]
    if loose:
        entries.append(_entry("", loose))
    entries.sort(key=lambda entry: (-entry.used, entry.name))
    return CacheView(
        path=str(inventory.root),
        files=len(inventory.blobs),
        size_bytes=inventory.size_bytes,
        spare_bytes=inventory.spare_bytes,
        max_bytes=max_bytes,
        entries=tuple(entries[:_MOST]),
    )


def _entry(name: str, blobs: Sequence[StoredBlob]) -> CacheEntry:
    users: Iterable[str] = {user for blob in blobs for user in blob.users}
    return CacheEntry(
        name=name,
        files=len(blobs),
        size_bytes=sum(blob.size_bytes for blob in blobs),
        users=tuple(sorted(users)),
        used=round(max((blob.used_s for blob in blobs), default=0.0)),
        problem=next((blob.problem for blob in blobs if blob.problem), ""),
    )
