"""The registry in etcd: keys as Dynamo 1.6.1 writes them, one lease a process, its id the instance id.

Everything happens on a thread of its own: an event loop that is blocked loses no lease, and an exit
handler can still give it up.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import logging
import os
import secrets
import ssl
import threading
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from muster.config.etcd import EtcdSettings
from muster.discovery.base import Staleness, Watch, prefix_matches
from muster.discovery.etcd.bucket_watch import BucketWatch, key_text, read_range
from muster.discovery.etcd.gateway import NOT_FOUND, EtcdError, Gateway, tls_context
from muster.discovery.etcd.lease import Lease
from muster.discovery.etcd.loop_thread import LoopThread
from muster.discovery.etcd.messages import TxnReply, create_request, delete_request, put_request
from muster.discovery.feed import Feed
from muster.discovery.keys import check_bucket, check_record
from muster.errors import ConflictError, DiscoveryError, NotRegisteredError
from muster.log import facts
from muster.tasks import TaskOwner

__all__ = ["EtcdDiscovery"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_CLOSE_S = 3.0
"""How long closing waits for the registry."""


class _Core:
    """What lives on the thread's loop."""

    def __init__(self, settings: EtcdSettings, tls: ssl.SSLContext | None, lease_id: int) -> None:
        self._settings = settings
        self._gateway = Gateway(settings, tls)
        self._tasks = TaskOwner("etcd")
        self._watches: dict[str, BucketWatch] = {}
        self._opening = asyncio.Lock()
        self.lease = Lease(self._gateway, settings, lease_id, self._health_changed)
        self._keeping = False
        self._closing = False

    async def ensure(self) -> None:
        """Have a lease, and keep it."""
        await self.lease.ensure()
        if self._closing:
            raise DiscoveryError("the registry is closed")
        if not self._keeping:
            self._keeping = True
            self._tasks.start(self.lease.run(), name="lease")

    async def register(self, key: bytes, value: bytes, *, create: bool) -> None:
        await self.ensure()
        async with self.lease.gate.changing():
            try:
                await self._write(key, value, create=create)
            except EtcdError as error:
                if error.grpc_code != NOT_FOUND:
                    raise
                await self.lease.renew()
                await self._write(key, value, create=create)
            self.lease.claims.put(key, value)

    async def _write(self, key: bytes, value: bytes, *, create: bool) -> None:
        lease = self.lease
        if not create:
            await self._gateway.call("kv/put", put_request(key, value, lease.id), TxnReply)
            return
        reply = await self._gateway.call("kv/txn", create_request(key, value, lease.id), TxnReply)
        found = reply.found()
        # Ours, and not known to be: an earlier server did it, and its answer got lost.
        mine = found is not None and found.lease == lease.id and lease.claims.value(key) is None
        if not reply.succeeded and not mine:
            raise ConflictError(f"{key_text(key)} is registered already")

    async def deregister(self, key: bytes) -> None:
        if self.lease.claims.value(key) is None:
            raise NotRegisteredError(f"{key_text(key)} was not registered by this process")
        async with self.lease.gate.changing():
            request = delete_request(key, self.lease.id)
            reply = await self._gateway.call("kv/txn", request, TxnReply)
            self.lease.claims.drop(key)
        if not reply.succeeded:
            raise NotRegisteredError(f"{key_text(key)} is no longer ours: gone or replaced")

    async def list(self, bucket: str, prefix: str) -> dict[str, bytes]:
        await self.ensure()
        start = f"{bucket}/".encode()
        _, found = await read_range(self._gateway, start + _encoded(prefix.rstrip("/")))
        records = ((key_text(key[len(start) :]), value) for key, value in found.items())
        return {key: value for key, value in records if prefix_matches(prefix, key)}

    async def subscribe(self, bucket: str, feed: Feed) -> None:
        await self.ensure()
        async with self._opening:
            watch = self._watches.get(bucket)
            if watch is None:
                grace_s = float(self._settings.lease_ttl_s)
                watch = BucketWatch(self._gateway, self.lease, bucket, grace_s)
                await watch.look()
                self._watches[bucket] = watch
                if self.lease.staleness is not None:
                    watch.registry_lost()
                self._tasks.start(watch.run(), name=bucket)
        watch.subscribe(feed)

    def _health_changed(self, healthy: bool) -> None:
        for watch in self._watches.values():
            if healthy:
                watch.registry_recovered()
            else:
                watch.registry_lost()

    async def close(self) -> None:
        """Give the lease up and end everything; what fails is logged."""
        self._closing = True
        await self._tasks.close()
        for watch in self._watches.values():
            watch.end()
        try:
            await self.lease.revoke()
        except DiscoveryError as error:
            if len(self.lease.claims):
                logger.warning(
                    "our records stay until their lease runs out",
                    extra=facts(records=len(self.lease.claims), reason=error.message),
                )
        finally:
            await self._gateway.close()

    async def abandon(self) -> None:
        """Stop without a word to the registry."""
        self._closing = True
        await self._tasks.close()
        await self._gateway.close()


class EtcdDiscovery:
    """One process on an etcd cluster; see ``Discovery`` for the contract.

    Making it costs nothing: the thread starts and the lease is granted with the first call. A
    normal end of the interpreter gives the lease up; a forked child does not.

    What is particular to etcd: a process that dies is forgotten when its lease runs out
    (``lease_ttl_s``, rounded up by etcd to what its election timeout allows). While no server
    answers, ``register``, ``deregister`` and ``list`` raise, and watches keep what was seen last;
    records that have gone are believed gone a time to live after the registry is back.

    Args:
        settings: The cluster.
    """

    def __init__(self, settings: EtcdSettings) -> None:
        self._settings = settings
        self._instance_id = secrets.randbelow((1 << 63) - 1) + 1
        # Re-entrant, because an exit handler may interrupt the thread that holds it.
        self._lock = threading.RLock()
        self._starting = asyncio.Lock()
        self._thread: LoopThread | None = None
        self._core: _Core | None = None
        self._owner_pid = 0
        self._closed = False

    @property
    def instance_id(self) -> int:
        """The lease's id: from 1 to 2^63 - 1."""
        return self._instance_id

    async def register(self, bucket: str, key: str, value: bytes, *, create: bool = False) -> None:
        """Write a record; see ``Discovery.register``. etcd refuses those over 1.5 MB by default."""
        check_record(key, value)
        place = f"{check_bucket(bucket)}/{key}".encode()
        core = await self._open()
        await self._run(core.register(place, value, create=create))

    async def deregister(self, bucket: str, key: str) -> None:
        """Remove a record of this process; see ``Discovery.deregister``."""
        place = _encoded(f"{check_bucket(bucket)}/{key}")
        core = await self._open()
        await self._run(core.deregister(place))

    async def list(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """Live records by key; see ``Discovery.list``."""
        check_bucket(bucket)
        core = await self._open()
        return await self._run(core.list(bucket, prefix))

    @contextlib.asynccontextmanager
    async def watch(self, bucket: str, prefix: str = "") -> AsyncIterator[Watch]:
        """Watch the keys under ``prefix``; see ``Discovery.watch``."""
        check_bucket(bucket)
        feed = Feed(prefix)
        try:
            core = await self._open()
            await self._run(core.subscribe(bucket, feed))
            yield feed
        finally:
            feed.end()

    def staleness(self) -> Staleness | None:
        """Since when, and why, no server answers; see ``Discovery.staleness``."""
        return self._core.lease.staleness if self._core is not None else None

    async def close(self) -> None:
        """Give the lease up, and with it this process's records, and stop; idempotent."""
        await asyncio.to_thread(self.close_now)

    def close_now(self) -> None:
        """As ``close``, without an event loop; from any thread. Waits some seconds at most."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._thread is None or self._core is None or self._owner_pid != os.getpid():
                return
            atexit.unregister(self.close_now)
            self._finish(self._core.close())

    def abandon(self) -> None:
        """Stop without a word, as if the process had died: the records stay until the lease ends."""
        with self._lock:
            self._closed = True
            if self._core is not None:
                atexit.unregister(self.close_now)
                self._finish(self._core.abandon())

    def _finish(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._thread is not None  # noqa: S101 - checked by the callers
        try:
            self._thread.submit(work).result(_CLOSE_S)
        except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
            logger.warning("closing the registry took too long; our records may stay for a while")
        except DiscoveryError:
            return
        finally:
            self._thread.stop(_CLOSE_S)

    async def _open(self) -> _Core:
        """The core; the first call starts the thread.

        Raises:
            ConfigError: The certificates cannot be used.
            DiscoveryError: The registry is closed.
        """
        async with self._starting:
            self._check_open()
            if self._core is None:
                tls = await asyncio.to_thread(tls_context, self._settings)
                with self._lock:
                    self._check_open()
                    self._owner_pid = os.getpid()
                    atexit.register(self.close_now)
                    self._core = _Core(self._settings, tls, self._instance_id)
                    self._thread = LoopThread("muster-etcd")
            return self._core

    def _check_open(self) -> None:
        if self._closed:
            raise DiscoveryError("the registry is closed")

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` on the thread; once begun it runs to its end, as a call to a thread does."""
        if self._thread is None:
            work.close()
            raise DiscoveryError("the registry is closed")
        future = self._thread.submit(work)
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            if future.cancelled():
                raise DiscoveryError("the registry is closed") from None
            raise


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
