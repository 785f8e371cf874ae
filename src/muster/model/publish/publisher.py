"""What one runtime has published, and the order in which things become reachable and go away.

A registration is a transaction. Its files are copied and staged, the registry is told, and only when
it has accepted the card are they served; whatever fails before that, or calls it off, leaves nothing.
A registration that renews another takes its place in one step, or leaves it as it was. Withdrawing
goes the other way: the registry first, then the files.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import msgspec

from muster.content.offload import run_to_end
from muster.discovery.records import MODELS
from muster.errors import DiscoveryError, NotRegisteredError
from muster.log import facts
from muster.model.card import ModelDeploymentCard
from muster.model.publish.claim import check_endpoint_free
from muster.model.publish.drift import Drift
from muster.model.publish.preparation import Prepared, prepare
from muster.model.publish.publication import Publication, PublishSlot, check_readable
from muster.model.publish.record_writer import RecordWriter
from muster.model.publish.renewal import Renewal, decide_renewal
from muster.model.publish.snapshot_pool import Holding, SnapshotPool
from muster.model.publish.upkeep import Upkeep
from muster.names import EndpointId, slugify
from muster.runtime import DistributedRuntime
from muster.runtime.metadata.registry import MetadataOwner
from muster.tasks import TaskOwner

__all__ = ["Publisher"]

logger = logging.getLogger(__name__)


class _Live(msgspec.Struct, frozen=True):
    """What is registered in a slot: its owner in the metadata registry, and the copies it serves."""

    owner: MetadataOwner
    publication: Publication
    holding: Holding


class Publisher:
    """What one runtime has published; use ``of`` to get it."""

    _by_runtime: ClassVar[weakref.WeakKeyDictionary[DistributedRuntime, Publisher]] = (
        weakref.WeakKeyDictionary()
    )

    def __init__(self, runtime: DistributedRuntime) -> None:
        # The runtime keeps the publisher through its shutdown hook; the reverse must not keep it.
        self._runtime_ref = weakref.ref(runtime)
        self._live: dict[PublishSlot, _Live] = {}
        self._locks: weakref.WeakValueDictionary[PublishSlot, asyncio.Lock] = (
            weakref.WeakValueDictionary()
        )
        self._serials = itertools.count()
        self._pool = SnapshotPool(runtime.settings.metadata.snapshot_directory)
        self._tasks = TaskOwner("publisher")
        self._writer = RecordWriter(runtime.discovery, self._tasks)
        self._upkeep = Upkeep(runtime.settings.metadata, runtime.metadata)
        self._ended = False
        runtime.on_withdraw(self.withdraw_all)

    @classmethod
    def of(cls, runtime: DistributedRuntime) -> Publisher:
        """The publisher of a runtime."""
        found = cls._by_runtime.get(runtime)
        if found is None:
            found = cls._by_runtime[runtime] = cls(runtime)
        return found

    @property
    def _runtime(self) -> DistributedRuntime:
        runtime = self._runtime_ref()
        if runtime is None:
            raise DiscoveryError("the runtime is gone")
        return runtime

    def drift(self) -> tuple[Drift, ...]:
        """The files served here that are no longer on disk as they were registered."""
        return self._upkeep.drift()

    # -- publishing --------------------------------------------------------------------------

    async def publish(
        self,
        card: ModelDeploymentCard,
        endpoint: EndpointId,
        *,
        directory: Path | None,
        self_host: bool,
    ) -> Publication:
        """Publish ``card``; see ``register_model``.

        Args:
            card: With local paths.
            endpoint: Where the model is served.
            directory: The model's directory; ``None`` for a model without files.
            self_host: Whether to serve its files, if there is a status server.
        """
        runtime = self._runtime
        await runtime.start()
        slot = self._slot(endpoint, slugify(card.lora.name) if card.lora is not None else None)
        prepared = await asyncio.to_thread(
            prepare,
            card,
            endpoint=endpoint,
            lora_slug=slot.lora_slug,
            directory=directory,
            base_url=self._base_url() if self_host and directory is not None else None,
            max_extra_bytes=runtime.settings.metadata.max_extra_bytes,
        )
        mdcsum = check_readable(prepared.card).mdcsum()
        async with self._lock(slot):
            await self._writer.settled(slot.key)
            await check_endpoint_free(runtime.discovery, slot, prepared.card.display_name)
            live = self._live.get(slot)
            if live is not None and _renewal(slot, live, prepared) is Renewal.NOTHING:
                return live.publication
            live = self._live[slot] = await self._switch(slot, live, prepared)
        if self._ended:
            await self._take_back(slot, live)
        self._watch()
        self._upkeep.probe(runtime.status_url, live.holding.entries)
        logger.info(
            "model registered",
            extra=facts(
                model=prepared.card.display_name,
                endpoint=str(endpoint),
                mdcsum=mdcsum,
                identity=prepared.identity,
                files_served=len(prepared.files),
            ),
        )
        return live.publication

    async def _switch(self, slot: PublishSlot, old: _Live | None, prepared: Prepared) -> _Live:
        """Put ``prepared`` into a slot, in the place of ``old``. The slot is locked.

        A failure or cancellation leaves the slot, the registry and what is served as they were.
        """
        registry = self._runtime.metadata
        owner = MetadataOwner(slot.instance_id, slot.endpoint, slot.lora_slug, next(self._serials))
        holding = Holding(self._pool)
        try:
            await run_to_end(holding.fill, prepared.files)
            registry.stage(owner, holding.entries, replaces=old.owner if old is not None else None)
            await self._writer.write(
                slot.key, slot.record(prepared.card), on_late=lambda: self._put_right(slot)
            )
            registry.publish(owner)
        except BaseException:
            registry.unregister_for_owner(owner)
            self._release(holding)
            raise
        if old is not None:
            registry.unregister_for_owner(old.owner)  # also if it had nothing in common with this
            self._release(old.holding)
        publication = Publication(
            card=prepared.card,
            key=slot.key,
            identity=prepared.identity,
            files_served=len(prepared.files),
            left_out=prepared.left_out,
        )
        return _Live(owner, publication, holding)

    async def revise(
        self,
        endpoint: EndpointId,
        change: Callable[[ModelDeploymentCard], ModelDeploymentCard],
    ) -> None:
        """Publish ``change`` of the card at an endpoint in its place; the files stay as they are.

        Args:
            endpoint: Where the model is registered.
            change: Makes the new card of the one published.

        Raises:
            NotRegisteredError: This process has registered no model there.
            ConflictError: The change is one that frontends would ignore.
            InvalidArgument: Others could not read the new card.
            DiscoveryError: The registry cannot be written. What is published is as before.
        """
        slot = self._slot(endpoint, None)
        async with self._lock(slot):
            await self._writer.settled(slot.key)
            live = self._live.get(slot)
            if live is None:
                raise NotRegisteredError(f"no model is registered at {slot.key} by this process")
            old = live.publication.card
            card = check_readable(change(old))
            if decide_renewal(old, card, slot.record(card)) is Renewal.NOTHING:
                return
            await self._writer.write(
                slot.key, slot.record(card), on_late=lambda: self._put_right(slot)
            )
            publication = msgspec.structs.replace(live.publication, card=card)
            self._live[slot] = msgspec.structs.replace(live, publication=publication)

    async def _put_right(self, slot: PublishSlot) -> None:
        """Have the registry say what is, after it was told what had been called off."""
        async with self._lock(slot):
            live = self._live.get(slot)
            if live is None:
                await self._writer.remove(slot.key)
            else:
                record = slot.record(live.publication.card)
                await self._runtime.discovery.register(MODELS, slot.key, record.to_json())

    async def _take_back(self, slot: PublishSlot, live: _Live) -> None:
        """Undo a registration that came through when the runtime had begun to shut down."""
        with contextlib.suppress(DiscoveryError):  # the registry may be closed already
            await self._withdraw(slot)
        self._runtime.metadata.unregister_for_owner(live.owner)
        live.holding.release()
        raise DiscoveryError("this runtime is shutting down, or has")

    def _base_url(self) -> str | None:
        base_url = self._runtime.status_url
        if base_url is None:
            logger.warning(
                "self_host_metadata is ON but DYN_SYSTEM_PORT is unset; falling back to "
                "shared-storage MDC. Set DYN_SYSTEM_PORT (e.g. 9090) to enable self-hosting, or set "
                "DYN_SELF_HOST_METADATA=0 to silence this warning."
            )
        return base_url

    # -- withdrawing -------------------------------------------------------------------------

    async def withdraw(self, endpoint: EndpointId, lora_slug: str | None) -> None:
        """Withdraw one registration; see ``unregister_model``."""
        slot = self._slot(endpoint, lora_slug)
        # A caller that is cancelled does not leave it half done.
        work = self._tasks.launch(self._withdraw(slot), name=f"withdraw {slot.key}")
        await asyncio.shield(work)

    async def _withdraw(self, slot: PublishSlot) -> None:
        async with self._lock(slot):
            await self._writer.settled(slot.key)
            live = self._live.get(slot)
            if live is None:
                raise NotRegisteredError(f"no model is registered at {slot.key} by this process")
            try:
                await self._writer.remove(slot.key)
            except NotRegisteredError as error:  # a card nobody can see any more is withdrawn
                logger.warning("the registry has lost a model already: %s", error)
            self._runtime.metadata.unregister_for_owner(live.owner)
            del self._live[slot]
            self._watch()
            await run_to_end(live.holding.release)
        logger.info("model withdrawn", extra=facts(model=live.publication.card.display_name))

    async def withdraw_all(self) -> None:
        """Withdraw everything for good; one that fails does not keep the others.

        Raises:
            DiscoveryError: The first failure.
        """
        self._ended = True
        self._writer.close()
        await self._upkeep.close()
        failure: DiscoveryError | None = None
        for slot in [*self._live]:
            try:
                await self._withdraw(slot)
            except NotRegisteredError:  # somebody else did at the same moment
                continue
            except DiscoveryError as error:
                failure = failure or error
        if failure is not None:
            self._tasks.start(self._release_when_closed(self._runtime), name="release")
            raise failure

    async def _release_when_closed(self, runtime: DistributedRuntime) -> None:
        """Files of cards that could not be withdrawn are served until the status server closes."""
        try:
            await runtime.wait_closed()
        finally:
            for live in self._live.values():
                live.holding.release()

    # -- bookkeeping -------------------------------------------------------------------------

    def _watch(self) -> None:
        self._upkeep.watch(each for live in self._live.values() for each in live.holding.snapshots)

    def _release(self, holding: Holding) -> None:
        self._tasks.start(run_to_end(holding.release), name="release")

    def _lock(self, slot: PublishSlot) -> asyncio.Lock:
        return self._locks.setdefault(slot, asyncio.Lock())

    def _slot(self, endpoint: EndpointId, lora_slug: str | None) -> PublishSlot:
        return PublishSlot(self._runtime.instance_id, endpoint, lora_slug)


def _renewal(slot: PublishSlot, live: _Live, prepared: Prepared) -> Renewal:
    return decide_renewal(live.publication.card, prepared.card, slot.record(prepared.card))
