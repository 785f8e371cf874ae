"""A frontend process: the OpenAI service over the models of a registry, until it is told to stop."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry

from muster.config.settings import Settings
from muster.content.location import cache_root
from muster.content.store import BlobStore
from muster.errors import StoreError
from muster.frontend.build_notes import OnModelProgress
from muster.frontend.dashboard.sources import LiveSources
from muster.frontend.fleet import Fleet
from muster.frontend.server import Frontend
from muster.model.fetch.card_fetcher import CardFetcher
from muster.model.publish.hub_cache import hub_cache_root
from muster.runtime import DistributedRuntime

__all__ = ["serve_frontend"]

logger = logging.getLogger(__name__)


async def serve_frontend(
    settings: Settings,
    environ: Mapping[str, str],
    on_ready: Callable[[Frontend], None],
    on_progress: OnModelProgress | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is being answered and end.

    Neither a cache nor a registry that cannot be used is a reason not to start: files are then kept
    in memory, and ``/health`` is 503 with the reason until the registry answers. Many frontends that
    start before their registry are not to be restarted in a loop.

    There is no status server: a port for one that the environment of a whole machine names is its
    worker's, as with Dynamo's frontend. ``/health`` and ``/metrics`` are on the service's own port.

    Args:
        settings: All settings.
        environ: Where the cache's place is looked up if no setting says it.
        on_ready: Called once it listens.
        on_progress: Told each step of each file that is fetched.

    Raises:
        MusterError: What kept it from serving.
    """
    if settings.system.port is not None:
        logger.info("a frontend has no status server; the port is left to a worker")
        system = dataclasses.replace(settings.system, port=None)
        settings = dataclasses.replace(settings, system=system)
    store = BlobStore(
        cache_root(settings.cache, environ),
        min_free_bytes=settings.cache.min_free_bytes,
        max_bytes=settings.cache.max_bytes,
    )
    try:
        await asyncio.to_thread(store.prepare)
    except StoreError as error:
        logger.warning(
            "the cache cannot be used; files are kept in memory: %s", error.diagnostics()
        )
    hub = hub_cache_root(settings.metadata.hub_cache, settings.metadata.hf_home)
    async with (
        DistributedRuntime(settings=settings) as runtime,
        CardFetcher(
            store,
            settings.fetch,
            model_path=settings.http.model_path,
            token=settings.metadata.token,
            hub_roots=() if hub is None else (hub,),
        ) as fetcher,
    ):
        fleet = Fleet(runtime, fetcher, on_progress=on_progress, store=store)
        metrics = CollectorRegistry()
        metrics.register(fleet.journal)
        metrics.register(fleet.registry)
        metrics.register(fleet.migrations)
        metrics.register(fleet.admission.rooms)
        # Whoever reads JSON lines finds those of one request, in all processes, by its trace.
        frontend = Frontend(
            settings.http,
            fleet.table,
            registry=metrics,
            begin_traces=settings.log.as_jsonl,
            guard=settings.guard,
            admission=fleet.admission,
            sources=LiveSources(
                cards=fleet.cards,
                events=fleet.journal.events,
                store=store,
                max_bytes=settings.cache.max_bytes,
            ),
        )
        await frontend.start()

        async def drain() -> None:
            """Answer what is in flight while workers are still in reach."""
            await frontend.drain()
            await frontend.close()

        runtime.on_withdraw(drain)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(fleet.run())
            on_ready(frontend)
            await runtime.wait_closed()
            watching.cancel()
