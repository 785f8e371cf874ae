"""A frontend process: the OpenAI service over the models of a registry, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Collection, Mapping

from prometheus_client import CollectorRegistry

from muster.config.settings import Settings
from muster.content.location import cache_root
from muster.content.store import BlobStore
from muster.errors import MusterError, StoreError
from muster.frontend.build_notes import OnModelProgress
from muster.frontend.dashboard.sources import LiveSources
from muster.frontend.fleet import Fleet
from muster.frontend.model_table import ModelTable
from muster.frontend.processes.siblings import Siblings
from muster.frontend.server import Frontend
from muster.model.fetch.card_fetcher import CardFetcher
from muster.model.publish.hub_cache import hub_cache_root
from muster.runtime import DistributedRuntime
from muster.runtime.shutdown import Phase

__all__ = ["serve_frontend"]

logger = logging.getLogger(__name__)

_CATCH_UP_S = 30.0
_LOOK_S = 0.05


async def serve_frontend(
    settings: Settings,
    environ: Mapping[str, str],
    on_ready: Callable[[Frontend], None],
    on_progress: OnModelProgress | None = None,
    *,
    siblings: Siblings | None = None,
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
        siblings: The other processes, if this is one of several. One that takes the place of
            another listens when it serves what the others do, or after some time.

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
                standing=fleet.standing,
            ),
            siblings=siblings,
        )

        async def drain() -> None:
            """Answer what is in flight while workers are still in reach."""
            await frontend.drain()
            await frontend.close()

        runtime.on_withdraw(drain)
        try:
            # The first card may come as soon as it listens. What fails here is that card's to tell.
            with contextlib.suppress(MusterError):
                await runtime.open_calls()
            await fetcher.warm_up()
            if siblings is None or siblings.is_first:
                await frontend.start()
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(fleet.run())]
                if siblings is not None:
                    link = siblings.run(
                        shut_down=runtime.shutdown,
                        orphaned=functools.partial(_orphaned, runtime, frontend),
                    )
                    tasks.append(group.create_task(link))
                    if not siblings.is_first:
                        await _catch_up(runtime, fleet.table, siblings.expected)
                        siblings.settle()
                        if runtime.phase is Phase.RUNNING:
                            await frontend.start()
                on_ready(frontend)
                await runtime.wait_closed()
                for task in tasks:
                    task.cancel()
        finally:
            # Also what began to listen while the runtime was already closing.
            await frontend.close()


async def _catch_up(
    runtime: DistributedRuntime, table: ModelTable, expected: Collection[str]
) -> None:
    """Wait until all of ``expected`` are served, the runtime closes, or half a minute is over."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CATCH_UP_S):
            while runtime.phase is Phase.RUNNING:
                if {name for name, _ in table.names()}.issuperset(expected):
                    return
                await asyncio.sleep(_LOOK_S)


def _orphaned(runtime: DistributedRuntime, frontend: Frontend) -> None:
    """End as on SIGTERM; whoever starts the supervisor again finds the port free."""
    logger.error("the supervisor is gone")
    frontend.stop_listening()
    runtime.shutdown()
