"""What one runtime has published, and the order in which things become reachable and go away."""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from pathlib import Path
from typing import ClassVar

import msgspec

from muster.discovery.records import MODELS, ModelRecord, instance_key
from muster.errors import (
    CardError,
    ConflictError,
    DiscoveryError,
    InvalidArgument,
    NotRegisteredError,
)
from muster.log import facts
from muster.model.card import ModelDeploymentCard
from muster.model.catalog.group import name_in
from muster.model.publish.self_host import HostedCard, point_at_hub, self_hosted, with_extra_files
from muster.names import EndpointId, slugify
from muster.runtime import DistributedRuntime
from muster.runtime.metadata_registry import MetadataOwner
from muster.tasks import TaskOwner

__all__ = ["Publication", "Publisher"]

logger = logging.getLogger(__name__)


class Publication(msgspec.Struct, frozen=True):
    """A registered model: its card as published, and its record's key."""

    card: ModelDeploymentCard
    key: str


class Publisher:
    """What one runtime has published; use ``of`` to get it."""

    _by_runtime: ClassVar[weakref.WeakKeyDictionary[DistributedRuntime, Publisher]] = (
        weakref.WeakKeyDictionary()
    )

    def __init__(self, runtime: DistributedRuntime) -> None:
        # The runtime keeps the publisher through its shutdown hook; the reverse must not keep it.
        self._runtime_ref = weakref.ref(runtime)
        self._published: dict[MetadataOwner, Publication] = {}
        self._lock = asyncio.Lock()
        self._tasks = TaskOwner("publisher")
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

    async def publish(
        self, card: ModelDeploymentCard, endpoint: EndpointId, *, directory: Path | None
    ) -> Publication:
        """Publish ``card``, serving its files if ``directory`` is given; see ``register_model``."""
        runtime = self._runtime
        lora_slug = slugify(card.lora.name) if card.lora is not None else None
        owner = MetadataOwner(runtime.instance_id, endpoint, lora_slug)
        await runtime.start()
        hosted = await self._host(card, endpoint, lora_slug, directory)
        mdcsum = _readable(hosted.card).mdcsum()
        async with self._lock:
            await self._check_endpoint(hosted.card, owner)
            if owner in self._published:
                return self._repeat(self._published[owner], hosted.card)
            publication = Publication(hosted.card, _record_key(owner))
            await self._register(owner, publication, hosted)
            self._published[owner] = publication
        logger.info(
            "model registered",
            extra=facts(
                model=hosted.card.display_name,
                endpoint=str(owner.endpoint),
                mdcsum=mdcsum,
                files_served=len(hosted.entries),
            ),
        )
        return publication

    async def _register(
        self, owner: MetadataOwner, publication: Publication, hosted: HostedCard
    ) -> None:
        """Serve the files, then tell the registry. A failure or cancellation undoes both."""
        runtime = self._runtime
        record = _record(hosted.card, owner).to_json()
        writing: asyncio.Task[None] | None = None
        try:
            for metadata_key, artifact in hosted.entries.items():
                runtime.metadata.register(owner, metadata_key, artifact)
            # Shielded, because cancelling does not stop a thread that writes: it is undone after.
            writing = self._tasks.launch(
                runtime.discovery.register(MODELS, publication.key, record),
                name=f"write {publication.key}",
            )
            await asyncio.shield(writing)
        except BaseException:
            runtime.metadata.unregister_for_owner(owner)
            if writing is not None and not writing.done():
                self._tasks.start(self._undo(owner, publication, writing), name="undo")
            raise

    async def _undo(
        self, owner: MetadataOwner, publication: Publication, writing: asyncio.Task[None]
    ) -> None:
        """Remove a record whose registration was called off, once it is written."""
        await asyncio.wait([writing])
        if writing.cancelled() or writing.exception() is not None:
            return
        async with self._lock:
            if owner not in self._published:
                await self._runtime.discovery.deregister(MODELS, publication.key)

    async def _host(
        self,
        card: ModelDeploymentCard,
        endpoint: EndpointId,
        lora_slug: str | None,
        directory: Path | None,
    ) -> HostedCard:
        """The card as it goes out, and the files to serve for it."""
        base_url = self._runtime.status_url
        if directory is not None and base_url is None:
            logger.warning(
                "self_host_metadata is ON but DYN_SYSTEM_PORT is unset; falling back to "
                "shared-storage MDC. Set DYN_SYSTEM_PORT (e.g. 9090) to enable self-hosting, or set "
                "DYN_SELF_HOST_METADATA=0 to silence this warning."
            )
        hosted = HostedCard(card, {})
        if directory is not None and base_url is not None:
            whole = await asyncio.to_thread(with_extra_files, card, directory)
            hosted = self_hosted(whole, base_url=base_url, endpoint=endpoint, lora_slug=lora_slug)
        source = card.source_path
        if source is not None and not await asyncio.to_thread(os.path.exists, source):
            hosted = HostedCard(point_at_hub(hosted.card), hosted.entries)
        return hosted

    def _repeat(self, published: Publication, card: ModelDeploymentCard) -> Publication:
        """The same registration again changes nothing; another one is refused."""
        if published.card.to_json_str() != card.to_json_str():
            raise ConflictError(
                f"{card.display_name!r} is registered already with another card "
                f"(mdcsum {published.card.mdcsum()}, now {card.mdcsum()})",
                hint="unregister it first",
            )
        return published

    async def _check_endpoint(self, card: ModelDeploymentCard, owner: MetadataOwner) -> None:
        """Refuse a second base model at one endpoint, whoever registered the first."""
        if owner.lora_slug is not None:
            return
        endpoint = owner.endpoint
        for value in (await self._runtime.discovery.list(MODELS, str(endpoint))).values():
            try:
                record = ModelRecord.from_json(value)
            except DiscoveryError:
                continue
            other = name_in(record)
            if record.model_suffix is None and other != card.display_name:
                raise ConflictError(
                    f"Cannot register model {card.display_name!r} on endpoint '{endpoint}': "
                    f"a different model {other!r} is already registered there",
                    hint="serve it at an endpoint of its own",
                )

    async def withdraw(self, endpoint: EndpointId, lora_slug: str | None) -> None:
        """Withdraw one registration; see ``unregister_model``."""
        owner = MetadataOwner(self._runtime.instance_id, endpoint, lora_slug)
        # A caller that is cancelled does not leave it half done.
        work = self._tasks.launch(self._withdraw(owner), name=f"withdraw {owner}")
        await asyncio.shield(work)

    async def _withdraw(self, owner: MetadataOwner) -> None:
        async with self._lock:
            publication = self._published.get(owner)
            if publication is None:
                raise NotRegisteredError(f"no model is registered at {owner} by this process")
            try:
                await self._runtime.discovery.deregister(MODELS, publication.key)
            except NotRegisteredError as error:  # a card nobody can see any more is withdrawn
                logger.warning("the registry has lost a model already: %s", error)
            self._runtime.metadata.unregister_for_owner(owner)
            del self._published[owner]
        logger.info("model withdrawn", extra=facts(model=publication.card.display_name))

    async def withdraw_all(self) -> None:
        """Withdraw everything; one that fails does not keep the others.

        Raises:
            DiscoveryError: The first failure.
        """
        failure: DiscoveryError | None = None
        for owner in [*self._published]:
            try:
                await self._withdraw(owner)
            except DiscoveryError as error:
                failure = failure or error
        if failure is not None:
            raise failure


def _readable(card: ModelDeploymentCard) -> ModelDeploymentCard:
    """``card``, if others can read it.

    Raises:
        InvalidArgument: They cannot; a frontend would say the same.
    """
    try:
        return ModelDeploymentCard.from_json_str(card.to_json_str())
    except (CardError, UnicodeEncodeError) as error:
        raise InvalidArgument(
            f"the card of {card.display_name!r} could not be read by others: {error}"
        ) from error


def _record_key(owner: MetadataOwner) -> str:
    key = instance_key(owner.endpoint, owner.connection_id)
    return f"{key}/{owner.lora_slug}" if owner.lora_slug else key


def _record(card: ModelDeploymentCard, owner: MetadataOwner) -> ModelRecord:
    return ModelRecord(
        namespace=owner.endpoint.namespace,
        component=owner.endpoint.component,
        endpoint=owner.endpoint.name,
        instance_id=owner.connection_id,
        card_json=msgspec.Raw(card.to_json_str().encode()),
        model_suffix=owner.lora_slug,
    )
