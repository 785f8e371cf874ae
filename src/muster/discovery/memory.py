"""The registry of one process: for tests, demos and everything in one place.

Several ``MemoryDiscovery`` objects share one ``MemoryRegistry`` as several processes share a
directory or a server. There is no clock in it: a lease runs out when ``MemoryRegistry.expire`` says
so. A record that another one replaces is the other's from then on.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import AsyncIterator

import msgspec

from muster.discovery.base import Change, Staleness, Watch, prefix_matches
from muster.discovery.feed import Feed
from muster.discovery.keys import check_bucket, check_record
from muster.errors import ConflictError, DiscoveryError, NotRegisteredError

__all__ = ["MemoryDiscovery", "MemoryRegistry"]


class _Record(msgspec.Struct, frozen=True):
    value: bytes
    owner: int


class MemoryRegistry:
    """Records by bucket and key, with their owners. Safe to use from any thread."""

    def __init__(self) -> None:
        # Re-entrant, because an exit handler may interrupt the thread that holds it.
        self._lock = threading.RLock()
        self._buckets: dict[str, dict[str, _Record]] = {}
        self._feeds: dict[str, list[Feed]] = {}

    def put(self, bucket: str, key: str, value: bytes, *, owner: int, create: bool) -> None:
        """Write a record.

        Raises:
            ConflictError: ``create`` and the key holds a record.
        """
        with self._lock:
            records = self._buckets.setdefault(bucket, {})
            if create and key in records:
                raise ConflictError(f"{bucket}/{key} is registered already")
            records[key] = _Record(value, owner)
            self._publish(bucket, [Change(key, value)])

    def remove(self, bucket: str, key: str, *, owner: int) -> None:
        """Remove a record of ``owner``.

        Raises:
            NotRegisteredError: There is none, or it is another's.
        """
        with self._lock:
            record = self._buckets.get(bucket, {}).get(key)
            if record is None or record.owner != owner:
                raise NotRegisteredError(f"{bucket}/{key} is not registered by this process")
            del self._buckets[bucket][key]
            self._publish(bucket, [Change(key, None)])

    def expire(self, owner: int) -> None:
        """End a lease: every record of ``owner`` is gone, as if its process had died."""
        with self._lock:
            for bucket, records in self._buckets.items():
                gone = [key for key, record in records.items() if record.owner == owner]
                for key in gone:
                    del records[key]
                self._publish(bucket, [Change(key, None) for key in gone])

    def records(self, bucket: str, prefix: str) -> dict[str, bytes]:
        """Values by key, for keys under ``prefix``."""
        with self._lock:
            records = self._buckets.get(bucket, {})
            return {k: r.value for k, r in records.items() if prefix_matches(prefix, k)}

    def subscribe(self, bucket: str, feed: Feed) -> None:
        """Begin ``feed`` with what is there and publish to it from then on, until it ends."""
        with self._lock:
            feed.begin(self.records(bucket, ""))
            self._feeds.setdefault(bucket, []).append(feed)

    def _publish(self, bucket: str, changes: list[Change]) -> None:
        feeds = [feed for feed in self._feeds.get(bucket, ()) if not feed.ended]
        self._feeds[bucket] = feeds
        for feed in feeds:
            feed.publish(changes)


class MemoryDiscovery:
    """One 'process' on a ``MemoryRegistry``; see ``Discovery`` for the contract.

    Args:
        registry: The registry it shares with the others.
    """

    def __init__(self, registry: MemoryRegistry) -> None:
        self._registry = registry
        self._instance_id = secrets.randbelow((1 << 64) - 1) + 1
        self._feeds: list[Feed] = []
        self._closed = False

    @property
    def instance_id(self) -> int:
        """The u64 identity of this lease, never 0."""
        return self._instance_id

    async def register(self, bucket: str, key: str, value: bytes, *, create: bool = False) -> None:
        """Write a record; see ``Discovery.register``."""
        self._check(bucket)
        check_record(key, value)
        self._registry.put(bucket, key, value, owner=self._instance_id, create=create)

    async def deregister(self, bucket: str, key: str) -> None:
        """Remove a record of this process; see ``Discovery.deregister``."""
        self._check(bucket)
        self._registry.remove(bucket, key, owner=self._instance_id)

    async def list(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """Live records by key; see ``Discovery.list``."""
        self._check(bucket)
        return self._registry.records(bucket, prefix)

    @contextlib.asynccontextmanager
    async def watch(self, bucket: str, prefix: str = "") -> AsyncIterator[Watch]:
        """Watch the keys under ``prefix``; see ``Discovery.watch``."""
        self._check(bucket)
        feed = Feed(prefix)
        self._feeds = [other for other in self._feeds if not other.ended] + [feed]
        try:
            self._registry.subscribe(bucket, feed)
            yield feed
        finally:
            feed.end()

    def staleness(self) -> Staleness | None:
        """Never stale."""
        return None

    async def close(self) -> None:
        """Remove this process's records and stop; idempotent."""
        self.close_now()

    def close_now(self) -> None:
        """Remove this process's records without an event loop; idempotent."""
        if self._closed:
            return
        self._closed = True
        self._registry.expire(self._instance_id)
        for feed in self._feeds:
            feed.end()

    def _check(self, bucket: str) -> None:
        if self._closed:
            raise DiscoveryError("the registry is closed")
        check_bucket(bucket)
