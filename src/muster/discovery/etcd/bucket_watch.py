"""One bucket of etcd as this process knows it, shared by all who watch it.

A snapshot, then a watch from the revision after it. A watch that breaks is taken up at the revision
it has reached, once the registry has answered again; after a compaction, or when our lease was lost
meanwhile (so that the registry may be another one than before), a new snapshot is compared with
what is known. Removals go through a ``Holdover``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable

from muster.discovery.base import Change
from muster.discovery.etcd.gateway import OUT_OF_RANGE, EtcdError, Gateway
from muster.discovery.etcd.lease import Lease
from muster.discovery.etcd.messages import RangeReply, WatchReply, prefix_end, range_request
from muster.discovery.feed import Feed
from muster.discovery.holdover import Holdover
from muster.errors import DiscoveryError
from muster.log import facts

__all__ = ["BucketWatch", "key_text", "read_range"]

logger = logging.getLogger(__name__)

_PAGE = 2000
"""Records asked for at a time: a page of cards is some megabytes."""


class _CompactedError(Exception):
    """The registry has forgotten the revision a watch wanted to begin at."""


async def read_range(gateway: Gateway, prefix: bytes) -> tuple[int, dict[bytes, bytes]]:
    """All keys that start with ``prefix`` at one revision, and that revision.

    Raises:
        DiscoveryError: They cannot be read.
    """
    found: dict[bytes, bytes] = {}
    start, end, revision = prefix, prefix_end(prefix), 0
    while True:
        request = range_request(start, end, limit=_PAGE, revision=revision)
        reply = await gateway.call("kv/range", request, RangeReply)
        revision = revision or reply.header.revision
        found.update((kv.key, kv.value) for kv in reply.kvs)
        if not reply.more or not reply.kvs:
            return revision, found
        start = reply.kvs[-1].key + b"\0"


def key_text(key: bytes) -> str:
    """A key's text; bytes that are no UTF-8 survive the way there and back."""
    return key.decode("utf-8", "surrogateescape")


class BucketWatch:
    """Keeps ``records`` as they are in the registry and tells every feed.

    Args:
        gateway: The cluster.
        lease: Whose health says when a broken watch may be taken up.
        bucket: E.g. ``v1/instances``.
        grace_s: See ``Holdover``.
    """

    def __init__(self, gateway: Gateway, lease: Lease, bucket: str, grace_s: float) -> None:
        self._gateway = gateway
        self._lease = lease
        self._bucket = bucket
        self._prefix = f"{bucket}/".encode()
        self._loop = asyncio.get_running_loop()
        self._holdover = Holdover(grace_s)
        self._records: dict[str, bytes] = {}
        self._feeds: list[Feed] = []
        self._revision = 0
        self._epoch = -1
        self._timer: asyncio.TimerHandle | None = None
        self._scope: asyncio.Timeout | None = None

    async def look(self) -> None:
        """Take a snapshot and tell the feeds what is new.

        Raises:
            DiscoveryError: The registry cannot be read.
        """
        epoch = self._lease.epoch
        revision, found = await read_range(self._gateway, self._prefix)
        records = {key_text(key[len(self._prefix) :]): value for key, value in found.items()}
        gone = [key for key in self._records if key not in records]
        self._write(records.items())
        self._remove(gone)
        self._revision, self._epoch = revision, epoch

    def subscribe(self, feed: Feed) -> None:
        """Begin ``feed`` with what is known, after a first ``look``, and tell it every change."""
        feed.begin(self._records)
        self._feeds = [other for other in self._feeds if not other.ended]
        self._feeds.append(feed)

    async def run(self) -> None:
        """Follow the registry until cancelled, whatever happens to it."""
        while True:
            try:
                await self._follow()
            except _CompactedError:
                self._epoch = -1
            except DiscoveryError as error:
                logger.info(
                    "a watch broke; taking it up again",
                    extra=facts(bucket=self._bucket, reason=error.message),
                )
                await self._lease.confirmed()
            except Exception:
                logger.exception("watching %s failed; looking at it anew", self._bucket)
                self._epoch = -1
                await self._lease.confirmed()

    async def _follow(self) -> None:
        if self._epoch != self._lease.epoch:
            await self.look()
        start, end = self._prefix, prefix_end(self._prefix)
        try:
            async with (
                asyncio.timeout(None) as self._scope,
                self._gateway.watch(start, end, self._revision + 1) as messages,
            ):
                async for message in messages:
                    self._take(message)
                    if self._epoch != self._lease.epoch:
                        return
        except TimeoutError:
            raise DiscoveryError("the registry does not answer") from None
        except EtcdError as error:
            if error.grpc_code == OUT_OF_RANGE:
                raise _CompactedError from error
            raise

    def _take(self, message: WatchReply) -> None:
        if message.compact_revision:
            raise _CompactedError
        if message.canceled:
            raise DiscoveryError(f"etcd cancelled the watch: {message.cancel_reason}")
        size = len(self._prefix)
        last: dict[str, bytes | None] = {}
        for event in message.events:
            key = key_text(event.kv.key[size:])
            last.pop(key, None)
            last[key] = None if event.type == "DELETE" else event.kv.value
        self._write([(key, value) for key, value in last.items() if value is not None])
        self._remove([key for key, value in last.items() if value is None])
        if message.events:
            self._revision = max(self._revision, message.header.revision)

    def _write(self, records: Iterable[tuple[str, bytes]]) -> None:
        there = [*records]
        self._holdover.written(key for key, _ in there)
        new = [(key, value) for key, value in there if self._records.get(key) != value]
        self._records.update(new)
        self._publish([Change(key, value) for key, value in new])

    def _remove(self, keys: Iterable[str]) -> None:
        known = [key for key in keys if key in self._records]
        self._forget(self._holdover.removed(known, self._loop.time()))
        self._set_timer()

    def _forget(self, keys: Iterable[str]) -> None:
        gone = [key for key in keys if self._records.pop(key, None) is not None]
        self._publish([Change(key, None) for key in gone])

    def _publish(self, changes: list[Change]) -> None:
        if changes:
            for feed in self._feeds:
                feed.publish(changes)

    # -- health ------------------------------------------------------------------------------

    def registry_lost(self) -> None:
        """The registry is out of reach: removals are not believed, and a watch may be a dead one."""
        self._holdover.lost()
        self._set_timer()
        if self._scope is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._scope.reschedule(self._loop.time())

    def registry_recovered(self) -> None:
        """The registry is back: removals are believed after the grace period."""
        self._holdover.recovered(self._loop.time())
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = self._holdover.due_at()
        self._timer = None if due is None else self._loop.call_at(due, self._release)

    def _release(self) -> None:
        self._forget(self._holdover.release(self._loop.time()))
        self._set_timer()

    def end(self) -> None:
        """Nothing more will come."""
        if self._timer is not None:
            self._timer.cancel()
        for feed in self._feeds:
            feed.end()
