"""The lease by which this process's records live, and what is known of the registry's health.

A lost lease ends nothing: it is granted again under the same id, and every record is written again
under its key. That the lease was lost is also how a registry is found out whose data is gone: who
watches must then look at everything anew (``epoch``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from muster.config.etcd import EtcdSettings
from muster.discovery.base import Staleness
from muster.discovery.etcd.claims import Claims, Gate
from muster.discovery.etcd.gateway import (
    FAILED_PRECONDITION,
    NOT_FOUND,
    EtcdError,
    EtcdUnreachableError,
    Gateway,
)
from muster.discovery.etcd.messages import (
    GrantReply,
    KeepAliveReply,
    TimeToLiveReply,
    TxnReply,
    create_request,
    delete_request,
)
from muster.errors import DiscoveryError
from muster.log import facts

__all__ = ["Lease"]

logger = logging.getLogger(__name__)

_RETRY_S = 0.5
"""Pause between attempts while the registry is out of reach."""
_AT_A_TIME = 32
"""Records written again at a time after a lease was lost."""


class Lease:
    """Keeps one lease alive, and its records in place.

    Args:
        gateway: The cluster.
        settings: The time to live and the deadlines.
        lease_id: From 1 to 2^63 - 1.
        on_health: Called with ``False`` when the registry is out of reach, ``True`` when it is back.
    """

    def __init__(
        self,
        gateway: Gateway,
        settings: EtcdSettings,
        lease_id: int,
        on_health: Callable[[bool], None],
    ) -> None:
        self._gateway = gateway
        self._settings = settings
        self._on_health = on_health
        self._granting = asyncio.Lock()
        self._nudged = asyncio.Event()
        self._confirmed = asyncio.Condition()
        self._granted = False
        self._healthy = True
        self._closed = False
        self._begun = 0
        self._answered = 0
        self.id = lease_id
        self.claims = Claims()
        self.gate = Gate()
        self.epoch = 0
        self.staleness: Staleness | None = None

    # -- the lease ---------------------------------------------------------------------------

    async def ensure(self) -> None:
        """Have a lease; the first call waits for a registry that is starting.

        Raises:
            DiscoveryError: None can be had within the time a start may take.
        """
        if self._granted:
            return
        async with self._granting:
            deadline = time.monotonic() + self._settings.startup_timeout_s
            while not self._granted:
                try:
                    await self._grant()
                except EtcdUnreachableError:
                    if time.monotonic() + _RETRY_S > deadline:
                        raise
                    await asyncio.sleep(_RETRY_S)

    async def renew(self) -> None:
        """The registry does not know the lease: have it again, and every record.

        Raises:
            DiscoveryError: It cannot be had.
        """
        async with self._granting:
            if await self._keep_alive():
                return  # somebody was quicker
            await self._grant()
            self.epoch += 1
            self._tell(healthy=False)
            self.nudge()
        logger.warning(
            "the lease was lost and is back; writing our records again",
            extra=facts(instance=f"{self.id:x}", records=len(self.claims)),
        )

    async def _grant(self) -> None:
        if self._closed:
            raise DiscoveryError("the registry is closed")
        request = {"TTL": str(self._settings.lease_ttl_s), "ID": str(self.id)}
        try:
            await self._gateway.call("lease/grant", request, GrantReply)
        except EtcdError as error:
            # An answer that got lost: the lease is there, and it is ours.
            if error.grpc_code != FAILED_PRECONDITION or "already exists" not in error.message:
                raise
        self._granted = True

    async def _keep_alive(self) -> bool:
        request = {"ID": str(self.id)}
        reply = await self._gateway.call("lease/keepalive", request, KeepAliveReply)
        return reply.result.ttl > 0

    async def revoke(self) -> None:
        """Give the lease up for good: every record goes with it.

        Raises:
            DiscoveryError: It cannot be done; the records go when the time to live is over.
        """
        self._closed = True
        async with self._granting:  # one that is being granted is ours to revoke
            if not self._granted:
                return
            try:
                await self._gateway.call("lease/revoke", {"ID": str(self.id)}, TxnReply)
            except EtcdError as error:
                if error.grpc_code != NOT_FOUND:
                    raise

    # -- keeping it --------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the lease alive and the records in place, until cancelled."""
        interval = self._settings.keepalive_interval_s or self._settings.lease_ttl_s / 3
        while True:
            self._nudged.clear()
            self._begun += 1
            try:
                await self._beat()
            except DiscoveryError as error:
                self._failed(error)
                pause = min(_RETRY_S, interval)
            except Exception:
                logger.exception("keeping the lease alive failed; trying again")
                pause = min(_RETRY_S, interval)
            else:
                await self._succeeded()
                pause = interval
            await self._rest(pause)

    async def _rest(self, pause_s: float) -> None:
        try:
            async with asyncio.timeout(pause_s):
                await self._nudged.wait()
        except TimeoutError:
            return
        # Whoever nudges may do so at once after every failure.
        await asyncio.sleep(min(0.05, pause_s))

    async def _beat(self) -> None:
        if not await self._keep_alive():
            await self.renew()
        async with self.gate.comparing():
            await self._compare()

    async def _compare(self) -> None:
        """Put right what the registry lacks of ours, or has too much."""
        request = {"ID": str(self.id), "keys": True}
        reply = await self._gateway.call("lease/timetolive", request, TimeToLiveReply)
        plan = self.claims.plan(reply.keys)
        slots = asyncio.Semaphore(_AT_A_TIME)

        async def restore(key: bytes) -> None:
            async with slots:
                await self._restore(key)

        for work in (
            [restore(key) for key in plan.missing],
            [self._remove_orphan(key, reply.header.revision) for key in plan.orphans],
        ):
            for outcome in await asyncio.gather(*work, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome

    async def _restore(self, key: bytes) -> None:
        value = self.claims.value(key)
        if value is None:
            return
        reply = await self._gateway.call("kv/txn", create_request(key, value, self.id), TxnReply)
        found = reply.found()
        told = facts(key=key.decode("utf-8", "replace"))
        if reply.succeeded:
            self.claims.restored(key)
            logger.warning("a record of ours was gone; wrote it anew", extra=told)
        elif found is not None and found.lease == self.id:
            self.claims.restored(key)
        elif self.claims.replace(key):
            logger.warning("another process replaced a record of ours; leaving it", extra=told)

    async def _remove_orphan(self, key: bytes, revision: int) -> None:
        request = delete_request(key, self.id, not_after=revision)
        await self._gateway.call("kv/txn", request, TxnReply)

    # -- health ------------------------------------------------------------------------------

    def nudge(self) -> None:
        """Something went wrong elsewhere: look at the registry now."""
        self._nudged.set()

    async def confirmed(self) -> None:
        """Wait until the registry has answered to a look that begins after this call."""
        begun = self._begun
        self.nudge()
        async with self._confirmed:
            await self._confirmed.wait_for(lambda: self._answered > begun)

    async def _succeeded(self) -> None:
        if self.staleness is not None:
            logger.info("the registry is back", extra=facts(servers=self._gateway.servers))
        self.staleness = None
        self._tell(healthy=True)
        async with self._confirmed:
            self._answered = self._begun
            self._confirmed.notify_all()

    def _failed(self, error: DiscoveryError) -> None:
        if self.staleness is None:
            logger.warning(
                "the registry is out of reach; what was seen last stays in use",
                extra=facts(reason=error.message),
            )
            self.staleness = Staleness(since=time.time(), reason=error.message)
        self._tell(healthy=False)

    def _tell(self, *, healthy: bool) -> None:
        if healthy != self._healthy:
            self._healthy = healthy
            self._on_health(healthy)
