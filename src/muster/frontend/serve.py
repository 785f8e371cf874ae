"""A frontend process: the OpenAI service over the models of a registry, until it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from muster.config.settings import Settings
from muster.content.location import cache_root
from muster.content.store import BlobStore
from muster.frontend.fleet import Fleet
from muster.frontend.server import Frontend
from muster.model.fetch.card_fetcher import CardFetcher
from muster.runtime import DistributedRuntime

__all__ = ["serve_frontend"]


async def serve_frontend(
    settings: Settings, environ: Mapping[str, str], on_ready: Callable[[Frontend], None]
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is being answered and end.

    Args:
        settings: All settings.
        environ: Where the cache's place is looked up if no setting says it.
        on_ready: Called once it listens.

    Raises:
        MusterError: What kept it from serving.
    """
    store = BlobStore(cache_root(settings.cache, environ))
    await asyncio.to_thread(store.prepare)
    async with (
        DistributedRuntime(settings=settings) as runtime,
        CardFetcher(store, settings.fetch, model_path=settings.http.model_path) as fetcher,
    ):
        fleet = Fleet(runtime, fetcher)
        frontend = Frontend(settings.http, fleet.table)
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
