"""A worker that publishes models, on loopback, on a registry that can be made to fail."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from muster.config.settings import MetadataSettings
from muster.digest import Digest
from muster.discovery.memory import MemoryDiscovery, MemoryRegistry
from muster.discovery.records import MODELS
from muster.model.card import ModelDeploymentCard
from muster.model.model_type import ModelInput, ModelType, WorkerType
from muster.model.publish.publication import Publication
from muster.model.publish.register import register_model
from muster.runtime import DistributedRuntime, Endpoint
from muster.runtime.metadata.registry import MetadataKey
from muster.testing.fragile import FragileDiscovery
from muster.testing.runtimes import loopback_settings

__all__ = ["PublishingWorker", "locations", "publishing_worker"]

_SURFACES = ModelType.Chat | ModelType.Completions


def locations(card: ModelDeploymentCard) -> list[str]:
    """Where the card's files are, typed slots first."""
    return [file.location for file, _ in card.iter_metadata_files()]


class PublishingWorker:
    """A runtime with a status server; its endpoint is ``ns.comp.ep``."""

    def __init__(self, runtime: DistributedRuntime, discovery: FragileDiscovery) -> None:
        self.runtime = runtime
        self.discovery = discovery
        self.endpoint = runtime.endpoint("ns.comp.ep")

    async def register(
        self,
        path: Path | str,
        name: str | None = "acme/tiny",
        endpoint: Endpoint | None = None,
        *,
        model_type: ModelType = _SURFACES,
        **more: Any,
    ) -> Publication:
        """Register the model in ``path``; ``more`` is for ``register_model``."""
        return await register_model(
            ModelInput.Tokens,
            model_type,
            endpoint or self.endpoint,
            path,
            name,
            **({"worker_type": WorkerType.Aggregated} | more),
        )

    async def cards(self) -> dict[str, ModelDeploymentCard]:
        """The cards in the registry by key."""
        found = await self.discovery.list(MODELS)
        return {
            key: ModelDeploymentCard.from_json_str(json.dumps(json.loads(value)["card_json"]))
            for key, value in found.items()
        }

    async def staged(self, name: str = "config.json") -> None:
        """Wait until a registration of ``acme/tiny`` has claimed the place of this file."""
        key = MetadataKey("ns", "comp", "ep", "acme_tiny", "_base", name)
        while not self.runtime.metadata.is_staged(key):  # noqa: ASYNC110 - a registry tells nobody
            await asyncio.sleep(0.01)

    async def get(self, url: str) -> tuple[int, bytes]:
        """Status and body."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(URL(url, encoded=True)) as reply,
        ):
            return reply.status, await reply.read()

    async def all_served(self, card: ModelDeploymentCard) -> bool:
        """Whether every file of ``card`` is served with the bytes it promises."""
        for file, _ in card.iter_metadata_files():
            if file.url is None:
                return False
            status, body = await self.get(file.url)
            if status != 200 or Digest.of(body) != file.checksum or len(body) != file.size:
                return False
        return True


@contextlib.asynccontextmanager
async def publishing_worker(
    *,
    port: int | None = 0,
    host: str = "127.0.0.1",
    advertise_host: str | None = None,
    metadata: MetadataSettings | None = None,
) -> AsyncIterator[PublishingWorker]:
    """A worker with these settings, shut down at the end."""
    settings = loopback_settings(system_port=port)
    settings = dataclasses.replace(
        settings,
        metadata=metadata or MetadataSettings(),
        system=dataclasses.replace(settings.system, host=host, advertise_host=advertise_host),
    )
    discovery = FragileDiscovery(MemoryDiscovery(MemoryRegistry()))
    runtime = DistributedRuntime(settings=settings, discovery=discovery, handle_signals=False)
    async with runtime:
        yield PublishingWorker(runtime, discovery)
