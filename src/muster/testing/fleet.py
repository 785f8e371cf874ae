"""A frontend's fleet and the workers it serves, in one process on one registry in memory."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from muster.config.settings import (
    CacheSettings,
    FetchSettings,
    GuardSettings,
    HttpSettings,
    Settings,
)
from muster.content.store import BlobStore
from muster.discovery.base import Discovery
from muster.discovery.memory import MemoryDiscovery, MemoryRegistry
from muster.discovery.records import MODELS, ModelRecord
from muster.frontend.dashboard.sources import LiveSources
from muster.frontend.fleet import Fleet
from muster.frontend.long_work import LongWork
from muster.frontend.model_table import ModelStatus
from muster.frontend.server import Frontend
from muster.llm.protocol import Engine
from muster.model.card import ModelDeploymentCard
from muster.model.fetch.card_fetcher import CardFetcher
from muster.model.model_type import ModelInput, ModelType, WorkerType
from muster.model.publish.register import register_model
from muster.runtime import DistributedRuntime
from muster.testing.metadata_server import MetadataServer
from muster.testing.runtimes import loopback_settings, runtime_in
from muster.worker.engines.echo import EchoEngine

__all__ = [
    "SURFACES",
    "FleetSite",
    "frontend",
    "hosted_at",
    "publish",
    "request_count",
    "serve",
    "worker",
]

SURFACES = ModelType.Chat | ModelType.Completions


@contextlib.asynccontextmanager
async def worker(registry: MemoryRegistry) -> AsyncIterator[DistributedRuntime]:
    """A worker's runtime with a status server."""
    async with runtime_in(registry, loopback_settings(system_port=0)) as runtime:
        yield runtime


async def serve(
    runtime: DistributedRuntime,
    path: Path,
    name: str = "tiny",
    endpoint: str = "ns.backend.generate",
    model_input: ModelInput = ModelInput.Tokens,
    engine: Engine | None = None,
    **more: Any,
) -> None:
    """Serve the model at ``path``: an echo, unless another engine is given."""
    at = runtime.endpoint(endpoint)
    await runtime.serve(at.id(), (engine or EchoEngine()).generate)
    await register_model(
        model_input, SURFACES, at, path, name, worker_type=WorkerType.Aggregated, **more
    )


class FleetSite:
    """A frontend on a registry."""

    def __init__(self, fleet: Fleet, frontend: Frontend, cache: Path) -> None:
        self.fleet = fleet
        self.cache = cache
        self.server = frontend
        self.url = f"http://127.0.0.1:{frontend.port}"

    @property
    def models(self) -> list[str]:
        """The names of the models served."""
        return [model.name for model in self.fleet.table.models()]

    @property
    def unserved(self) -> list[ModelStatus]:
        """What is registered and not served."""
        return list(self.fleet.table.unserved())

    async def until(self, check: Callable[[], bool], timeout_s: float = 10.0) -> None:
        """Wait until ``check`` holds."""
        async with asyncio.timeout(timeout_s):
            while not check():  # noqa: ASYNC110 - a table tells nobody when it changes
                await asyncio.sleep(0.01)

    async def listed(self, *names: str) -> None:
        """Wait until exactly these models are served."""
        await self.until(lambda: sorted(self.models) == sorted(names))

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        """Status and JSON of a POST."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.url + path, json=body) as reply,
        ):
            return reply.status, await reply.json()

    async def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON of a GET."""
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as reply:
            return reply.status, await reply.json()

    async def echo(self, text: str, model: str = "tiny") -> str:
        """The completion of ``text``."""
        status, reply = await self.post("/v1/completions", {"model": model, "prompt": text})
        assert status == 200, reply
        answer: str = reply["choices"][0]["text"]
        return answer


@contextlib.asynccontextmanager
async def frontend(
    registry: MemoryRegistry,
    tmp_path: Path,
    *,
    discovery: Discovery | None = None,
    make_fetcher: Callable[[BlobStore, FetchSettings], CardFetcher] = CardFetcher,
    guard: GuardSettings | None = None,
    work: LongWork | None = None,
    **http: Any,
) -> AsyncIterator[FleetSite]:
    """A frontend with its cache in ``tmp_path / "cache"``, which retries without long pauses.

    Args:
        registry: The registry it watches.
        tmp_path: Where its cache is.
        discovery: Its way to the registry, if not a plain one.
        make_fetcher: Makes its fetcher.
        guard: What protects it.
        work: The threads of its long requests, which it closes.
        http: Settings of its HTTP side.
    """
    settings: Settings = dataclasses.replace(
        loopback_settings(),
        http=HttpSettings(host="127.0.0.1", port=0, drain_timeout_s=1.0, **http),
        guard=guard if guard is not None else GuardSettings(),
        cache=CacheSettings(directory=tmp_path / "cache"),
        fetch=FetchSettings(
            retry_max_s=0.1, connect_timeout_s=2.0, card_timeout_s=10.0, allow=("127.0.0.1",)
        ),
    )
    store = BlobStore(tmp_path / "cache")
    store.prepare()
    async with (
        DistributedRuntime(
            settings=settings,
            discovery=discovery or MemoryDiscovery(registry),
            handle_signals=False,
        ) as runtime,
        make_fetcher(store, settings.fetch) as fetcher,
        asyncio.TaskGroup() as group,
    ):
        fleet = Fleet(runtime, fetcher)
        sources = LiveSources(
            cards=fleet.cards,
            events=fleet.journal.events,
            store=store,
            standing=fleet.standing,
        )
        server = Frontend(
            settings.http,
            fleet.table,
            guard=settings.guard,
            admission=fleet.admission,
            sources=sources,
            work=work,
        )
        await server.start()
        watching = group.create_task(fleet.run())
        try:
            yield FleetSite(fleet, server, tmp_path / "cache")
        finally:
            watching.cancel()
            await server.close()


def hosted_at(server: MetadataServer, model: Path, name: str = "tiny") -> ModelDeploymentCard:
    """A card of ``model`` whose files are at ``server``."""
    card = ModelDeploymentCard.load(model, name)
    card = msgspec.structs.replace(
        card,
        model_type=SURFACES,
        model_input=ModelInput.Tokens,
        worker_type=WorkerType.Aggregated,
        source_path=str(model),
    )
    return card.replace_files(lambda file: file.with_url(server.url("/" + (file.basename() or ""))))


async def publish(runtime: DistributedRuntime, card: ModelDeploymentCard, number: int = 1) -> None:
    """Register ``card`` at ``ns.backend.generate`` as instance ``number``'s."""
    record = ModelRecord(
        namespace="ns",
        component="backend",
        endpoint="generate",
        instance_id=number,
        card_json=msgspec.Raw(card.to_json_str().encode()),
    )
    await runtime.discovery.register(MODELS, record.key, record.to_json())


def request_count(runtime: DistributedRuntime) -> float:
    """How many requests the runtime's endpoints have accepted."""
    name = "dynamo_component_requests_total"
    return sum(
        sample.value
        for family in runtime.metrics.collect()
        for sample in family.samples
        if sample.name == name
    )
