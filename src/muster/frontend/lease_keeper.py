"""Keeps the cache from losing what this frontend uses: one lease for all its models' files."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable

from muster.content.lease import Lease
from muster.content.offload import run_to_end
from muster.content.store import BlobStore
from muster.digest import Digest

__all__ = ["LeaseKeeper"]

_BEAT_S = 30.0


class LeaseKeeper:
    """The lease of one process. A cache that cannot be written to needs none: nothing prunes it.

    Args:
        store: Whose blobs; ``None`` keeps no lease.
    """

    def __init__(self, store: BlobStore | None) -> None:
        self._store = store
        self._lease: Lease | None = None
        self._used: dict[Hashable, frozenset[Digest]] = {}
        self._lock = asyncio.Lock()

    async def use(self, name: Hashable, digests: Iterable[Digest]) -> None:
        """From when this returns, ``digests`` are kept on behalf of ``name``."""
        self._used[name] = frozenset(digests)
        await self._write()

    def forget(self, name: Hashable) -> None:
        """What was kept on behalf of ``name`` is let go at the next beat."""
        self._used.pop(name, None)

    async def run(self) -> None:
        """Keep the lease alive until cancelled, then release it."""
        try:
            while True:
                await asyncio.sleep(_BEAT_S)
                await self._write()
        finally:
            if self._lease is not None:
                await run_to_end(self._lease.release)

    async def _write(self) -> None:
        if self._store is None:
            return
        async with self._lock:
            digests = frozenset().union(*self._used.values())
            if self._lease is None:
                self._lease = await run_to_end(self._store.lease, digests)
            elif self._lease.blobs != digests:
                await run_to_end(self._lease.replace, digests)
            else:
                await run_to_end(self._lease.beat)
